//! `type: kafka`: brokers, topic, security, and which of librdkafka's properties are ours.

use super::{
    keys, pem,
    reader::{Field, Reader, Section, Text},
    secrets,
    settings::{Kafka, KafkaSecurity},
};
use std::collections::BTreeMap;

/// Properties that the delivery contract rests on, by what else they are called; each with where it is set instead.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "set `brokers`"),
    ("metadata.broker.list", "set `brokers`"),
    ("enable.idempotence", "it is always on"),
    ("enable.gapless.guarantee", "the lane keeps the order"),
    ("acks", "it is always `all`"),
    ("request.required.acks", "it is always `all`"),
    ("retries", "set `retry`"),
    ("message.send.max.retries", "set `retry`"),
    ("message.timeout.ms", "set `retry`"),
    ("delivery.timeout.ms", "set `retry`"),
    ("max.in.flight", "set `window`"),
    ("max.in.flight.requests.per.connection", "set `window`"),
    ("queue.buffering.max.messages", "set `window`"),
    ("queuing.strategy", "the lane keeps the order"),
    ("msg_order_cmp", "the lane keeps the order"),
    ("partitioner", "one key must stay in one partition"),
    ("partitioner_cb", "one key must stay in one partition"),
    ("allow.auto.create.topics", "a missing topic stops the lane, visibly"),
    ("topic.metadata.propagation.max.ms", "a missing topic shows within 10s"),
    ("delivery.report.only.error", "every report is needed"),
    ("dr_cb", "every report is needed"),
    ("dr_msg_cb", "every report is needed"),
    ("transactional.id", "deliveries are idempotent without transactions"),
    ("plugin.library.paths", "no code is loaded"),
];

/// Reads the keys of a Kafka destination.
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Kafka> {
    let brokers = reader.required(section, "brokers", "such as `kafka-1:9092,kafka-2:9092`");
    let brokers = brokers.map(|field| brokers_of(reader, field)).unwrap_or_default();
    let topic = reader.required(section, "topic", "a constant: one odd value must not stop the lane");
    let topic = reader.text(topic);
    if let Some(topic) = topic.as_ref().filter(|topic| !is_topic(&topic.value)) {
        let label = "expected 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`";
        reader.error("this is not a Kafka topic", &topic.span, label);
    }
    let security = section.get("security").and_then(|field| security_of(reader, field));
    let properties = section.get("properties").map(|field| properties_of(reader, field)).unwrap_or_default();
    Some(Kafka { brokers, topic: topic?.value, security, properties })
}

/// Kafka's own rule; the client library takes anything.
fn is_topic(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    plain && (1..=249).contains(&text.len()) && text != "." && text != ".."
}

fn brokers_of(reader: &mut Reader<'_>, field: Field<'_>) -> Vec<String> {
    let mut brokers = Vec::new();
    let texts = reader.one_or_more(field);
    let given = texts.len();
    for text in &texts {
        for broker in text.value.split(',').map(str::trim) {
            match with_port(broker) {
                Some(broker) => brokers.push(broker),
                None => {
                    reader.error("this is not a broker", &text.span, "expected `host:port`, with commas between them")
                }
            }
        }
    }
    if given == 0 && matches!(&field.node.value, super::yaml::Value::List(items) if items.is_empty()) {
        reader.error("`brokers` is empty", field.key_span, "name at least one");
    }
    brokers
}

/// `host:port`, the port 9092 if there is none.
fn with_port(text: &str) -> Option<String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse::<u16>().ok().filter(|port| *port > 0)?),
        _ => (text, 9092),
    };
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            !host.is_empty() && host.bytes().all(plain)
        }
    };
    good.then(|| format!("{host}:{port}"))
}

fn security_of(reader: &mut Reader<'_>, field: Field<'_>) -> Option<KafkaSecurity> {
    let section = reader.section(field, keys::SECURITY)?;
    let protocols = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].map(|word| (word, word));
    let protocol = reader.required(&section, "protocol", "`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`");
    let protocol = reader.word(protocol, &protocols);
    let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(|word| (word, word));
    let mechanism = reader.word(section.get("mechanism"), &mechanisms);
    let username = reader.filled(section.get("username"));
    let password = secrets::optional(reader, &section, "password", "password_file");
    let ca_file = pem::certificates(reader, section.get("ca_file"));
    let client_cert = pem::client_cert(reader, &section, pem::User::Librdkafka);
    let protocol = protocol?;
    let sasl = protocol.starts_with("SASL");
    for (key, there) in [
        ("mechanism", section.get("mechanism").is_some()),
        ("username", section.get("username").is_some()),
        ("password", !matches!(&password, Ok(None))),
    ] {
        let place = section.get(key).map_or(section.place, |field| field.key_span);
        if sasl && !there {
            reader.error(format!("`{key}` is missing in `security`"), place, format!("`{protocol}` needs it"));
        } else if !sasl && there {
            reader.error(
                format!("`{key}` has no use with `{protocol}`"),
                place,
                "expected `SASL_SSL`, or leave it out",
            );
        }
    }
    if !protocol.ends_with("SSL") {
        for key in ["ca_file", "cert_file", "key_file"] {
            if let Some(field) = section.get(key) {
                let label = "expected `SSL` or `SASL_SSL`, or leave it out";
                reader.error(format!("`{key}` has no use with `{protocol}`"), field.key_span, label);
            }
        }
    }
    Some(KafkaSecurity {
        protocol: protocol.to_owned(),
        mechanism: mechanism.map(str::to_owned),
        username: username.map(|text| text.value),
        password: password.ok()?.map(|given| given.secret),
        ca_file,
        client_cert,
    })
}

fn properties_of(reader: &mut Reader<'_>, field: Field<'_>) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for property in reader.named(field) {
        let key = property.key.to_ascii_lowercase();
        let ours = OURS.iter().find(|(name, _)| *name == key).map(|(_, instead)| *instead);
        let security = ["security.", "sasl.", "ssl.", "enable.sasl.", "enable.ssl."];
        let elsewhere = security.iter().any(|prefix| key.starts_with(prefix)).then_some("set `security`");
        let code = (key.ends_with("_cb") || key == "opaque").then_some("no code can be given here");
        let mock = key.starts_with("test.").then_some("a made-up cluster would take everything and keep nothing");
        if let Some(label) = ours.or(elsewhere).or(code).or(mock) {
            reader.error(format!("`{}` cannot be set here", property.key), property.key_span, label);
            continue;
        }
        if let Some(Text { value, .. }) = reader.text(Some(property)) {
            properties.insert(property.key.to_owned(), value);
        }
    }
    properties
}
