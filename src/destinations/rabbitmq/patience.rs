//! How long the broker is waited for: as long as confirms come in.
//!
//! What a batch takes as a whole is not bounded: over a narrow line it is minutes, and nothing is wrong. Silence is
//! what counts. All channels share one line, and what other channels put on it may be before our own, so a channel
//! that hears nothing waits on while others hear something; but not for ever, as one queue may be dead while the
//! others are well.

use super::{Timing, session::Phase};
use std::{
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// When something was heard last.
#[derive(Debug)]
pub(super) struct Heard {
    began: Instant,
    /// Milliseconds since it began.
    last: AtomicU64,
}

impl Heard {
    /// Begins now, as if something had just been heard.
    pub(super) fn now() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Something was heard.
    pub(super) fn hear(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(millis, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// How waiting for the broker ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waited<T> {
    Done(T),
    /// Nothing was heard for this long.
    Late(Duration),
    /// The session is over.
    Ended,
}

/// What is waited for is heard of on a line that it shares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience<'a> {
    pub(super) timing: Timing,
    /// The whole connection.
    pub(super) line: &'a Heard,
    /// The channel alone.
    pub(super) channel: &'a Heard,
}

impl Patience<'_> {
    /// When it ends, and which limit it is, if nothing is heard from now on; what was before `since` does not count.
    fn end(&self, since: Instant) -> (Instant, Duration) {
        let limit = |heard: &Heard, limit: Duration| (heard.last().max(since) + limit, limit);
        limit(self.line, self.timing.silence).min(limit(self.channel, self.timing.channel))
    }
}

/// Waits for the broker while there is patience; while it blocks us the clock stands still.
pub(super) async fn wait<T>(
    work: impl Future<Output = T>,
    mut phase: watch::Receiver<Phase>,
    patience: Patience<'_>,
) -> Waited<T> {
    let mut work = pin!(work);
    let mut since = Instant::now();
    loop {
        let now = *phase.borrow_and_update();
        if now == Phase::Ended {
            return Waited::Ended;
        }
        tokio::select! {
            biased;
            done = &mut work => return Waited::Done(done),
            changed = phase.changed() => match changed {
                Ok(()) => since = Instant::now(),
                Err(_) => return Waited::Ended,
            },
            () = time::sleep_until(patience.end(since).0), if now == Phase::Open => {
                // Meanwhile something may have been heard.
                let (end, limit) = patience.end(since);
                if end <= Instant::now() {
                    return Waited::Late(limit);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Heard, Patience, Timing};
    use std::{sync::atomic::AtomicU64, time::Duration};
    use tokio::time::Instant;

    const TIMING: Timing = Timing { silence: Duration::from_secs(30), channel: Duration::from_secs(180) };

    /// When waiting ends, in seconds, if the line was heard last at `line`, the channel at `channel`, and what was before
    /// `since` does not count.
    fn check(line: u64, channel: u64, since: u64, expected: (u64, Duration)) {
        let began = Instant::now();
        let heard = |seconds: u64| Heard { began, last: AtomicU64::new(seconds * 1_000) };
        let (on_line, on_channel) = (heard(line), heard(channel));
        let patience = Patience { timing: TIMING, line: &on_line, channel: &on_channel };
        let (end, limit) = patience.end(began + Duration::from_secs(since));
        assert_eq!(((end - began).as_secs(), limit), expected, "{line} {channel} {since}");
    }

    #[test]
    fn it_ends_with_silence_on_the_line_or_a_longer_one_on_the_channel() {
        check(0, 0, 0, (30, TIMING.silence));
        check(20, 20, 0, (50, TIMING.silence));
        check(1_000, 1_000, 0, (1_030, TIMING.silence));
        check(100, 0, 0, (130, TIMING.silence));
        check(170, 0, 0, (180, TIMING.channel));
        check(170, 100, 0, (200, TIMING.silence));
        // An idle line says nothing about what is out since a moment ago, or since the broker blocked us.
        check(0, 0, 3_600, (3_630, TIMING.silence));
    }

    #[test]
    fn what_was_heard_counts_from_then_on() {
        let began = Instant::now() - Duration::from_millis(5);
        let heard = Heard { began, last: AtomicU64::new(0) };
        heard.hear();
        assert!(heard.last() >= began + Duration::from_millis(5));
    }
}
