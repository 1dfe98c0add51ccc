//! Tries at deliveries, for the tests of the outlets.

use crate::domain::{
    Attempt, Decision, Delivery, DestinationName, EnrichmentPart, Fingerprint, Headers, Incarnation, NewEvent,
    OrderKey, Origin, Partition, Parts, RouteName, Routed, RoutedRow, SourceName, Target, TenantName, Timestamp,
};
use bytes::Bytes;
use std::sync::Arc;

/// A push of Laigu's, received 11 ms after it says it was made.
pub(crate) fn event(body: &str) -> NewEvent {
    NewEvent {
        source: SourceName::parse("laigu").unwrap(),
        tenant: TenantName::parse("acme").unwrap(),
        kind: "cus.upsert".into(),
        key: Some("trk_1".into()),
        vendor_id: Some("sub_1".into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::from_millis(1_726_824_222_989)),
        received_at: Timestamp::from_millis(1_726_824_223_000),
        headers: Headers::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        payload: None,
        order: Some(OrderKey(7)),
        id_hash: 1,
        body_hash: 2,
        fingerprint: Fingerprint::default(),
        superseded: false,
    }
}

/// The first try at delivering `event` by the route `leads`; its ticket and its row are `number`.
pub(crate) fn attempt(event: NewEvent, number: u64, enrichment: Vec<EnrichmentPart>) -> Attempt {
    let event = event.at(Partition(0), number, Incarnation(0xdead_beef), false);
    let target = Target {
        route: RouteName::parse("leads").unwrap(),
        destination: DestinationName::parse("out").unwrap(),
        address: None,
        parts: Parts::of(&enrichment, |_| true),
    };
    let decision = Decision { targets: vec![target], ..Decision::default() };
    let row = RoutedRow { event: event.position(), job: 0, generation: 1, decision, enrichment };
    let routed = Routed { offset: number, row, event: Arc::new(event) };
    Attempt { ticket: number, delivery: Delivery::first(Arc::new(routed), 0), number: 1, at: Timestamp::EPOCH }
}
