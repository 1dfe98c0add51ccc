//! From a try to what is published: routing key, properties, payload; or why the broker would never take it.
//!
//! Every property and header has a fixed name. Nothing that a sender chose becomes a name, and of the properties
//! that mean something to the broker (`user_id`, `expiration`, `reply_to`, `CC`, `BCC` …) none is ever set: a wrong
//! one closes the channel, and a `CC` copies the message into other queues. Texts that AMQP limits to 255 bytes are
//! measured here, because the library panics on a longer one.

use crate::{
    destinations::message::{CONTENT_TYPE, Mark, Message, PrefixMap},
    domain::{Attempt, DeadCause, Failure, FailureKind},
};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};

/// What is sent at most: RabbitMQ 4 refuses more than 16 MiB by default (`max_message_size`).
pub const VALUE_BYTES_MAX: usize = (16 << 20) - (64 << 10);
/// All header texts of a message together. They must fit into one frame, which RabbitMQ limits to 128 KiB: a larger
/// one would cost the whole connection, again and again.
const HEADER_BYTES_MAX: usize = 64 << 10;
const PERSISTENT: u8 = 2;
const APP_ID: &str = "laigu-router";

/// A try, ready to be published.
#[derive(Debug)]
pub(super) struct Envelope {
    /// The lane's name for it.
    pub(super) ticket: u64,
    /// The identity of its delivery, by which a return is matched.
    pub(super) identity: Box<str>,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) value: Bytes,
}

impl Envelope {
    /// Builds it, `message` being a buffer that is used again.
    ///
    /// # Errors
    /// A [`Failure`] of the kind `Rejected` when a text or the value is longer than AMQP or the broker takes.
    pub(super) fn new(attempt: &Attempt, message: &mut Message, prefixes: &PrefixMap) -> Result<Self, Failure> {
        message.render(attempt, prefixes);
        let value = message.value().clone();
        if value.len() > VALUE_BYTES_MAX {
            return Err(too_large("the value", value.len(), VALUE_BYTES_MAX));
        }
        let header_bytes = message.marks().map(|(_, text)| text.len()).sum();
        if header_bytes > HEADER_BYTES_MAX {
            return Err(too_large("all headers", header_bytes, HEADER_BYTES_MAX));
        }
        let address = attempt.delivery.target().address.as_deref();
        // Without a template, a topic exchange is best bound by what happened.
        let routing_key = short("the routing key", address.unwrap_or(&attempt.delivery.event().kind))?;
        let properties = properties(message)?;
        let identity = message.get(Mark::Delivery).unwrap_or_default().into();
        Ok(Self { ticket: attempt.ticket, identity, routing_key, properties, value })
    }
}

fn properties(message: &Message) -> Result<BasicProperties, Failure> {
    let mut headers = FieldTable::default();
    for (mark, text) in message.marks() {
        if let Some(name) = mark.amqp_header() {
            headers.insert(short("a header name", name)?, AMQPValue::LongString(LongString::from(text)));
        }
    }
    let seconds = u64::try_from(message.time().as_millis() / 1_000).unwrap_or(0);
    Ok(BasicProperties::default()
        .with_headers(headers)
        .with_delivery_mode(PERSISTENT)
        .with_content_type(short("the content type", CONTENT_TYPE)?)
        .with_message_id(short("the event's id", message.get(Mark::Id).unwrap_or_default())?)
        .with_type(short("the event's type", message.get(Mark::Type).unwrap_or_default())?)
        .with_timestamp(seconds)
        .with_app_id(short("the application's name", APP_ID)?))
}

/// A text of at most 255 bytes without control characters.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, Failure> {
    let failure = |detail: String| Failure { kind: FailureKind::Rejected(DeadCause::Rejected), detail: detail.into() };
    if text.chars().any(char::is_control) {
        return Err(failure(format!("{what} has a control character")));
    }
    ShortString::try_new(text).map_err(|_| failure(format!("{what} has {} bytes, AMQP takes 255", text.len())))
}

