//! Every metric there is, by name; nothing else registers any.
//!
//! Labels come from closed sets and from names in `routes.yaml`, never from a push.

use crate::domain::{DeadCause, DestinationName, RouteName, SourceName, TenantName};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::sync::atomic::AtomicU64;

/// Seconds that a sync or a publish may take, in steps.
const SECONDS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Seconds from a change at the vendor's to its record being found, in steps.
const DETECTION_SECONDS: [f64; 9] = [5.0, 30.0, 120.0, 300.0, 600.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0];

/// A metric about a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfDestination {
    /// The destination.
    pub destination: String,
}

/// A metric about a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfRoute {
    /// The route.
    pub route: String,
}

/// Why pushes were turned away.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfReason {
    /// The reason.
    pub reason: &'static str,
}

/// Dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfDeath {
    /// The destination; empty for a condition or template.
    pub destination: String,
    /// The cause.
    pub cause: &'static str,
}

/// Why a destination stands still.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfState {
    /// The destination.
    pub destination: String,
    /// `up`, `paused`, `down`, `blocked`, `misconfigured` or `orphaned`.
    pub state: &'static str,
}

/// A metric about one list of a vendor's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfList {
    /// The source.
    pub source: String,
    /// Its tenant.
    pub tenant: String,
    /// `clients`, `conversations`, `sessions`, `agent_online` or `agent_service`.
    pub class: &'static str,
}

/// Failures of a vendor's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfErrno {
    /// The source.
    pub source: String,
    /// Its tenant.
    pub tenant: String,
    /// The vendor's number, or a word for what has none.
    pub errno: &'static str,
}

/// How lookups for events ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfEnrichment {
    /// `client`, `conversation`, `agent` or `session`.
    pub what: &'static str,
    /// `ok`, `failed`, `not_applicable` or `missing`.
    pub status: &'static str,
}

/// A metric about a kind of record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfRecord {
    /// `client`, `conversation`, `agent` or `session`.
    pub what: &'static str,
}

/// A metric about a tenant's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfTenant {
    /// The source.
    pub source: String,
    /// The tenant.
    pub tenant: String,
}

