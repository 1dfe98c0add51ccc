//! Settings and events for this module's tests.

use crate::{
    config::{
        diagnostic::{Diagnostic, SourceText},
        settings::{
            Destination, DestinationKind, Exchange, FileFolder, Kafka, Limits, Located, OnDead, RabbitMq, Retry, Route,
            RouteTarget, Server, Settings, Storage, Unrouted,
        },
    },
    domain::{DestinationName, EnrichmentPart, EnrichmentStatus, Event, Record, RouteName, Timestamp},
    journal::Retention,
    routing::{samples, table::Table},
};
use bytes::Bytes;
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

pub fn located(text: &str) -> Located {
    Located { text: text.to_owned(), byte_offset: 0, byte_len: text.len() }
}

/// Conditions and templates of fixtures stand nowhere: their place is the text itself, at the top of the file.
pub fn compile(settings: &Settings) -> Result<(Table, Vec<Diagnostic>), Vec<Diagnostic>> {
    Table::compile(settings, &SourceText::new(Path::new("routes.yaml"), ""))
}

/// A route to the file `archive`.
pub fn route(name: &str, when: &str) -> Route {
    Route {
        name: RouteName::parse(name).unwrap(),
        when: (!when.is_empty()).then(|| located(when)),
        enrich: Vec::new(),
        required: false,
        enrich_within: Duration::from_secs(15),
        on_dead: OnDead::Continue,
        stop: false,
        when_enriched: None,
        to: vec![to("archive", None)],
    }
}

pub fn to(destination: &str, address: Option<&str>) -> RouteTarget {
    RouteTarget { destination: DestinationName::parse(destination).unwrap(), address: address.map(located) }
}

/// `crm` is RabbitMQ, `lake` Kafka, `archive` a folder.
pub fn settings(routes: Vec<Route>) -> Settings {
    let exchange = Exchange { name: "crm.events".into(), kind: "topic".into(), durable: true, declare: true };
    let rabbit = RabbitMq { urls: Vec::new(), exchange, mandatory: true, ca_file: None, client_cert: None };
    let topic = "crm.events".to_owned();
    let kafka = Kafka { brokers: Vec::new(), topic, security: None, properties: BTreeMap::new() };
    let kinds = [
        ("crm", DestinationKind::RabbitMq(rabbit)),
        ("lake", DestinationKind::Kafka(kafka)),
        ("archive", DestinationKind::File(FileFolder { path: "out".into() })),
    ];
    let destinations = kinds
        .map(|(name, kind)| (DestinationName::parse(name).unwrap(), Destination { kind, window: 1024, rate: None }));
    let week = Duration::from_secs(7 * 86_400);
    let retention = Retention { delivered: week, dead_letters: week, ids: week, size_max: 1 << 30 };
    Settings {
        server: Server {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin: "127.0.0.1:0".parse().unwrap(),
            admin_tokens: Vec::new(),
            trusted_proxies: Vec::new(),
            shutdown_delay: Duration::ZERO,
            tls: None,
            limits: Limits::default(),
        },
        storage: Storage { path: "data".into(), retention, backlog_alarm_percent: 50 },
        sources: BTreeMap::new(),
        destinations: destinations.into(),
        routes,
        unrouted: Unrouted::Keep,
        retry: Retry::default(),
    }
}

/// An event `cus.upsert` with that payload.
pub fn event(payload: &str) -> Event {
    samples::event("cus.upsert", Some("t1"), &format!(r#"{{"event":"cus.upsert","body":{payload}}}"#), payload)
}

pub fn part(what: &str, status: EnrichmentStatus, record: Option<&str>) -> EnrichmentPart {
    EnrichmentPart {
        what: what.into(),
        status,
        reason: (status == EnrichmentStatus::Failed).then(|| "timed out".into()),
        fetched_at: Some(Timestamp::from_millis(1_726_824_226_000)),
        record: record.map(|text| Arc::new(Record { bytes: Bytes::copy_from_slice(text.as_bytes()), hash: 1 })),
    }
}
