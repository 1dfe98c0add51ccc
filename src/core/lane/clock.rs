//! What hangs on the clock: the lane's rate; and a clock that is set back, after which whatever was to come is as far
//! away as before. Without that a lane would wait for the old time to come again, its window full and nothing settled.

use crate::{
    config::settings::Rate,
    core::lane::{Carried, LaneConfig, keys::Stage, step::Lane},
    domain::Timestamp,
};
use std::time::Duration;

impl<T: Carried> Lane<T> {
    /// Notes the time of a step.
    pub(super) fn set_clock(&mut self, now: Timestamp) {
        if now < self.clock {
            self.set_back(self.clock.since(now));
        }
        self.clock = now;
    }

    fn set_back(&mut self, by: Duration) {
        let back = |at: Timestamp| at.minus(by);
        self.settled_at = back(self.settled_at);
        self.settle_again_at = self.settle_again_at.map(back);
        self.read_again_at = self.read_again_at.map(back);
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        self.rate_at_micros = self.rate_at_micros.saturating_sub(micros);
        if let Some(common) = &mut self.common {
            (common.since, common.probe_at) = (back(common.since), back(common.probe_at));
        }
        self.timers = self.timers.iter().map(|(at, timer)| (back(*at), *timer)).collect();
        for (_, order) in &self.waiting {
            if let Some(queue) = self.keys.get_mut(order)
                && let Stage::Waiting(at) = queue.stage
            {
                queue.stage = Stage::Waiting(back(at));
            }
        }
    }

    /// Takes new settings.
    pub(super) fn configure(&mut self, now: Timestamp, config: LaneConfig) {
        if config.rate != self.config.rate {
            // What the old rate put off for hours is not waited for.
            self.rate_at_micros = self.rate_at_micros.min(now.as_millis().saturating_mul(1_000));
        }
        self.config = config;
    }

    /// Whether the rate lets a delivery go now; if so it is counted.
    pub(super) fn rate_allows(&mut self, now: Timestamp) -> bool {
        let Some(Rate { count, per }) = self.config.rate else { return true };
        let now_micros = now.as_millis().saturating_mul(1_000);
        if self.rate_at_micros > now_micros {
            return false;
        }
        if !self.ready.is_empty() {
            let gap = i64::try_from(per.as_micros()).unwrap_or(i64::MAX) / i64::from(count.max(1));
            // At most 100 ms worth may be caught up, so that a pause is not followed by a flood.
            self.rate_at_micros = self.rate_at_micros.max(now_micros - 100_000) + gap;
        }
        true
    }
}