/// Calls of a tenant's API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfCalls {
    /// The source.
    pub source: String,
    /// The tenant.
    pub tenant: String,
    /// `ok`, `not_found`, or why it brought nothing.
    pub outcome: &'static str,
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// New events stored.
    pub accepted: Counter,
    /// Re-sends answered without storing.
    pub duplicates: Counter,
    /// New events whose id had come with another body.
    pub id_conflicts: Counter,
    /// Requests turned away.
    pub rejected: Family<OfReason, Counter>,
    /// Deliveries decided, by route.
    pub routed: Family<OfRoute, Counter>,
    /// Events that no route took.
    pub unrouted: Counter,
    /// Late pushes whose reconciled copy had gone out.
    pub superseded: Counter,
    /// Conditions that did not match because a field was missing, by route.
    pub missing_fields: Family<OfRoute, Counter>,
    /// Deliveries made.
    pub delivered: Family<OfDestination, Counter>,
    /// Tries that were made again.
    pub retried: Family<OfDestination, Counter>,
    /// Keys that wait on the shelf.
    pub parked_keys: Family<OfDestination, Gauge>,
    /// Dead letters made.
    pub dead_letters: Family<OfDeath, Counter>,
    /// Deliveries made by replays.
    pub replayed: Family<OfDestination, Counter>,
    /// Replays that have their turn.
    pub replays_running: Gauge,
    /// Rows of ROUTED that a destination has before it.
    pub lag_events: Family<OfDestination, Gauge>,
    /// The age of the oldest of them.
    pub lag_seconds: Family<OfDestination, Gauge<f64, AtomicU64>>,
    /// Connections to RabbitMQ, or Kafka producers, opened.
    pub client_sessions: Family<OfDestination, Counter>,
    /// Records inside librdkafka, queued or on the wire.
    pub kafka_queued_records: Family<OfDestination, Gauge>,
    /// Their bytes.
    pub kafka_queued_bytes: Family<OfDestination, Gauge>,
    /// Kafka brokers that we hold a connection to.
    pub kafka_brokers_up: Family<OfDestination, Gauge>,
    /// How long the slowest of them takes to answer, on average.
    pub kafka_round_trip_seconds: Family<OfDestination, Gauge<f64, AtomicU64>>,
    /// 1 for the state that a destination is in.
    pub destination_state: Family<OfState, Gauge>,
    /// Events that are not decided yet.
    pub undecided: Gauge,
    /// Records that the vendor showed and no push had brought.
    pub reconcile_found: Family<OfList, Counter>,
    /// How long after its change such a record was found.
    pub reconcile_detection_seconds: Family<OfList, Histogram>,
    /// When a list was last read to its end, in seconds since the epoch.
    pub reconcile_last_success_seconds: Family<OfList, Gauge>,
    /// Calls that brought no page.
    pub reconcile_errors: Family<OfErrno, Counter>,
    /// A group commit of the log.
    pub sync_seconds: Histogram,
    /// A try, from hand-over to answer.
    pub publish_seconds: Family<OfDestination, Histogram>,
    /// Lookups that ended.
    pub enrichment: Family<OfEnrichment, Counter>,
    /// Lookups that were answered by what was known.
    pub enrichment_cache_hits: Family<OfRecord, Counter>,
    /// A lookup, from the event's wish to its end.
    pub enrichment_seconds: Family<OfRecord, Histogram>,
    /// Events that wait for a record.
    pub enrichment_waiting: Family<OfTenant, Gauge>,
    /// Keys on the router's shelf.
    pub enrichment_parked_keys: Gauge,
    /// Calls of tenants' APIs.
    pub api_calls: Family<OfCalls, Counter>,
    /// A call, from request to answer.
    pub api_seconds: Family<OfTenant, Histogram>,
    /// The share of a tenant's configured rate in use; 0 while its credentials are refused.
    pub api_rate_share: Family<OfTenant, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("laigu_router"),
            accepted: Counter::default(),
            duplicates: Counter::default(),
            id_conflicts: Counter::default(),
            rejected: Family::default(),
            routed: Family::default(),
            unrouted: Counter::default(),
            superseded: Counter::default(),
            missing_fields: Family::default(),
            delivered: Family::default(),
            retried: Family::default(),
            parked_keys: Family::default(),
            dead_letters: Family::default(),
            replayed: Family::default(),
            replays_running: Gauge::default(),
            lag_events: Family::default(),
            lag_seconds: Family::default(),
            client_sessions: Family::default(),
            kafka_queued_records: Family::default(),
            kafka_queued_bytes: Family::default(),
            kafka_brokers_up: Family::default(),
            kafka_round_trip_seconds: Family::default(),
            destination_state: Family::default(),
            undecided: Gauge::default(),
            reconcile_found: Family::default(),
            reconcile_detection_seconds: Family::new_with_constructor(|| Histogram::new(DETECTION_SECONDS)),
            reconcile_last_success_seconds: Family::default(),
            reconcile_errors: Family::default(),
            sync_seconds: histogram(),
            publish_seconds: Family::new_with_constructor(histogram),
            enrichment: Family::default(),
            enrichment_cache_hits: Family::default(),
            enrichment_seconds: Family::new_with_constructor(histogram),
            enrichment_waiting: Family::default(),
            enrichment_parked_keys: Gauge::default(),
            api_calls: Family::default(),
            api_seconds: Family::new_with_constructor(histogram),
            api_rate_share: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("accepted", "New events stored", self.accepted.clone());
        registry.register("duplicates", "Re-sends answered without storing", self.duplicates.clone());
        let help = "New events whose id had come with another body";
        registry.register("id_conflicts", help, self.id_conflicts.clone());
        registry.register("rejected", "Requests turned away, by reason", self.rejected.clone());
        registry.register("routed", "Deliveries decided, by route", self.routed.clone());
        registry.register("unrouted", "Events that no route took", self.unrouted.clone());
        let help = "Late pushes whose reconciled copy had gone out before";
        registry.register("superseded", help, self.superseded.clone());
        let help = "Conditions that did not match because a field was missing";
        registry.register("missing_fields", help, self.missing_fields.clone());
        registry.register("delivered", "Deliveries made", self.delivered.clone());
        registry.register("retried", "Tries that were made again", self.retried.clone());
        registry.register("parked_keys", "Keys that wait on the shelf", self.parked_keys.clone());
        registry.register("dead_letters", "Dead letters made", self.dead_letters.clone());
        registry.register("replayed", "Deliveries made by replays", self.replayed.clone());
        registry.register("replays_running", "Replays that have their turn", self.replays_running.clone());
        registry.register("lag_events", "Decided rows a destination has before it", self.lag_events.clone());
        registry.register("lag_seconds", "The age of the oldest of them", self.lag_seconds.clone());
        let help = "Connections to RabbitMQ, or Kafka producers, opened";
        registry.register("client_sessions", help, self.client_sessions.clone());
        let help = "Records inside librdkafka, queued or on the wire";
        registry.register("kafka_queued_records", help, self.kafka_queued_records.clone());
        registry.register("kafka_queued_bytes", "Their bytes", self.kafka_queued_bytes.clone());
        registry.register("kafka_brokers_up", "Brokers that we hold a connection to", self.kafka_brokers_up.clone());
        let help = "How long the slowest Kafka broker takes to answer, on average";
        registry.register("kafka_round_trip_seconds", help, self.kafka_round_trip_seconds.clone());
        let help = "1 for the state a destination is in";
        registry.register("destination_state", help, self.destination_state.clone());
        registry.register("undecided_events", "Events that are not decided yet", self.undecided.clone());
        let help = "Records that the vendor showed and no push had brought";
        registry.register("reconcile_found", help, self.reconcile_found.clone());
        let help = "How long after its change such a record was found";
        registry.register("reconcile_detection_seconds", help, self.reconcile_detection_seconds.clone());
        let help = "When a list was last read to its end, since the epoch";
        registry.register("reconcile_last_success_seconds", help, self.reconcile_last_success_seconds.clone());
        let help = "Calls that brought no page, by the vendor's number";
        registry.register("reconcile_errors", help, self.reconcile_errors.clone());
        registry.register("sync_seconds", "A group commit of the log", self.sync_seconds.clone());
        registry.register("publish_seconds", "A try, from hand-over to answer", self.publish_seconds.clone());
        registry.register("enrichment", "Lookups for events, by how they ended", self.enrichment.clone());
        let help = "Lookups answered by what was known";
        registry.register("enrichment_cache_hits", help, self.enrichment_cache_hits.clone());
        let help = "A lookup, from the event's wish to its end";
        registry.register("enrichment_seconds", help, self.enrichment_seconds.clone());
        registry.register("enrichment_waiting", "Events that wait for a record", self.enrichment_waiting.clone());
        let help = "Keys that wait on the shelf for a required record";
        registry.register("enrichment_parked_keys", help, self.enrichment_parked_keys.clone());
        registry.register("api_calls", "Calls of a tenant's API", self.api_calls.clone());
        registry.register("api_seconds", "A call, from request to answer", self.api_seconds.clone());
        let help = "The share of a tenant's rate in use; 0 while its credentials are refused";
        registry.register("api_rate_share", help, self.api_rate_share.clone());
    }

    /// All of them as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string does not fail");
        text
    }

    /// The label set of a destination.
    #[must_use]
    pub fn of(destination: &DestinationName) -> OfDestination {
        OfDestination { destination: destination.to_string() }
    }

    /// The label set of a route.
    #[must_use]
    pub fn of_route(route: &RouteName) -> OfRoute {
        OfRoute { route: route.to_string() }
    }

    /// The label set of a list.
    #[must_use]
    pub fn of_list(source: &SourceName, tenant: &TenantName, class: &'static str) -> OfList {
        OfList { source: source.to_string(), tenant: tenant.to_string(), class }
    }

    /// The label set of a dead letter; without a destination for what died on decision.
    #[must_use]
    pub fn of_death(destination: Option<&DestinationName>, cause: DeadCause) -> OfDeath {
        OfDeath { destination: destination.map(ToString::to_string).unwrap_or_default(), cause: cause.as_str() }
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::domain::{DeadCause, DestinationName};

    #[test]
    fn names_and_labels_are_those_of_the_contract() {
        let metrics = Metrics::default();
        metrics.accepted.inc();
        let crm = DestinationName::parse("crm").expect("a name");
        metrics.dead_letters.get_or_create(&Metrics::of_death(Some(&crm), DeadCause::TooLarge)).inc();
        let text = metrics.render();
        for line in [
            "laigu_router_accepted_total 1",
            "laigu_router_duplicates_total 0",
            "laigu_router_dead_letters_total{destination=\"crm\",cause=\"too_large\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
        }
    }
}
