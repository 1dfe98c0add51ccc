//! How fast one tenant's API may be asked: a token bucket whose rate gives way when the vendor says "too often".
//!
//! The vendors publish no quota. So the configured rate is the ceiling; each "too many calls" halves what is really
//! used, each answered call wins a little back (additive increase, multiplicative decrease).

use crate::{config::settings::Rate, domain::Timestamp};
use std::time::Duration;

/// The whole of the configured rate, in the unit in which the share in use is kept.
const FULL: u64 = 1024;

/// The least share: a rate that was halved six times still asks now and then, or it would never recover.
const LEAST: u64 = FULL / 64;

/// Halving does not stretch the time between two calls beyond this, in microseconds: ten minutes.
const INTERVAL_MAX: u64 = 600 * 1_000_000;

/// What one answered call wins back: from the least to the whole takes about 32 calls.
const STEP: u64 = FULL / 32;

/// After a refusal nothing is asked for this long, or for one interval at the new rate if that is longer; refusals of
/// calls that were under way meanwhile count as the same one.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Now; the token is taken.
    Ready,
    /// Not before this time; nothing was taken.
    WaitUntil(Timestamp),
}

/// The bucket of one tenant and one purpose.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Between two calls at the full rate, in microseconds.
    interval: u64,
    /// How far calls may run ahead of the rate, in full intervals: about a second's worth.
    burst: u64,
    /// The share of the full rate in use, of [`FULL`].
    share: u64,
    /// The least of `share`.
    least: u64,
    /// When the bucket would be full again, in microseconds since the epoch.
    full_at: i64,
    /// Until when nothing is asked.
    paused_until: Timestamp,
}

