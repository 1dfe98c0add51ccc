//! Upkeep: one thread that seals closed segments and removes what retention lets go.

use crate::{
    domain::Timestamp,
    journal::{
        Heads, WriteError,
        sqlite::{retainer::Retainer, sealing::Sealer},
    },
    lanes::writer::Writer,
};
use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};
use tracing::warn;

/// How often retention looks for something to remove.
const RETENTION_EVERY: Duration = Duration::from_secs(30);

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
            loop {
                seal(&mut sealer, &writer)?;
                match retainer.run(Timestamp::now(), NO_PINS) {
                    Ok(_) => {}
                    Err(WriteError::Full(why)) => {
                        warn!(%why, "no room to keep dead letters of old segments: they stay")
                    }
                    Err(error) => return Err(error),
                }
                if upkeep.wait() == Wanted::Stop {
                    return Ok(());
                }
            }
        })
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
