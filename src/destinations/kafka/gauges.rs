//! What librdkafka says about itself every few seconds, as numbers for the metrics.

use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// The last statistics of one destination's producer; all zero while there is none.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Records inside librdkafka, queued or on the wire.
    pub queued_records: AtomicU64,
    /// Their bytes.
    pub queued_bytes: AtomicU64,
    /// Brokers that we hold a connection to.
    pub brokers_up: AtomicU64,
    /// How long the slowest of them takes to answer a request on average, in microseconds.
    pub round_trip_micros: AtomicU64,
    /// Producers opened so far: 1 is a destination that never failed.
    pub producers_total: AtomicU64,
}

#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    msg_cnt: u64,
    #[serde(default)]
    msg_size: u64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    #[serde(default)]
    state: String,
    #[serde(default)]
    rtt: RoundTrip,
}

#[derive(Deserialize, Default)]
struct RoundTrip {
    #[serde(default)]
    avg: u64,
}

impl Gauges {
    /// Takes librdkafka's statistics, JSON as in its `STATISTICS.md`; what cannot be read is left as it was.
    pub fn take(&self, json: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(json) else { return };
        let up = || statistics.brokers.values().filter(|broker| broker.state == "UP");
        self.queued_records.store(statistics.msg_cnt, Ordering::Relaxed);
        self.queued_bytes.store(statistics.msg_size, Ordering::Relaxed);
        self.brokers_up.store(up().count() as u64, Ordering::Relaxed);
        self.round_trip_micros.store(up().map(|broker| broker.rtt.avg).max().unwrap_or(0), Ordering::Relaxed);
    }

    /// Forgets a producer that is gone.
    pub fn clear(&self) {
        for gauge in [&self.queued_records, &self.queued_bytes, &self.brokers_up, &self.round_trip_micros] {
            gauge.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gauges;
    use std::sync::atomic::Ordering;

    #[test]
    fn statistics_become_gauges() {
        let gauges = Gauges::default();
        gauges.take(
            br#"{"name":"x","msg_cnt":7,"msg_size":700,"brokers":{
                "a":{"state":"UP","rtt":{"avg":900}},"b":{"state":"DOWN","rtt":{"avg":5000}},"c":{"state":"UP"}}}"#,
        );
        let read = || {
            [&gauges.queued_records, &gauges.queued_bytes, &gauges.brokers_up, &gauges.round_trip_micros]
                .map(|gauge| gauge.load(Ordering::Relaxed))
        };
        assert_eq!(read(), [7, 700, 2, 900]);
        gauges.take(b"not json");
        assert_eq!(read(), [7, 700, 2, 900]);
        gauges.clear();
        assert_eq!(read(), [0, 0, 0, 0]);
    }
}
