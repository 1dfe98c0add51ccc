//! What librdkafka is told: the properties that an operator may give, and those that our promises rest on.
//!
//! Defaults first, then the file's `properties`, then ours: what we rely on cannot be overridden.

use crate::{
    config::settings::{Kafka, KafkaSecurity},
    domain::DestinationName,
};
use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use std::path::Path;

/// Names, and beginnings of names that end in a dot, of the properties that only we set: they carry the promises
/// (order, acks, no expiry inside librdkafka), the credentials and their checks, or replace the cluster or load code.
/// Reading the file refuses most of them with better words.
const RESERVED: [&str; 25] = [
    "acks",
    "allow.auto.create.topics",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.sasl.",
    "enable.ssl.",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "plugin.",
    "queue.buffering.max.messages",
    "queuing.strategy",
    "request.required.acks",
    "retries",
    "sasl.",
    "security.protocol",
    "ssl.",
    "test.",
    "transactional.id",
];

/// What brokers take unless they are told otherwise; librdkafka's own default is a little less than our largest body.
const MESSAGE_BYTES_MAX: usize = 1_048_588;

/// librdkafka's own default of `batch.size`, bytes.
const BATCH_BYTES: usize = 1_000_000;

/// What a producer may hold, in KiB, unless the file says more: librdkafka's default is 1 GiB, which no small container
/// has. What finds no room waits.
const QUEUE_KIB: usize = 64 << 10;

/// The longest topic name that Kafka takes.
const TOPIC_BYTES_MAX: usize = 249;

/// Why a destination cannot be opened as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// The topic's name is not one.
    #[error("`{topic}` is not a topic: use 1 to 249 letters, digits, `.`, `_` or `-`, and neither `.` nor `..`")]
    Topic {
        /// As it was given.
        topic: String,
    },
    /// A property that only we may set.
    #[error("property `{name}` is the router's own; remove it")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// A property that must be a number is none.
    #[error("property `{name}` must be a whole number")]
    Number {
        /// Its name.
        name: &'static str,
    },
}

/// Whether a property is ours alone.
#[must_use]
pub fn is_reserved(property: &str) -> bool {
    RESERVED.iter().any(|reserved| property == *reserved || (reserved.ends_with('.') && property.starts_with(reserved)))
}

/// Whether Kafka takes this text as a topic.
#[must_use]
pub fn is_topic(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TOPIC_BYTES_MAX).contains(&text.len()) && text.bytes().all(good) && !matches!(text, "." | "..")
}

/// The bytes at which a batch is closed, as the file says or by librdkafka's default.
///
/// # Errors
/// [`PropertyError::Number`].
pub fn batch_bytes(settings: &Kafka) -> Result<usize, PropertyError> {
    number(settings, "batch.size", BATCH_BYTES)
}