fn too_large(what: &str, bytes: usize, max: usize) -> Failure {
    let detail = format!("{what} has {bytes} bytes, {max} are sent at most").into();
    Failure { kind: FailureKind::Rejected(DeadCause::TooLarge), detail }
}

#[cfg(test)]
mod tests {
    use super::{Envelope, HEADER_BYTES_MAX, VALUE_BYTES_MAX};
    use crate::{
        destinations::{
            fixtures::{attempt, event},
            message::{Message, PrefixMap},
        },
        domain::{Attempt, DeadCause, FailureKind, NewEvent, SourceName},
    };
    use bytes::Bytes;
    use std::sync::Arc;

    fn envelope(attempt: &Attempt) -> Result<Envelope, FailureKind> {
        let prefixes = PrefixMap::from([(SourceName::parse("laigu").unwrap(), "com.laigu.".into())]);
        Envelope::new(attempt, &mut Message::default(), &prefixes).map_err(|failure| failure.kind)
    }

    fn refused(change: impl FnOnce(&mut NewEvent), address: Option<&str>) -> Option<FailureKind> {
        let mut event = event("{}");
        change(&mut event);
        let mut attempt = attempt(event, 1, Vec::new());
        Arc::make_mut(&mut attempt.delivery.routed).row.decision.targets[0].address = address.map(Into::into);
        envelope(&attempt).err()
    }

    #[test]
    fn properties_and_headers_are_those_of_the_contract() {
        let envelope = envelope(&attempt(event("{}"), 42, Vec::new())).unwrap();
        let properties = &envelope.properties;
        let text =
            |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(text(properties.message_id()), "evt_01920ebe9118deadbeef000000000000002a");
        assert_eq!(text(properties.kind()), "com.laigu.cus.upsert");
        assert_eq!(text(properties.content_type()), "application/json");
        assert_eq!(text(properties.app_id()), "laigu-router");
        assert_eq!(*properties.timestamp(), Some(1_726_824_222));
        assert_eq!(*properties.delivery_mode(), Some(2));
        assert_eq!(envelope.routing_key.as_str(), "cus.upsert");
        let unset = [properties.user_id(), properties.expiration(), properties.reply_to(), properties.correlation_id()];
        assert!(unset.iter().all(|property| property.is_none()));
        let names: Vec<&str> =
            properties.headers().as_ref().unwrap().into_iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "cloudEvents_id",
                "cloudEvents_source",
                "cloudEvents_specversion",
                "cloudEvents_subject",
                "cloudEvents_time",
                "cloudEvents_type",
                "traceparent",
                "x-attempt",
                "x-delivery",
                "x-route",
                "x-vendor-id",
            ]
        );
    }

    #[test]
    fn what_is_longer_than_the_broker_takes_is_refused_and_never_panics() {
        let rejected = Some(FailureKind::Rejected(DeadCause::Rejected));
        let too_large = Some(FailureKind::Rejected(DeadCause::TooLarge));
        let long = "x".repeat(256);
        assert_eq!(refused(|_| {}, Some(&long)), rejected);
        assert_eq!(refused(|_| {}, Some(&long[1..])), None);
        assert_eq!(refused(|_| {}, Some("a\r\nb")), rejected);
        assert_eq!(refused(|event| event.kind = long.clone().into(), Some("ok")), rejected);
        assert_eq!(refused(|event| event.vendor_id = Some("x".repeat(HEADER_BYTES_MAX).into()), None), too_large);
        let large = |bytes| move |event: &mut NewEvent| event.body = Bytes::from(vec![b' '; bytes]);
        assert_eq!(refused(large(VALUE_BYTES_MAX + 1), None), too_large);
        assert_eq!(refused(large(VALUE_BYTES_MAX), None), None);
    }
}
