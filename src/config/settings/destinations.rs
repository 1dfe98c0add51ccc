//! Where events go: `destinations:`.

use super::{PemFile, Rate, Tls};
use crate::domain::Secret;
use std::{collections::BTreeMap, path::PathBuf};

/// One of `destinations`.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// What it is.
    pub kind: DestinationKind,
    /// Deliveries in flight at most.
    pub window: usize,
    /// Deliveries at most per time.
    pub rate: Option<Rate>,
}

/// A destination's `type` with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub enum DestinationKind {
    /// `rabbitmq`
    RabbitMq(RabbitMq),
    /// `kafka`
    Kafka(Kafka),
    /// `file`
    File(FileFolder),
}

impl DestinationKind {
    /// `rabbitmq`, `kafka` or `file`.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RabbitMq(_) => "rabbitmq",
            Self::Kafka(_) => "kafka",
            Self::File(_) => "file",
        }
    }
}

/// `type: rabbitmq`
#[derive(Debug, Clone, PartialEq)]
pub struct RabbitMq {
    /// `amqp://` or `amqps://` URLs of the cluster's nodes, credentials inside; at least one.
    pub urls: Vec<Secret>,
    /// The exchange.
    pub exchange: Exchange,
    /// Whether what no queue takes comes back.
    pub mandatory: bool,
    /// A private CA, PEM.
    pub ca_file: Option<PemFile>,
    /// Our certificate and its key, PEM.
    pub client_cert: Option<Tls>,
}

/// `exchange:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name, 1 to 255 bytes; never `amq.…`.
    pub name: String,
    /// `topic`, `direct`, `fanout` or `headers`.
    pub kind: String,
    /// Whether it survives a broker restart.
    pub durable: bool,
    /// Whether we declare it at start, on reload and on `resume`; otherwise it must be there.
    pub declare: bool,
}

/// `type: kafka`
#[derive(Debug, Clone, PartialEq)]
pub struct Kafka {
    /// `host:port` of the first brokers to ask.
    pub brokers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// SASL and TLS.
    pub security: Option<KafkaSecurity>,
    /// librdkafka's own properties; none that we rely on.
    pub properties: BTreeMap<String, String>,
}

/// `security:` of a Kafka destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaSecurity {
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
    pub protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// Who we are.
    pub username: Option<String>,
    /// And how we prove it.
    pub password: Option<Secret>,
    /// A private CA, PEM.
    pub ca_file: Option<PemFile>,
    /// Our certificate and its key, PEM.
    pub client_cert: Option<Tls>,
}

/// `type: file`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFolder {
    /// The folder of `events-YYYYMMDD-NNN.ndjson`.
    pub path: PathBuf,
}