impl Bucket {
    /// A full bucket at the whole of `rate`.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let per = u64::try_from(rate.per.as_micros()).unwrap_or(u64::MAX);
        let interval = (per / u64::from(rate.count.max(1))).max(1);
        Self {
            interval,
            burst: (1_000_000 / interval).max(1),
            share: FULL,
            least: (FULL.saturating_mul(interval) / INTERVAL_MAX).clamp(LEAST, FULL),
            full_at: i64::MIN,
            paused_until: Timestamp::from_millis(i64::MIN),
        }
    }

    /// Takes one token if there is one.
    pub fn take(&mut self, now: Timestamp) -> Take {
        if now < self.paused_until {
            return Take::WaitUntil(self.paused_until);
        }
        let micros = now.as_millis().saturating_mul(1000);
        let interval = self.interval();
        // One token is always within the burst, so a bucket that is full gives one.
        let ahead_max = interval.saturating_mul(signed(self.burst).saturating_sub(1));
        let full_at = self.full_at.max(micros);
        let ready_at = full_at.saturating_sub(ahead_max);
        if ready_at > micros {
            return Take::WaitUntil(Timestamp::from_millis(ready_at.saturating_add(999).div_euclid(1000)));
        }
        self.full_at = full_at.saturating_add(interval);
        Take::Ready
    }

    /// The vendor said "too many calls": halves the rate, empties the bucket, pauses.
    pub fn limited(&mut self, now: Timestamp) {
        if now < self.paused_until {
            return;
        }
        self.share = (self.share / 2).max(self.least);
        let interval = self.interval();
        self.paused_until = now.plus(PAUSE.max(Duration::from_micros(interval.unsigned_abs())));
        let resumes = self.paused_until.as_millis().saturating_mul(1000);
        self.full_at = resumes.saturating_add(interval.saturating_mul(signed(self.burst).saturating_sub(1)));
    }

    /// The vendor named a time before which it will not answer.
    pub fn pause_until(&mut self, until: Timestamp) {
        self.paused_until = self.paused_until.max(until);
    }

    /// A call was answered: wins a little of the rate back.
    pub fn ok(&mut self, now: Timestamp) {
        // Answers to calls made before a refusal say nothing about the rate after it.
        if now >= self.paused_until {
            self.share = (self.share + STEP).min(FULL);
        }
    }

    /// Between two calls at the rate in use, in microseconds.
    fn interval(&self) -> i64 {
        signed(self.interval.saturating_mul(FULL) / self.share)
    }

    /// The share of the configured rate in use, above 0 and at most 1: for a gauge.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "both are at most 1024")]
    pub fn share(&self) -> f64 {
        self.share as f64 / FULL as f64
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Bucket, Take};
    use crate::{config::settings::Rate, domain::Timestamp};
    use std::time::Duration;

    fn bucket(count: u32, per: u64) -> Bucket {
        Bucket::new(Rate { count, per: Duration::from_secs(per) })
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// How many calls go out in `millis`, one millisecond after the other.
    fn calls(bucket: &mut Bucket, from: i64, millis: i64) -> usize {
        (from..from + millis).filter(|now| bucket.take(at(*now)) == Take::Ready).count()
    }

    #[test]
    fn a_second_of_burst_then_the_rate() {
        let mut bucket = bucket(2, 1);
        assert_eq!(bucket.take(at(0)), Take::Ready);
        assert_eq!(bucket.take(at(0)), Take::Ready);
        assert_eq!(bucket.take(at(0)), Take::WaitUntil(at(500)));
        assert_eq!(bucket.take(at(499)), Take::WaitUntil(at(500)));
        assert_eq!(bucket.take(at(500)), Take::Ready);
        assert_eq!(calls(&mut bucket, 501, 60_000), 120);
    }

    #[test]
    fn a_slow_rate_has_no_burst() {
        let mut bucket = bucket(100, 3600);
        assert_eq!(bucket.take(at(0)), Take::Ready);
        assert_eq!(bucket.take(at(0)), Take::WaitUntil(at(36_000)));
        assert_eq!(bucket.take(at(36_000)), Take::Ready);
    }

    #[test]
    fn idle_time_is_not_saved_beyond_the_burst() {
        let mut bucket = bucket(2, 1);
        assert_eq!(calls(&mut bucket, 3_600_000, 1), 1);
        assert_eq!(bucket.take(at(3_600_001)), Take::Ready);
        assert_eq!(bucket.take(at(3_600_001)), Take::WaitUntil(at(3_600_500)));
    }

    #[test]
    fn a_refusal_halves_the_rate_once_however_many_calls_were_under_way() {
        let mut bucket = bucket(8, 1);
        for _ in 0..5 {
            bucket.limited(at(1000));
        }
        assert!((bucket.share() - 0.5).abs() < 1e-9);
        assert_eq!(bucket.take(at(1000)), Take::WaitUntil(at(2000)));
        assert_eq!(calls(&mut bucket, 2000, 10_000), 40);
    }

    #[test]
    fn answers_win_the_rate_back_and_never_more_than_the_ceiling() {
        let mut bucket = bucket(8, 1);
        for refusal in 0..10 {
            bucket.limited(at(refusal * 10_000));
        }
        bucket.limited(at(100_000));
        assert!((bucket.share() - 1.0 / 64.0).abs() < 1e-9);
        bucket.ok(at(107_999));
        assert!((bucket.share() - 1.0 / 64.0).abs() < 1e-9, "an answer during the pause says nothing");
        for _ in 0..100 {
            bucket.ok(at(108_000));
        }
        assert!((bucket.share() - 1.0).abs() < 1e-9);
        assert_eq!(calls(&mut bucket, 200_000, 10_000), 8 + 79);
    }

    #[test]
    fn a_vendor_can_name_the_end_of_the_pause() {
        let mut bucket = bucket(8, 1);
        bucket.pause_until(at(30_000));
        assert_eq!(bucket.take(at(1)), Take::WaitUntil(at(30_000)));
        assert_eq!(bucket.take(at(30_000)), Take::Ready);
    }

    #[test]
    fn an_hour_of_refusals_costs_few_calls() {
        // The vendor refuses every call: the bucket must not hammer it.
        let mut bucket = bucket(2, 1);
        let mut asked = 0;
        for now in (0..3_600_000).step_by(10) {
            if bucket.take(at(now)) == Take::Ready {
                asked += 1;
                bucket.limited(at(now));
            }
        }
        assert!((100..=3600 * 2 / 64 + 10).contains(&asked), "{asked}");
    }
}
