//! `routes.yaml` after checking: every value is right because it exists.
//!
//! Nothing here is read from the file directly (the other files of `config` do that). Expressions and
//! templates are texts with their place in the file; `routing` compiles them.

use crate::domain::{DestinationName, RouteName, Secret, SourceName, TenantName};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

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

/// `server:`
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// Where webhooks arrive.
    pub listen: SocketAddr,
    /// Console, API and metrics. Off loopback only with tokens.
    pub admin: SocketAddr,
    /// Who may use the admin listener; empty: anyone who reaches it.
    pub admin_tokens: Vec<AdminToken>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// How long `/readyz` says no before we stop accepting.
    pub shutdown_delay: Duration,
    /// TLS of both listeners.
    pub tls: Option<Tls>,
    /// What a request may cost.
    pub limits: Limits,
}

/// One of `server.admin_tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminToken {
    /// Who it is, in the audit.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// The token, never empty.
    pub token: Secret,
}

/// What a token allows; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Viewer,
    /// Replay, discard, pause, resume.
    Operator,
    /// Reload, erase.
    Admin,
}

/// Files of a certificate and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The chain, leaf first.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// `server.limits`; each is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A body's bytes.
    pub body: u64,
    /// All of a request's head, bytes.
    pub headers: u64,
    /// Header lines.
    pub header_count: usize,
    /// Connections open at a time.
    pub connections: usize,
    /// For the head of a request.
    pub header_timeout: Duration,
    /// For its body.
    pub body_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 1 << 20,
            headers: 32 << 10,
            header_count: 64,
            connections: 10_000,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
        }
    }
}

/// `storage:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The folder.
    pub path: PathBuf,
    /// How long things stay, and the room there is.
    pub retention: crate::journal::Retention,
    /// The share of `max_size` that one destination may pin before it is alarmed, 0 to 100.
    pub backlog_alarm_percent: u8,
}

/// One of `sources`.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What it speaks.
    pub kind: SourceKind,
    /// The body of the 200, when the sender wants one.
    pub ack: Option<String>,
    /// What an unsigned empty or `{}` POST gets.
    pub probe: Probe,
    /// How pushes are signed.
    pub signature: Signature,
    /// Whose pushes they are, by name.
    pub tenants: BTreeMap<TenantName, Tenant>,
    /// Where a `webhook` source's fields lie.
    pub fields: Option<Fields>,
}

/// A source's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Laigu's webhooks.
    Laigu,
    /// Laigu's automation node.
    LaiguAutomation,
    /// Meiqia's webhooks: Laigu's scheme, other topics.
    Meiqia,
    /// 环信客服云.
    EasemobKefu,
    /// Anything that posts JSON.
    Webhook,
}

/// `probe:`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// 401.
    Reject,
    /// 200, never an event.
    Accept,
}

/// `signature:`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// How it is computed.
    pub scheme: SignatureScheme,
    /// Header names in lower case; every one that is present must match.
    pub headers: Vec<String>,
    /// How the digest is written.
    pub encoding: SignatureEncoding,
    /// What stands before it.
    pub prefix: String,
}

/// `signature.scheme`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureScheme {
    /// SHA1(body + secret).
    Sha1Suffix,
    /// HMAC-SHA1 of the body.
    HmacSha1,
    /// HMAC-SHA256 of the body.
    HmacSha256,
    /// <https://www.standardwebhooks.com>.
    StandardWebhooks,
    /// `Authorization: meiqia_sign:` and base64 of the hex of HMAC-SHA1.
    MeiqiaSign,
    /// The header is the secret itself.
    Token,
    /// Not signed: `path_secret` only.
    None,
}

/// `signature.encoding`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64, either alphabet, padded or not.
    Base64,
}

/// One of a source's `tenants`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// The vendor's name for the enterprise, inside the body; compared, never trusted.
    pub enterprise_token: Option<String>,
    /// The vendor's number of the enterprise, for its API.
    pub enterprise_id: Option<u64>,
    /// Easemob's number of the tenant.
    pub tenant_id: Option<String>,
    /// Secrets that verify a signature; several while rotating; none empty.
    pub secrets: Vec<Secret>,
    /// The last segment of the hook's URL, where the push is not signed.
    pub path_secret: Option<Secret>,
    /// Where pushes may come from; empty: anywhere.
    pub allow_from: Vec<IpNet>,
    /// The vendor's API, for enrichment and reconciling.
    pub api: Option<Api>,
    /// Polling for pushes that never came.
    pub reconcile: Option<Reconcile>,
    /// Polling Easemob for ended sessions, this often.
    pub poll_sessions: Option<Duration>,
    /// Asking for reports about agents.
    pub reports: Option<Reports>,
}

/// A tenant's `api:`
#[derive(Debug, Clone, PartialEq)]
pub struct Api {
    /// Scheme, host, port and perhaps a path; `http` only on loopback or where `allow_http` says so.
    pub base_url: Url,
    /// Easemob: what stands before each path; may hold `{tenant_id}`.
    pub path_prefix: Option<String>,
    /// How we say who we are.
    pub credentials: Credentials,
    /// Calls we may make.
    pub rate: Rate,
}

/// How a call is authorised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer …`.
    Bearer(Secret),
    /// Laigu's `app_id` and `sign`.
    AppSign {
        /// `app_id` or `X-App-ID`.
        app_id: Secret,
        /// `sign` or `X-Sign`.
        sign: Secret,
    },
    /// Easemob's pair that buys a token.
    Client {
        /// `clientId`.
        client_id: Secret,
        /// `secretId`.
        secret_id: Secret,
    },
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In this long: a second, a minute or an hour.
    pub per: Duration,
}

/// `reconcile:`; what is `None` is not polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconcile {
    /// How often changed clients are asked for.
    pub clients: Option<Duration>,
    /// How often ended conversations are asked for.
    pub conversations: Option<Duration>,
    /// How long a window must be closed before it is read.
    pub lag: Duration,
    /// How much two windows overlap.
    pub overlap: Duration,
    /// How far back the first window begins.
    pub lookback: Duration,
}

/// `reports:`; what is `None` is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reports {
    /// How long a period of the report about agents' hours is.
    pub agent_online: Option<Duration>,
    /// The same of the report about agents' work.
    pub agent_service: Option<Duration>,
}

/// `fields:` of a `webhook` source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// The push's id.
    pub id: Option<FieldPath>,
    /// The event's type.
    pub kind: Option<FieldPath>,
    /// What it is about.
    pub key: Option<FieldPath>,
    /// Its time.
    pub time: Option<FieldPath>,
    /// The object that expressions call `body`.
    pub payload: Option<FieldPath>,
}

/// Where one field lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldPath {
    /// A JSON pointer, such as `/customer/id`.
    Pointer(String),
    /// `header:X-Event-Id`, the name in lower case.
    Header(String),
}

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
    pub ca_file: Option<PathBuf>,
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
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM.
    pub client_cert: Option<Tls>,
}

/// `type: file`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFolder {
    /// The folder of `events-YYYYMMDD-NNN.ndjson`.
    pub path: PathBuf,
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
