//! `routes.yaml` after checking: every value is right because it exists.
//!
//! Nothing here is read from the file directly (the other files of `config` do that). Expressions and
//! templates are texts with their place in the file; `routing` compiles them.

mod destinations;
mod server;
mod sources;

pub use destinations::{Destination, DestinationKind, Exchange, FileFolder, Kafka, KafkaSecurity, RabbitMq};
pub use server::{AdminToken, Limits, PemFile, Role, Server, Storage, Tls};
pub use sources::{
    Api, Credentials, FieldPath, Fields, Probe, Reconcile, Reports, Signature, SignatureEncoding, SignatureScheme,
    Source, SourceKind, Tenant,
};

use crate::domain::{DestinationName, RouteName, SourceName};
use std::{collections::BTreeMap, time::Duration};

/// Everything one file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The listeners.
    pub server: Server,
    /// The store.
    pub storage: Storage,
    /// Who pushes to us, by name.
    pub sources: BTreeMap<SourceName, Source>,
    /// Where events go, by name.
    pub destinations: BTreeMap<DestinationName, Destination>,
    /// What goes where, in the file's order.
    pub routes: Vec<Route>,
    /// What becomes of events that no route takes.
    pub unrouted: Unrouted,
    /// How failures are tried again.
    pub retry: Retry,
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In this long: a second, a minute or an hour.
    pub per: Duration,
}

/// A text in the file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The text, as the YAML means it.
    pub text: String,
    /// Where its scalar begins in the file, in bytes.
    pub byte_offset: usize,
    /// How long its scalar is in the file, in bytes.
    pub byte_len: usize,
}

/// One of `routes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name, unique.
    pub name: RouteName,
    /// The condition on the push; `None` is true.
    pub when: Option<Located>,
    /// Records to fetch: `client`, `conversation`, `agent`, `session`.
    pub enrich: Vec<String>,
    /// Whether the event waits for them.
    pub required: bool,
    /// How long, from acceptance.
    pub enrich_within: Duration,
    /// Whether a dead letter holds its key.
    pub on_dead: OnDead,
    /// Whether later routes are not asked once this one matched.
    pub stop: bool,
    /// The condition on push and records; `None` is true.
    pub when_enriched: Option<Located>,
    /// Where to; at least one.
    pub to: Vec<RouteTarget>,
}

/// One of a route's `to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTarget {
    /// The destination, which exists.
    pub destination: DestinationName,
    /// The template of the routing key (RabbitMQ) or the record key (Kafka).
    pub address: Option<Located>,
}

/// `on_dead:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDead {
    /// Later events of the key go on.
    Continue,
    /// They wait behind it.
    Park,
}

/// `unrouted:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    /// Stored, listed, replayable.
    Keep,
    /// Counted only.
    Discard,
}

/// `retry:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How old an event may grow before it is a dead letter `expired`.
    pub max_age: Duration,
    /// The first pause.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long an unroutable delivery is tried, from its first return.
    pub unroutable: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(7 * 86_400),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            unroutable: Duration::from_secs(600),
        }
    }
}
