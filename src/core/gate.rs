//! The gate before one tenant's API: everybody who asks it takes their turn here, so that together they keep its rate.
//!
//! Lookups for events that wait now share it with what reads in the background (reconciling, back-fill). The background
//! has a budget of its own within the rate, half of it, so that it never takes the other half from the events. "Too many
//! calls" slows both down, because the vendor counts them together. Refused credentials close the gate: nothing is asked
//! until they change, but for a probe now and then.

use crate::{
    config::settings::Rate,
    core::rate::{Bucket, Take},
    domain::Timestamp,
};
use std::time::Duration;

/// While the gate is closed one call goes through this often: the vendor may have been the one that was wrong.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A lookup that an event waits for.
    Event,
    /// Reconciling, back-fill, polls.
    Background,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now; it counts as made.
    Now,
    /// Not before this time.
    At(Timestamp),
    /// The vendor refused the credentials; it is tried again at this time.
    Closed(Timestamp),
}

/// The gate of one tenant.
#[derive(Debug, Clone)]
pub struct Gate {
    rate: Rate,
    all: Bucket,
    background: Bucket,
    /// When a closed gate lets a probe through.
    probe_at: Option<Timestamp>,
}

impl Gate {
    /// An open gate at the whole of a rate.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let half = Rate { per: rate.per * 2, ..rate };
        Self { rate, all: Bucket::new(rate), background: Bucket::new(half), probe_at: None }
    }

    /// Asks for a turn; [`Turn::Now`] takes it.
    pub fn turn(&mut self, now: Timestamp, purpose: Purpose) -> Turn {
        if let Some(probe_at) = self.probe_at {
            if now < probe_at {
                return Turn::Closed(probe_at);
            }
            self.probe_at = Some(now.plus(PROBE_EVERY));
            return Turn::Now;
        }
        let mut background = self.background.clone();
        if purpose == Purpose::Background
            && let Take::WaitUntil(at) = background.take(now)
        {
            return Turn::At(at);
        }
        match self.all.take(now) {
            Take::WaitUntil(at) => Turn::At(at),
            Take::Ready => {
                self.background = background;
                Turn::Now
            }
        }
    }

    /// A call was answered: its credentials are good, its rate is borne.
    pub fn answered(&mut self, now: Timestamp) {
        self.probe_at = None;
        self.all.ok(now);
        self.background.ok(now);
    }

    /// The vendor said "too many calls", and perhaps when it wants to be asked again.
    pub fn limited(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        self.all.limited(now);
        self.background.limited(now);
        if let Some(after) = retry_after {
            self.all.pause_until(now.plus(after));
        }
    }

    /// The vendor refused the credentials.
    pub fn refused(&mut self, now: Timestamp) {
        self.probe_at = Some(now.plus(PROBE_EVERY));
    }

    /// Whether the credentials count as refused.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.probe_at.is_some()
    }

    /// Takes the settings of a reload. Another rate begins anew; other credentials open a closed gate.
    pub fn configure(&mut self, rate: Rate, other_credentials: bool) {
        if rate != self.rate {
            *self = Self { probe_at: self.probe_at, ..Self::new(rate) };
        }
        if other_credentials {
            self.probe_at = None;
        }
    }

    /// The share of the configured rate in use, above 0 and at most 1; 0 when closed.
    #[must_use]
    pub fn share(&self) -> f64 {
        if self.is_closed() { 0.0 } else { self.all.share() }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gate, PROBE_EVERY, Purpose, Turn};
    use crate::{config::settings::Rate, domain::Timestamp};
    use std::time::Duration;

    fn gate() -> Gate {
        Gate::new(Rate { count: 8, per: Duration::from_secs(1) })
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Calls of each purpose in ten seconds, both asking whenever they can.
    fn calls(gate: &mut Gate, purposes: &[Purpose]) -> [usize; 2] {
        let mut made = [0, 0];
        for now in 0..10_000 {
            for purpose in purposes {
                if gate.turn(at(now), *purpose) == Turn::Now {
                    made[usize::from(*purpose == Purpose::Background)] += 1;
                }
            }
        }
        made
    }

    #[test]
    fn the_background_never_takes_more_than_half_and_both_together_keep_the_rate() {
        let alone = calls(&mut gate(), &[Purpose::Background]);
        assert!((40..=44).contains(&alone[1]), "{alone:?}");
        let [events, background] = calls(&mut gate(), &[Purpose::Background, Purpose::Event]);
        assert!(events >= 40 && background <= 44 && events + background <= 88, "{events} {background}");
        assert_eq!(calls(&mut gate(), &[Purpose::Event])[0], 87);
    }

    #[test]
    fn too_many_calls_slow_both_down() {
        let mut gate = gate();
        gate.limited(at(0), Some(Duration::from_secs(3)));
        assert_eq!(gate.turn(at(10), Purpose::Event), Turn::At(at(3_000)));
        assert!(matches!(gate.turn(at(10), Purpose::Background), Turn::At(_)));
        assert!((gate.share() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn refused_credentials_close_it_but_for_a_probe_a_minute_until_they_change() {
        let mut gate = gate();
        gate.refused(at(0));
        let probe = at(0).plus(PROBE_EVERY);
        assert_eq!(gate.turn(at(1), Purpose::Event), Turn::Closed(probe));
        assert_eq!(gate.turn(probe, Purpose::Background), Turn::Now);
        assert!(matches!(gate.turn(probe, Purpose::Event), Turn::Closed(_)));
        gate.configure(Rate { count: 8, per: Duration::from_secs(1) }, false);
        assert!(gate.is_closed());
        gate.configure(Rate { count: 9, per: Duration::from_secs(1) }, true);
        assert_eq!(gate.turn(probe, Purpose::Event), Turn::Now);
    }

    #[test]
    fn a_probe_that_is_answered_opens_it() {
        let mut gate = gate();
        gate.refused(at(0));
        gate.answered(at(61_000));
        assert!(!gate.is_closed());
    }
}
