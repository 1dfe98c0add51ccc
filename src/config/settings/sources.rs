//! Who pushes to us, and what we may ask them: `sources:`.

use super::Rate;
use crate::domain::{Secret, TenantName};
use ipnet::IpNet;
use std::{collections::BTreeMap, time::Duration};
use url::Url;

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
