//! One push as it was accepted.

use crate::domain::{EventId, HashKeys, Incarnation, Offset, Partition, Position, SourceName, TenantName, Timestamp};
use bytes::Bytes;
use std::{fmt, ops::Range};

/// How an event came to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Origin {
    /// The vendor pushed it to the webhook.
    #[default]
    Push,
    /// Reconciliation or back-fill found a record that no push had brought.
    Reconcile,
    /// A poll of a vendor that does not push.
    Poll,
    /// A periodic report.
    Report,
}

impl Origin {
    /// `push`, `reconcile`, `poll` or `report`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Reconcile => "reconcile",
            Self::Poll => "poll",
            Self::Report => "report",
        }
    }

    /// Reads what [`Origin::as_str`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Push, Self::Reconcile, Self::Poll, Self::Report].into_iter().find(|origin| origin.as_str() == text)
    }
}

/// What events must keep their order among each other: a keyed hash of (source, tenant, key).
///
/// Two keys that share a hash are ordered for no reason; nothing else comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderKey(pub u64);

/// Which version of which record a push is about: what its reconciled copy is told by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The record (`track_id` or `conv_id`).
    pub key: Box<str>,
    /// When it became what it is; `None` where the push does not say.
    pub at: Option<Timestamp>,
    /// Whether a push that does not say stands for every version of the record.
    pub stands_for_all: bool,
}

/// Keyed hashes of (source, tenant, type, key, version): compared between a push and a reconciled record, never between
/// two pushes. They are not part of the event's row but stand among the ids, for as long as those are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Of this version.
    pub exact: Option<u64>,
    /// Of the record without its version.
    pub any: Option<u64>,
}

impl Fingerprint {
    /// The fingerprint of an event that came in this way. A push that names no version has the one without; a reconciled
    /// record of a kind whose pushes may name none has both.
    #[must_use]
    pub fn of(keys: &HashKeys, place: (&str, &str), kind: &str, version: Option<&Version>, origin: Origin) -> Self {
        let Some(version) = version else { return Self::default() };
        let hash = |at| keys.version(place, kind, &version.key, at);
        let any = match origin {
            Origin::Push => version.at.is_none() && version.stands_for_all,
            Origin::Reconcile | Origin::Report => version.stands_for_all,
            Origin::Poll => return Self::default(),
        };
        Self { exact: version.at.map(|at| hash(Some(at))), any: any.then(|| hash(None)) }
    }
}

/// Why a signed push cannot be read as an event; it is stored and becomes a dead letter `unparsable`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defect(pub Box<str>);

impl fmt::Display for Defect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Request headers kept beside an event, one `name: value` a line, names in lower case.
///
/// Only `content-type`, `user-agent`, `traceparent` and `x-…` are kept, never one that carries a signature or
/// a credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(pub Box<str>);

impl Headers {
    /// Each header, in the order it came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.split_once(": "))
    }

    /// The first value of a header, its name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// An event on its way into the log: everything but its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The source that took it.
    pub source: SourceName,
    /// The tenant it belongs to.
    pub tenant: TenantName,
    /// The vendor's word for what happened, such as `cus.upsert`; empty when the body is defective.
    pub kind: Box<str>,
    /// The entity it is about (`track_id`, else `conv_id`, …), as text.
    pub key: Option<Box<str>>,
    /// The vendor's id of the push.
    pub vendor_id: Option<Box<str>>,
    /// How it came.
    pub origin: Origin,
    /// The push's own time.
    pub sent_at: Option<Timestamp>,
    /// When we had it whole.
    pub received_at: Timestamp,
    /// Request headers worth keeping.
    pub headers: Headers,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Where in `body` the payload object lies (what expressions call `body`).
    pub payload: Option<Range<u32>>,
    /// What must stay in order with it; `None` without a key.
    pub order: Option<OrderKey>,
    /// Keyed hash of (source, tenant, vendor id), or of the body where there is no id.
    pub id_hash: u64,
    /// Keyed hash of the body; also what a read is checked against.
    pub body_hash: u64,
    /// What a push and a reconciled record are told to be the same by; not kept with the event.
    pub fingerprint: Fingerprint,
    /// Whether it is a push whose reconciled copy had come before: stored and listed, never delivered. Said by the intake.
    pub superseded: bool,
}

impl NewEvent {
    /// The event this becomes at its row.
    #[must_use]
    pub fn at(self, partition: Partition, offset: Offset, incarnation: Incarnation, conflict: bool) -> Event {
        let position = Position { partition, offset };
        let id = EventId { received_at: self.received_at, incarnation, position };
        Event { id, conflict, content: self }
    }
}

/// An event in the log. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Our id; names the row.
    pub id: EventId,
    /// Whether the vendor's id had come before with another body.
    pub conflict: bool,
    /// All the rest.
    pub content: NewEvent,
}

impl Event {
    /// Its row.
    #[must_use]
    pub fn position(&self) -> Position {
        self.id.position
    }

    /// The payload object's bytes, as they came.
    #[must_use]
    pub fn payload(&self) -> Option<&[u8]> {
        let range = self.content.payload.as_ref()?;
        self.content.body.get(range.start as usize..range.end as usize)
    }
}

impl Event {
    /// Stands for an event whose row cannot be read: the position is true, everything else is empty.
    #[must_use]
    pub fn stand_in(partition: Partition, offset: Offset) -> Self {
        NewEvent {
            source: SourceName::unknown(),
            tenant: TenantName::unknown(),
            kind: "".into(),
            key: None,
            vendor_id: None,
            origin: Origin::Push,
            sent_at: None,
            received_at: Timestamp::EPOCH,
            headers: Headers::default(),
            body: Bytes::new(),
            payload: None,
            order: None,
            id_hash: 0,
            body_hash: 0,
            fingerprint: Fingerprint::default(),
            superseded: false,
        }
        .at(partition, offset, Incarnation(0), false)
    }
}

impl std::ops::Deref for Event {
    type Target = NewEvent;

    fn deref(&self) -> &NewEvent {
        &self.content
    }
}
