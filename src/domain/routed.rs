//! Where an event goes: the decision, its row in ROUTED, and the enrichment that came with it.

use crate::domain::{DeadCause, DestinationName, Event, Offset, Position, RouteName, Timestamp};
use bytes::Bytes;
use std::sync::Arc;

/// One delivery that a decision asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The route that matched.
    pub route: RouteName,
    /// Where it goes; resolved by name when it is published.
    pub destination: DestinationName,
    /// The rendered routing key (RabbitMQ) or record key (Kafka); `None` where the destination's default holds.
    pub address: Option<Box<str>>,
    /// What of the row's enrichment it carries.
    pub parts: Parts,
}

/// Which parts of a row's enrichment a delivery carries: those that its route asked for, and no other route's.
///
/// Bit i stands for the row's part i; there are as many as there are kinds of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Parts(pub u8);

impl Parts {
    /// The parts that are wanted.
    #[must_use]
    pub fn of(enrichment: &[EnrichmentPart], wanted: impl Fn(&EnrichmentPart) -> bool) -> Self {
        let bits = enrichment.iter().take(8).enumerate().filter(|(_, part)| wanted(part));
        Self(bits.fold(0, |bits, (index, _)| bits | (1 << index)))
    }

    /// The same parts again, of the same row's enrichment.
    pub fn among(self, enrichment: &[EnrichmentPart]) -> impl Iterator<Item = &EnrichmentPart> + Clone {
        enrichment.iter().take(8).enumerate().filter(move |(index, _)| self.0 >> index & 1 == 1).map(|(_, part)| part)
    }
}

/// A route whose condition or template failed: a dead letter of that route alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadRoute {
    /// The route, or `None` when the event itself is the trouble (`unparsable`, `poison`, `damaged`).
    pub route: Option<RouteName>,
    /// What kind of trouble.
    pub cause: DeadCause,
    /// The words for the operator; never a secret.
    pub detail: Box<str>,
}

/// What was decided about one event by one generation of the routes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Deliveries, in the order of the routes.
    pub targets: Vec<Target>,
    /// Routes, or the event, that became dead letters.
    pub dead: Vec<DeadRoute>,
    /// Whether nothing matched and the file says `unrouted: discard`.
    pub discarded: bool,
    /// Whether a reconciled copy had gone out before.
    pub superseded: bool,
}

impl Decision {
    /// Whether nothing came of it at all: stored, listed, replayable.
    #[must_use]
    pub fn is_unrouted(&self) -> bool {
        self.targets.is_empty() && self.dead.is_empty() && !self.discarded && !self.superseded
    }
}

/// A record fetched from a vendor, shared by every event that needed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's JSON, as the vendor sent it.
    pub bytes: Bytes,
    /// Keyed hash of the bytes ([`HashKeys::body`](crate::domain::HashKeys::body)): equal records are stored once in a
    /// segment.
    pub hash: u64,
}

/// How one lookup ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrichmentStatus {
    /// The record is there.
    Ok,
    /// It could not be had within the budget; `reason` says why.
    Failed,
    /// There is no id to ask for, or the vendor has no such record by its own rules.
    NotApplicable,
    /// The vendor said until the end that it does not exist.
    Missing,
}

impl EnrichmentStatus {
    /// The word consumers see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::NotApplicable => "not_applicable",
            Self::Missing => "missing",
        }
    }

    /// Whether a route that requires the record can go on: it is there, or cannot be.
    #[must_use]
    pub const fn satisfies(self) -> bool {
        match self {
            Self::Ok | Self::NotApplicable => true,
            Self::Failed | Self::Missing => false,
        }
    }

    /// Reads what [`EnrichmentStatus::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ok, Self::Failed, Self::NotApplicable, Self::Missing].into_iter().find(|status| status.as_str() == text)
    }
}

/// One member of `enrichment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrichmentPart {
    /// `client`, `conversation`, `agent` or `session`.
    pub what: Box<str>,
    /// How it ended.
    pub status: EnrichmentStatus,
    /// Why, when it did not end well.
    pub reason: Option<Box<str>>,
    /// When the record was fetched.
    pub fetched_at: Option<Timestamp>,
    /// The record, when there is one.
    pub record: Option<Arc<Record>>,
}

/// A row on its way into ROUTED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutedRow {
    /// The event decided about.
    pub event: Position,
    /// The replay that decided again, or 0 for the first decision.
    pub job: u64,
    /// The generation of the routes that decided.
    pub generation: u32,
    /// What was decided.
    pub decision: Decision,
    /// What the routes asked the vendor for.
    pub enrichment: Vec<EnrichmentPart>,
}

/// A row in ROUTED with its event. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The row's number in ROUTED of the event's partition.
    pub offset: Offset,
    /// The row.
    pub row: RoutedRow,
    /// The event.
    pub event: Arc<Event>,
}

impl Routed {
    /// Bytes of its body and of all records beside it: what it keeps in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.body.len() + records_bytes(&self.row.enrichment)
    }
}

/// Bytes of the records that were fetched.
pub fn records_bytes<'a>(parts: impl IntoIterator<Item = &'a EnrichmentPart>) -> usize {
    parts.into_iter().filter_map(|part| part.record.as_ref()).map(|record| record.bytes.len()).sum()
}
