//! Upkeep: one thread that seals closed segments and removes what retention lets go.
//!
//! A run of retention ends early, between two of its steps, when a segment waits to be sealed or the process stops; the
//! next run does the rest.

use crate::{
    core::jump::Moment,
    domain::Timestamp,
    journal::{
        Heads, WriteError,
        sqlite::{retainer::Retainer, sealing::Sealer, steps::Turn},
    },
    lanes::writer::Writer,
};
use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracing::warn;

/// How often retention looks for something to remove.
const RETENTION_EVERY: Duration = Duration::from_secs(30);

/// The longest pause between two steps, however slow the disk was in the one before.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Nothing pins a segment but what the retainer looks up itself.
const NO_PINS: Heads = Heads { events: u64::MAX, routed: u64::MAX };

#[derive(Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    Nothing,
    Sealing,
    Stop,
}

/// Wakes the upkeep thread. Clones wake the same one.
#[derive(Debug, Clone, Default)]
pub struct Upkeep(Arc<(Mutex<Wanted>, Condvar)>);

impl Upkeep {
    /// A segment was closed: it is to be sealed.
    pub fn rolled(&self) {
        self.want(Wanted::Sealing);
    }

    /// Lets the thread end after the step it is at.
    pub fn stop(&self) {
        self.want(Wanted::Stop);
    }

    fn want(&self, what: Wanted) {
        let mut wanted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *wanted != Wanted::Stop {
            *wanted = what;
        }
        self.0.1.notify_one();
    }

    /// Starts the thread. It ends with an error when the store cannot go on: then the process must stop.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        &self,
        mut sealer: Sealer,
        mut retainer: Retainer,
        writer: Writer,
    ) -> std::io::Result<JoinHandle<Result<(), WriteError>>> {
        let upkeep = self.clone();
        thread::Builder::new().name("upkeep".into()).spawn(move || {
            let started = Instant::now();
            let moment = || Moment { now: Timestamp::now(), passed: started.elapsed() };
            loop {
                seal(&mut sealer, &writer)?;
                match retainer.run(moment(), NO_PINS, &mut |pause| upkeep.between(pause)) {
                    Ok(_) => {}
                    Err(WriteError::Full(why)) => {
                        warn!(%why, "retention ended early: what is left stays until its next run")
                    }
                    Err(error) => return Err(error),
                }
                if upkeep.wait() == Wanted::Stop {
                    return Ok(());
                }
            }
        })
    }

    /// Leaves the lock on the state to others for a while; a run ends early when there is something else to do.
    fn between(&self, pause: Duration) -> Turn {
        let wanted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |wanted: &mut Wanted| *wanted == Wanted::Nothing;
        let waited = self.0.1.wait_timeout_while(wanted, pause.min(PAUSE_MAX), idle);
        let (wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *wanted == Wanted::Nothing { Turn::On } else { Turn::Over }
    }

    fn wait(&self) -> Wanted {
        let wanted = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = |wanted: &mut Wanted| *wanted == Wanted::Nothing;
        let waited = self.0.1.wait_timeout_while(wanted, RETENTION_EVERY, idle);
        let (mut wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *wanted)
    }
}

fn seal(sealer: &mut Sealer, writer: &Writer) -> Result<(), WriteError> {
    while sealer.pending().is_some() {
        match sealer.seal_next() {
            Ok(Some(first)) => writer.sealed(first),
            Ok(None) => return Ok(()),
            Err(WriteError::Full(why)) => {
                warn!(%why, "no room to seal a segment: its ids stay in memory");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Upkeep;
    use crate::journal::sqlite::steps::Turn;
    use std::time::Duration;

    #[test]
    fn a_run_of_retention_ends_early_for_a_sealing_and_for_a_stop() {
        let turn = |upkeep: &Upkeep| upkeep.between(Duration::ZERO);
        let upkeep = Upkeep::default();
        assert_eq!(turn(&upkeep), Turn::On);
        upkeep.rolled();
        assert_eq!(turn(&upkeep), Turn::Over);
        upkeep.wait();
        assert_eq!(turn(&upkeep), Turn::On, "the sealing is done before the next run");
        upkeep.stop();
        upkeep.rolled();
        // A pause does not outlast the stop.
        assert_eq!(upkeep.between(Duration::from_secs(3_600)), Turn::Over);
    }
}
