//! Rows for tests.

use crate::{
    domain::{
        Decision, DestinationName, Event, Fingerprint, Headers, NewEvent, OrderKey, Origin, RouteName, RoutedRow,
        SourceName, Target, TenantName, Timestamp,
    },
    journal::NewRouted,
};
use std::sync::Arc;

/// The hash key of the stores in tests.
pub const KEYS: crate::domain::HashKeys = crate::domain::HashKeys { first: 11, second: 12 };

/// An event with an id and a body of so many bytes.
pub fn event(id: &str, body_bytes: usize) -> NewEvent {
    let body = format!("{{\"id\":\"{id}\",\"pad\":\"{}\"}}", "x".repeat(body_bytes.saturating_sub(16)));
    NewEvent {
        source: SourceName::parse("laigu").unwrap(),
        tenant: TenantName::parse("acme").unwrap(),
        kind: "cus.upsert".into(),
        key: Some("track-1".into()),
        vendor_id: Some(id.into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::from_millis(1_726_824_222_000)),
        received_at: Timestamp::from_millis(1_726_824_222_989),
        headers: Headers("content-type: application/json\n".into()),
        payload: Some(0..2),
        order: Some(OrderKey(3)),
        id_hash: KEYS.id("laigu", "acme", id),
        body_hash: KEYS.body(body.as_bytes()),
        fingerprint: Fingerprint::default(),
        superseded: false,
        body: body.into(),
    }
}

/// A decision that sends an event to some destinations.
pub fn routed(event: &Arc<Event>, destinations: &[&str]) -> NewRouted {
    let target = |name: &&str| Target {
        route: RouteName::parse("everything").unwrap(),
        destination: DestinationName::parse(name).unwrap(),
        address: Some(format!("customer.{name}").into()),
        parts: Default::default(),
    };
    let decision = Decision { targets: destinations.iter().map(target).collect(), ..Decision::default() };
    let row = RoutedRow { event: event.position(), job: 0, generation: 1, decision, enrichment: Vec::new() };
    NewRouted { row, event: Arc::clone(event) }
}