/// Builds the configuration of a producer.
///
/// # Errors
/// [`PropertyError`]; whether librdkafka knows a property and likes its value shows when a producer is made of it.
pub fn producer_config(
    name: &DestinationName,
    settings: &Kafka,
    window: usize,
    batch_bytes: usize,
) -> Result<ClientConfig, PropertyError> {
    if !is_topic(&settings.topic) {
        return Err(PropertyError::Topic { topic: settings.topic.chars().take(80).collect() });
    }
    if let Some(name) = settings.properties.keys().find(|name| is_reserved(name)) {
        return Err(PropertyError::Reserved { name: name.clone() });
    }
    let queue_kib = number(settings, "queue.buffering.max.kbytes", QUEUE_KIB)?;
    let message_bytes_max = number(settings, "message.max.bytes", MESSAGE_BYTES_MAX)?;
    let mut config = ClientConfig::new();
    let debugging = settings.properties.contains_key("debug");
    config.set_log_level(if debugging { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config.set("client.id", format!("laigu-router-{name}"));
    config.set("linger.ms", "5");
    config.set("statistics.interval.ms", "5000");
    config.set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
    // The first tries after a broker came back come soon; librdkafka's own default grows to 10 s.
    config.set("reconnect.backoff.max.ms", "2000");
    config.set("socket.connection.setup.timeout.ms", "10000");
    config.set("socket.keepalive.enable", "true");
    for (property, value) in &settings.properties {
        config.set(property, value);
    }
    config.set("batch.size", batch_bytes.to_string());
    config.set("bootstrap.servers", settings.brokers.join(","));
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // An expiry inside librdkafka leaves gaps that idempotence does not close ("1,4,5" in its own INTRODUCTION.md);
    // the store owns expiry.
    config.set("message.timeout.ms", "0");
    // As the Java client does it, so that a key lands where other producers' copies of it land.
    config.set("partitioner", "murmur2_random");
    config.set("allow.auto.create.topics", "false");
    config.set("topic.metadata.propagation.max.ms", "10000");
    config.set("queue.buffering.max.messages", (window.max(500) * 2).to_string());
    // Room for two of the largest messages, or one that fits would never be taken.
    config.set("queue.buffering.max.kbytes", queue_kib.max(message_bytes_max / 1_024 * 2 + 2).to_string());
    if let Some(security) = &settings.security {
        secure(&mut config, security);
    }
    Ok(config)
}

fn secure(config: &mut ClientConfig, security: &KafkaSecurity) {
    config.set("security.protocol", &security.protocol);
    if let Some(mechanism) = &security.mechanism {
        config.set("sasl.mechanism", mechanism);
    }
    if let Some(username) = &security.username {
        config.set("sasl.username", username);
    }
    if let Some(password) = &security.password {
        config.set("sasl.password", password.expose());
    }
    if security.protocol.ends_with("SSL") {
        // `probe` finds the system's own certificates; a linked-in OpenSSL knows only the place it was built for.
        let ca_file = security.ca_file.as_ref().map_or(Path::new("probe"), |file| &file.path);
        config.set("ssl.ca.location", ca_file.to_string_lossy());
        config.set("ssl.endpoint.identification.algorithm", "https");
    }
    if let Some(pair) = &security.client_cert {
        config.set("ssl.certificate.location", pair.cert_file.path.to_string_lossy());
        config.set("ssl.key.location", pair.key_file.path.to_string_lossy());
    }
}

fn number(settings: &Kafka, name: &'static str, default: usize) -> Result<usize, PropertyError> {
    settings.properties.get(name).map_or(Ok(default), |text| text.parse().map_err(|_| PropertyError::Number { name }))
}

#[cfg(test)]
mod tests {
    use super::{PropertyError, is_topic, producer_config};
    use crate::{config::settings::Kafka, domain::DestinationName};

    fn settings(properties: &[(&str, &str)]) -> Kafka {
        let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Kafka { brokers: vec!["a:1".into(), "b:2".into()], topic: "t".into(), security: None, properties }
    }

    #[test]
    fn what_we_rely_on_is_set_and_what_the_file_says_goes_through() {
        let name = DestinationName::parse("lake").unwrap();
        let config =
            producer_config(&name, &settings(&[("compression.type", "lz4"), ("linger.ms", "1")]), 8_192, 77).unwrap();
        for (property, value) in [
            ("bootstrap.servers", "a:1,b:2"),
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "0"),
            ("partitioner", "murmur2_random"),
            ("allow.auto.create.topics", "false"),
            ("queue.buffering.max.messages", "16384"),
            ("batch.size", "77"),
            ("queue.buffering.max.kbytes", "65536"),
            ("compression.type", "lz4"),
            ("linger.ms", "1"),
        ] {
            assert_eq!(config.get(property), Some(value), "{property}");
        }
    }

    #[test]
    fn what_we_rely_on_cannot_be_given() {
        let name = DestinationName::parse("lake").unwrap();
        for property in [
            "acks",
            "enable.idempotence",
            "sasl.password",
            "enable.ssl.certificate.verification",
            "test.mock.num.brokers",
        ] {
            let refused = producer_config(&name, &settings(&[(property, "x")]), 1, 1).unwrap_err();
            assert_eq!(refused, PropertyError::Reserved { name: property.to_owned() });
        }
    }

    #[test]
    fn a_topic_is_what_kafka_takes() {
        for good in ["crm.events", "a", "A_b-3", &"x".repeat(249)] {
            assert!(is_topic(good), "{good}");
        }
        for bad in ["", ".", "..", "../x y", "线索", "a/b", &"x".repeat(250)] {
            assert!(!is_topic(bad), "{bad}");
        }
    }
}
