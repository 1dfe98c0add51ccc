//! What consumers receive: from one try at a delivery to its value and its marks, for every kind of destination.
//!
//! Pure, and the same text for RabbitMQ, Kafka and files: a [`Mark`] knows its name in each of them. All marks of
//! a message are rendered into one reused buffer. Nothing that a sender chose becomes the *name* of anything,
//! and two tries at one delivery differ in `x-attempt` and `traceparent` alone.

use crate::{
    destinations::{splice, traceparent},
    domain::{Attempt, Event, EventId, Origin, SourceName, Timestamp},
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::{collections::BTreeMap, fmt::Write, ops::Range, sync::Arc};

/// What stands before an event's own type in `ce_type`, such as `com.laigu.`, by source; nothing if it is not there.
pub type PrefixMap = BTreeMap<SourceName, Box<str>>;

/// The prefixes of `ce_type`, shared by all outlets and replaced when the routes are loaded again.
#[derive(Debug, Clone, Default)]
pub struct TypePrefixes(Arc<ArcSwap<PrefixMap>>);

impl TypePrefixes {
    /// Takes the first map.
    #[must_use]
    pub fn new(map: PrefixMap) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(map)))
    }

    /// Lets the next messages see another map.
    pub fn replace(&self, map: PrefixMap) {
        self.0.store(Arc::new(map));
    }

    /// The map as it is now; outlets take it once for a batch.
    #[must_use]
    pub fn snapshot(&self) -> Arc<PrefixMap> {
        self.0.load_full()
    }
}

/// The media type of every value.
pub const CONTENT_TYPE: &str = "application/json";

/// The `ce_type` of an event whose source gave it none; CloudEvents wants at least one character.
const TYPE_UNKNOWN: &str = "unknown";

/// One mark of a message: a CloudEvents attribute, or one of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// The version of CloudEvents, `1.0`.
    SpecVersion,
    /// Our id of the event.
    Id,
    /// `/{source}/{tenant}`.
    Source,
    /// The event's type, in reverse-DNS form where we know the vendor.
    Type,
    /// The push's own time, else when we received it; RFC 3339.
    Time,
    /// The key; absent without one.
    Subject,
    /// The media type of the value.
    ContentType,
    /// The identity of this delivery.
    Delivery,
    /// The route that asked for it.
    Route,
    /// The number of the try, from 1.
    Attempt,
    /// The replay that sends it; absent outside of one.
    Replay,
    /// The vendor's id of the push; absent where it gave none.
    VendorId,
    /// How the event came to us; absent for a push.
    Origin,
    /// `true` when the vendor's id had come before with another body; absent otherwise.
    IdConflict,
    /// W3C trace context.
    TraceParent,
}

impl Mark {
    /// Its header in RabbitMQ; `None` for what travels as a property alone.
    #[must_use]
    pub const fn amqp_header(self) -> Option<&'static str> {
        Some(match self {
            Self::SpecVersion => "cloudEvents_specversion",
            Self::Id => "cloudEvents_id",
            Self::Source => "cloudEvents_source",
            Self::Type => "cloudEvents_type",
            Self::Time => "cloudEvents_time",
            Self::Subject => "cloudEvents_subject",
            Self::ContentType => return None,
            other => other.own_header(),
        })
    }

    /// Its header in Kafka.
    #[must_use]
    pub const fn kafka_header(self) -> &'static str {
        match self {
            Self::SpecVersion => "ce_specversion",
            Self::Id => "ce_id",
            Self::Source => "ce_source",
            Self::Type => "ce_type",
            Self::Time => "ce_time",
            Self::Subject => "ce_subject",
            Self::ContentType => "content-type",
            other => other.own_header(),
        }
    }

    /// Its member in a structured-mode object: extensions have no hyphens.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::SpecVersion => "specversion",
            Self::Id => "id",
            Self::Source => "source",
            Self::Type => "type",
            Self::Time => "time",
            Self::Subject => "subject",
            Self::ContentType => "datacontenttype",
            Self::Delivery => "xdelivery",
            Self::Route => "xroute",
            Self::Attempt => "xattempt",
            Self::Replay => "xreplay",
            Self::VendorId => "xvendorid",
            Self::Origin => "xorigin",
            Self::IdConflict => "xidconflict",
            Self::TraceParent => "traceparent",
        }
    }

    const fn own_header(self) -> &'static str {
        match self {
            Self::Delivery => "x-delivery",
            Self::Route => "x-route",
            Self::Attempt => "x-attempt",
            Self::Replay => "x-replay",
            Self::VendorId => "x-vendor-id",
            Self::Origin => "x-origin",
            Self::IdConflict => "x-id-conflict",
            other => other.member(),
        }
    }
}

/// A message, ready to be given the form of one destination. Made once an outlet, rendered again for each try.
#[derive(Debug, Default)]
pub struct Message {
    text: String,
    marks: Vec<(Mark, Range<usize>)>,
    value: Bytes,
    time: Timestamp,
    /// A second since the epoch, rendered down to its `.`: the next message is mostly of the same.
    second: (i64, String),
}

