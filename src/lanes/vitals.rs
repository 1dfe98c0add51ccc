//! What a destination's client says of itself, as metrics.

use crate::{destinations::Vitals, domain::DestinationName, metrics::Metrics};
use std::sync::atomic::{AtomicU64, Ordering};

/// What of an outlet's vitals is in the metrics already.
#[derive(Debug, Default)]
pub(super) struct Exported {
    sessions: u64,
}

impl Exported {
    /// Takes over what is new. A new outlet begins a new one of these.
    pub(super) fn export(&mut self, destination: &DestinationName, vitals: &Vitals, metrics: &Metrics) {
        let label = Metrics::of(destination);
        let sessions = vitals.sessions.load(Ordering::Relaxed);
        metrics.client_sessions.get_or_create(&label).inc_by(sessions.saturating_sub(self.sessions));
        self.sessions = sessions;
        let Some(kafka) = &vitals.kafka else { return };
        let read = |gauge: &AtomicU64| i64::try_from(gauge.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        metrics.kafka_queued_records.get_or_create(&label).set(read(&kafka.queued_records));
        metrics.kafka_queued_bytes.get_or_create(&label).set(read(&kafka.queued_bytes));
        metrics.kafka_brokers_up.get_or_create(&label).set(read(&kafka.brokers_up));
        let micros = kafka.round_trip_micros.load(Ordering::Relaxed);
        metrics.kafka_round_trip_seconds.get_or_create(&label).set(micros as f64 / 1e6);
    }
}

#[cfg(test)]
mod tests {
    use super::Exported;
    use crate::{
        destinations::{Vitals, kafka::gauges::Gauges},
        domain::DestinationName,
        metrics::Metrics,
    };
    use std::sync::{Arc, atomic::Ordering};

    #[test]
    fn sessions_are_counted_over_outlets_and_statistics_shown_as_they_are() {
        let (lake, metrics) = (DestinationName::parse("lake").unwrap(), Metrics::default());
        let gauges = Arc::new(Gauges::default());
        let vitals = Vitals { kafka: Some(Arc::clone(&gauges)), ..Vitals::default() };
        let mut exported = Exported::default();
        vitals.sessions.store(2, Ordering::Relaxed);
        gauges.take(br#"{"msg_cnt":7,"msg_size":700,"brokers":{"a":{"state":"UP","rtt":{"avg":900}}}}"#);
        exported.export(&lake, &vitals, &metrics);
        exported.export(&lake, &vitals, &metrics);
        let another = Vitals::default();
        another.sessions.store(1, Ordering::Relaxed);
        Exported::default().export(&lake, &another, &metrics);
        let text = metrics.render();
        for line in [
            "laigu_router_client_sessions_total{destination=\"lake\"} 3",
            "laigu_router_kafka_queued_records{destination=\"lake\"} 7",
            "laigu_router_kafka_queued_bytes{destination=\"lake\"} 700",
            "laigu_router_kafka_brokers_up{destination=\"lake\"} 1",
            "laigu_router_kafka_round_trip_seconds{destination=\"lake\"} 0.0009",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
        }
    }
}
