//! How far a lane is behind, in rows and in time.

use crate::domain::{Offset, Timestamp};
use std::{collections::VecDeque, time::Duration};

/// Samples kept at most: beyond, every second one goes, and the answer grows a little coarser.
const SAMPLES: usize = 1_024;

/// The times of some rows that a lane has read and not settled.
#[derive(Debug, Default)]
pub struct Lag {
    samples: VecDeque<(Offset, Timestamp)>,
}

impl Lag {
    /// Notes when the event of a row was accepted: of the first delivery of each page, wherever it was read.
    pub fn sample(&mut self, offset: Offset, received_at: Timestamp) {
        if self.samples.len() >= SAMPLES {
            let mut keep = false;
            self.samples.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.samples.push_back((offset, received_at));
    }

    /// The rows before a lane, and the age of the oldest of them.
    pub fn of(&mut self, watermark: Offset, head: Offset, now: Timestamp) -> (u64, Duration) {
        let rows = head.saturating_sub(watermark);
        if rows == 0 {
            self.samples.clear();
            return (0, Duration::ZERO);
        }
        while self.samples.get(1).is_some_and(|(offset, _)| *offset <= watermark) {
            self.samples.pop_front();
        }
        (rows, self.samples.front().map_or(Duration::ZERO, |(_, received_at)| now.since(*received_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::Lag;
    use crate::domain::Timestamp;
    use std::time::Duration;

    #[test]
    fn the_oldest_unsettled_page_says_how_late_a_lane_is() {
        let mut lag = Lag::default();
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        lag.sample(1, at(0));
        lag.sample(100, at(50));
        assert_eq!(lag.of(1, 200, at(60)), (199, Duration::from_secs(60)));
        assert_eq!(lag.of(150, 200, at(60)), (50, Duration::from_secs(10)));
        assert_eq!(lag.of(200, 200, at(60)), (0, Duration::ZERO));
    }
}
