//! What a failure means: one pure function for every lane.

use crate::{
    config::settings::Retry,
    domain::{DeadCause, Failure, FailureKind, StopReason, Timestamp},
};
use std::time::Duration;

/// What the lane knows of a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// When its event was accepted.
    pub received_at: Timestamp,
    /// Tries so far, this one included; at least 1.
    pub attempts: u32,
    /// When it was first returned as unroutable, if it was.
    pub returned_at: Option<Timestamp>,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The key waits; the same delivery is tried again after a pause.
    Again(Duration),
    /// It becomes a dead letter.
    Dead(DeadCause),
    /// Nothing is wrong with the delivery: the lane stands still and keeps it.
    Stop(StopReason),
}

/// Judges a failure. `jitter` is a number in `0..=u32::MAX` that spreads the pauses.
#[must_use]
pub fn judge(failure: &Failure, history: History, retry: &Retry, now: Timestamp, jitter: u32) -> Verdict {
    match failure.kind {
        FailureKind::Lane(reason) => return Verdict::Stop(reason),
        FailureKind::Rejected(cause) => return Verdict::Dead(cause),
        FailureKind::Returned => {
            let first = history.returned_at.unwrap_or(now);
            if now.since(first) >= retry.unroutable {
                return Verdict::Dead(DeadCause::Unroutable);
            }
        }
        FailureKind::Nacked | FailureKind::Unknown => {}
    }
    if now.since(history.received_at) >= retry.max_age {
        return Verdict::Dead(DeadCause::Expired);
    }
    Verdict::Again(pause(history.attempts, retry, jitter))
}

/// The pause before the next try: doubles from `backoff_min` to `backoff_max`, of which between half and all is taken.
#[must_use]
pub fn pause(attempts: u32, retry: &Retry, jitter: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(31);
    let full = retry.backoff_min.saturating_mul(1 << doublings).min(retry.backoff_max);
    let half = full / 2;
    half + half.mul_f64(f64::from(jitter) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::{History, Verdict, judge, pause};
    use crate::{
        config::settings::Retry,
        domain::{DeadCause, Failure, FailureKind, StopReason, Timestamp},
    };
    use std::time::Duration;

    fn check(kind: FailureKind, returned_ago: Option<u64>, age: u64, expected: Verdict) {
        let now = Timestamp::from_millis(1_000_000_000_000);
        let ago = |seconds: u64| Timestamp::from_millis(now.as_millis() - i64::try_from(seconds * 1_000).unwrap_or(0));
        let history = History { received_at: ago(age), attempts: 1, returned_at: returned_ago.map(ago) };
        let failure = Failure { kind, detail: "".into() };
        assert_eq!(judge(&failure, history, &Retry::default(), now, u32::MAX), expected, "{kind:?} {returned_ago:?}");
    }

    #[test]
    fn each_failure_has_its_consequence() {
        let again = Verdict::Again(Duration::from_secs(1));
        check(FailureKind::Nacked, None, 0, again);
        check(FailureKind::Unknown, None, 3_600, again);
        check(FailureKind::Nacked, None, 7 * 86_400, Verdict::Dead(DeadCause::Expired));
        check(FailureKind::Returned, None, 0, again);
        check(FailureKind::Returned, Some(599), 599, again);
        check(FailureKind::Returned, Some(600), 600, Verdict::Dead(DeadCause::Unroutable));
        check(FailureKind::Rejected(DeadCause::TooLarge), None, 0, Verdict::Dead(DeadCause::TooLarge));
        check(FailureKind::Lane(StopReason::Blocked), None, 9 * 86_400, Verdict::Stop(StopReason::Blocked));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let retry = Retry::default();
        let seconds = |attempts| pause(attempts, &retry, u32::MAX).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 200].map(seconds), [1, 2, 4, 32, 60, 60]);
        assert_eq!(pause(3, &retry, 0), Duration::from_secs(2));
    }
}
