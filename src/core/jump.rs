//! Whether the wall clock is to be believed when it says that things are old.
//!
//! A clock that is set wrong for a minute must not cost what was to be kept for a month. A clock that is ahead of the time
//! that has passed since it was last believed is believed once it has said so for a while. One that goes back is believed
//! at once: nothing grows old by that.

use crate::domain::Timestamp;
use std::time::Duration;

/// How far the clock may be ahead without being asked again: more than any step of a time service.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);
/// How long it must have said so: a run of retention's distance from the next, nearly.
const SAID_FOR: Duration = Duration::from_secs(25);

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock's time.
    pub now: Timestamp,
    /// What has passed since some beginning, by a clock that nobody sets.
    pub passed: Duration,
}

impl Moment {
    /// How far its wall clock is ahead of what an earlier moment lets expect.
    fn ahead_of(self, earlier: Self) -> Duration {
        self.now.since(earlier.now.plus(self.passed.saturating_sub(earlier.passed)))
    }
}

/// Tells a jump of the wall clock from time that passed.
#[derive(Debug, Clone, Default)]
pub struct Jumps {
    believed: Option<Moment>,
    /// When the clock first said what is not believed yet.
    doubted: Option<Moment>,
}

impl Jumps {
    /// Whether the clock is believed at a moment; each is later than the one before. The first one is.
    pub fn is_believed(&mut self, moment: Moment) -> bool {
        let is_ahead = self.believed.is_some_and(|believed| moment.ahead_of(believed) > AHEAD_MAX);
        if is_ahead && !self.has_said_so(moment) {
            return false;
        }
        *self = Self { believed: Some(moment), doubted: None };
        true
    }

    /// Whether the clock has been about as far ahead for long enough.
    fn has_said_so(&mut self, moment: Moment) -> bool {
        let goes_on = |doubted: &Moment| moment.now >= doubted.now && moment.ahead_of(*doubted) <= AHEAD_MAX;
        let doubted = self.doubted.filter(goes_on).unwrap_or(moment);
        self.doubted = Some(doubted);
        moment.passed.saturating_sub(doubted.passed) >= SAID_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::{Jumps, Moment};
    use crate::domain::Timestamp;
    use std::time::Duration;

    const HOUR: u64 = 3_600;
    const DAY: u64 = 86_400;

    /// What the wall clock says at which second, and whether it is believed.
    fn check(said: &[(u64, u64, bool)]) {
        let mut jumps = Jumps::default();
        for (passed, wall, believed) in said {
            let now = Timestamp::EPOCH.plus(Duration::from_secs(*wall));
            let moment = Moment { now, passed: Duration::from_secs(*passed) };
            assert_eq!(jumps.is_believed(moment), *believed, "at {passed} of {said:?}");
        }
    }

    #[test]
    fn time_that_passes_is_no_jump() {
        check(&[(0, DAY, true), (30, DAY + 30, true), (30 + DAY, 2 * DAY + 30, true)]);
        check(&[(0, DAY, true), (30, DAY + HOUR, true), (60, DAY + 2 * HOUR, true)]);
    }

    #[test]
    fn a_jump_ahead_is_believed_when_it_is_said_again_half_a_minute_later() {
        let there = 32 * DAY;
        check(&[(0, DAY, true), (30, there, false), (60, there + 30, true), (90, there + 60, true)]);
        // Runs that follow at once, after a sealing, are not half a minute.
        check(&[(0, DAY, true), (30, there, false), (31, there + 1, false), (60, there + 30, true)]);
        // It jumps on.
        check(&[(0, DAY, true), (30, there, false), (60, 2 * there, false), (90, 2 * there + 30, true)]);
    }

    #[test]
    fn a_clock_that_is_set_right_again_is_believed_at_once() {
        check(&[(0, DAY, true), (30, 32 * DAY, false), (60, DAY + 60, true), (90, DAY + 90, true)]);
        check(&[(0, 32 * DAY, true), (30, DAY, true), (60, DAY + 30, true)]);
        // What was doubted before the clock was right does not count.
        check(&[(0, DAY, true), (30, 32 * DAY, false), (60, DAY + 60, true), (90, 32 * DAY, false)]);
    }
}