impl Message {
    /// Forgets what it was and becomes the message of `attempt`.
    pub fn render(&mut self, attempt: &Attempt, prefixes: &PrefixMap) {
        self.text.clear();
        self.marks.clear();
        let delivery = &attempt.delivery;
        let event = delivery.event();
        self.value = splice::value(&event.body, delivery.enrichment());
        self.time = event.sent_at.unwrap_or(event.received_at);
        self.mark(Mark::SpecVersion, |text| text.push_str("1.0"));
        self.mark_ids(attempt);
        self.mark(Mark::Source, |text| {
            for part in ["/", event.source.as_str(), "/", event.tenant.as_str()] {
                text.push_str(part);
            }
        });
        self.mark(Mark::Type, |text| push_type(text, event, prefixes));
        self.mark_time();
        self.mark_text(Mark::Subject, event.key.as_deref().unwrap_or_default());
        self.mark_text(Mark::ContentType, CONTENT_TYPE);
        self.mark_text(Mark::Route, delivery.target().route.as_str());
        self.mark(Mark::Attempt, |text| push_display(text, attempt.number));
        if let Some(job) = delivery.replay {
            self.mark(Mark::Replay, |text| push_display(text, job));
        }
        self.mark_text(Mark::VendorId, event.vendor_id.as_deref().unwrap_or_default());
        if event.origin != Origin::Push {
            self.mark_text(Mark::Origin, event.origin.as_str());
        }
        if event.conflict {
            self.mark_text(Mark::IdConflict, "true");
        }
        let start = self.text.len();
        let (id, identity) = (self.get(Mark::Id).unwrap_or_default(), self.get(Mark::Delivery).unwrap_or_default());
        let parent = traceparent::next(event.headers.get("traceparent"), id, identity, attempt.number);
        parent.push_to(&mut self.text);
        self.marks.push((Mark::TraceParent, start..self.text.len()));
    }

    /// Each mark that this message has, in the order of the contract.
    pub fn marks(&self) -> impl Iterator<Item = (Mark, &str)> {
        self.marks.iter().map(|(mark, range)| (*mark, self.text.get(range.clone()).unwrap_or_default()))
    }

    /// One mark, if this message has it.
    #[must_use]
    pub fn get(&self, mark: Mark) -> Option<&str> {
        self.marks().find(|(found, _)| *found == mark).map(|(_, text)| text)
    }

    /// The value: the push byte for byte, with the enrichment spliced in where the row has one.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        &self.value
    }

    /// The push's own time, else when we received it.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The id is how the identity of the delivery begins: both are ranges of one text.
    fn mark_ids(&mut self, attempt: &Attempt) {
        let delivery = &attempt.delivery;
        let start = self.text.len();
        push_event_id(&mut self.text, delivery.event().id);
        let id = start..self.text.len();
        self.text.push('/');
        self.text.push_str(delivery.target().route.as_str());
        if let Some(job) = delivery.replay.filter(|_| delivery.again) {
            self.text.push('/');
            push_display(&mut self.text, job);
        }
        self.marks.push((Mark::Id, id));
        self.marks.push((Mark::Delivery, start..self.text.len()));
    }

    fn mark_time(&mut self) {
        let millis = self.time.as_millis();
        let second = millis.div_euclid(1_000);
        if self.second.1.is_empty() || self.second.0 != second {
            let rendered = self.time.to_string();
            // A time beyond the calendar has no fraction, and is not worth keeping.
            let Some((whole, _)) = rendered.split_once('.') else { return self.mark_text(Mark::Time, &rendered) };
            self.second = (second, whole.to_owned());
        }
        let start = self.text.len();
        let thousandths = millis.rem_euclid(1_000);
        self.text.push_str(&self.second.1);
        self.text.push('.');
        for power in [100, 10, 1] {
            self.text.push(char::from(b'0' + (thousandths / power % 10) as u8));
        }
        self.text.push('Z');
        self.marks.push((Mark::Time, start..self.text.len()));
    }

    fn mark(&mut self, mark: Mark, push: impl FnOnce(&mut String)) {
        let start = self.text.len();
        push(&mut self.text);
        self.marks.push((mark, start..self.text.len()));
    }

    /// An empty text is an absent mark.
    fn mark_text(&mut self, mark: Mark, text: &str) {
        if !text.is_empty() {
            self.mark(mark, |all| all.push_str(text));
        }
    }
}

fn push_type(text: &mut String, event: &Event, prefixes: &PrefixMap) {
    if let Some(prefix) = prefixes.get(&event.source) {
        text.push_str(prefix);
    }
    text.push_str(if event.kind.is_empty() { TYPE_UNKNOWN } else { &event.kind });
}

/// As its `Display` does, and several times as fast.
fn push_event_id(text: &mut String, id: EventId) {
    text.push_str("evt_");
    traceparent::push_hex(text, id.received_at.as_millis().cast_unsigned(), 12);
    traceparent::push_hex(text, u64::from(id.incarnation.0), 8);
    traceparent::push_hex(text, u64::from(id.position.partition.0), 4);
    traceparent::push_hex(text, id.position.offset, 12);
}

fn push_display(text: &mut String, value: impl std::fmt::Display) {
    write!(text, "{value}").expect("a string takes any text");
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
