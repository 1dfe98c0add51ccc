//! The door as the settings describe it: who may come in, through which URL, with what proof.
//!
//! A [`Door`] is a snapshot that never changes; a reload makes another. A request uses one from beginning to end.

use super::{
    address,
    problem::{Problem, Refusal},
    share::Waiting,
};
use crate::{
    config::settings::{Fields, Limits, Probe, Settings, Source, SourceKind, Tenant},
    domain::{HashKeys, Secret, SourceName, TenantName},
    vendors::signature::{SignatureError, Verifier},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

/// What hook URLs begin with.
pub const HOOKS: &str = "/hooks/";

/// Why the settings make no door.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source `{source_name}`, tenant `{tenant}`: {error}")]
pub struct DoorError {
    /// The source.
    pub source_name: SourceName,
    /// The tenant.
    pub tenant: TenantName,
    /// What is wrong with how it signs.
    pub error: SignatureError,
}

/// Everything the door needs to judge a request.
#[derive(Debug)]
pub struct Door {
    pub(super) gates: BTreeMap<SourceName, Gate>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) limits: Limits,
    pub(super) keys: HashKeys,
    /// Whether there are several tenants.
    shared: bool,
}

/// One source.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) name: SourceName,
    pub(super) kind: SourceKind,
    pub(super) ack: Bytes,
    pub(super) ack_type: Option<HeaderValue>,
    pub(super) probe: Probe,
    pub(super) fields: Option<Fields>,
    pub(super) tenants: Vec<Resident>,
}

/// One tenant of a source.
#[derive(Debug)]
pub(super) struct Resident {
    pub(super) name: TenantName,
    pub(super) token: Option<String>,
    pub(super) verifier: Verifier,
    pub(super) waiting: Waiting,
    path_secret: Option<Secret>,
    allow_from: Vec<IpNet>,
}

/// Where a URL leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entrance<'a> {
    pub(super) gate: &'a Gate,
    /// `None` when the URL names no tenant and the source has several.
    pub(super) tenant: Option<&'a Resident>,
}

impl Door {
    /// Builds the door that checked settings describe; `keys` are the store's.
    ///
    /// # Errors
    /// [`DoorError`] when a tenant could never be verified.
    pub fn new(settings: &Settings, keys: HashKeys) -> Result<Self, DoorError> {
        let gates = settings
            .sources
            .iter()
            .map(|(name, source)| Ok((name.clone(), Gate::new(name, source)?)))
            .collect::<Result<BTreeMap<_, Gate>, DoorError>>()?;
        let server = &settings.server;
        let tenants: usize = gates.values().map(|gate| gate.tenants.len()).sum();
        Ok(Self {
            gates,
            trusted_proxies: server.trusted_proxies.clone(),
            limits: server.limits,
            keys,
            shared: tenants > 1,
        })
    }

    /// How many pushes of one tenant may wait for the store where so many connections may be open at most: half of all
    /// that can, where there are other tenants.
    pub(super) fn share(&self, connections_max: usize) -> usize {
        if self.shared { (self.limits.connections.min(connections_max) / 2).max(1) } else { usize::MAX }
    }

    /// Finds where a path leads.
    ///
    /// # Errors
    /// [`Problem::NotFound`]: no such source or tenant, or a wrong path secret; they look the same.
    pub(super) fn find(&self, path: &str) -> Result<Entrance<'_>, Problem> {
        let path = path.strip_prefix(HOOKS).ok_or(Problem::NotFound)?;
        let mut segments = path.strip_suffix('/').unwrap_or(path).split('/');
        let source = segments.next().unwrap_or_default();
        let (tenant, path_secret) = (segments.next(), segments.next());
        if segments.next().is_some() {
            return Err(Problem::NotFound);
        }
        let gate = self.gates.get(source).ok_or(Problem::NotFound)?;
        let tenant = match tenant {
            Some(name) => {
                Some(gate.tenants.iter().find(|tenant| tenant.name.as_str() == name).ok_or(Problem::NotFound)?)
            }
            None => match gate.tenants.as_slice() {
                [only] => Some(only),
                _ => None,
            },
        };
        let knows_secret = match tenant {
            Some(tenant) => tenant.knows(path_secret),
            // A URL without a tenant carries no path secret, so nobody who has one is meant.
            None => gate.tenants.iter().any(Resident::is_open),
        };
        if knows_secret { Ok(Entrance { gate, tenant }) } else { Err(Problem::NotFound) }
    }

    /// The address that a request comes from, if it can be told.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Option<IpAddr> {
        address::client(peer, headers, &self.trusted_proxies)
    }
}

impl Gate {
    fn new(name: &SourceName, source: &Source) -> Result<Self, DoorError> {
        let tenants = source
            .tenants
            .iter()
            .map(|(tenant_name, tenant)| {
                let verifier = Verifier::new(&source.signature, &tenant.secrets).map_err(|error| DoorError {
                    source_name: name.clone(),
                    tenant: tenant_name.clone(),
                    error,
                })?;
                Ok(Resident::new(tenant_name, tenant, verifier))
            })
            .collect::<Result<_, DoorError>>()?;
        let ack = source.ack.clone().unwrap_or_default();
        let ack_type = match ack.trim_start().chars().next() {
            None => None,
            Some('{' | '[' | '"') => Some(HeaderValue::from_static("application/json")),
            Some(_) => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        };
        Ok(Self {
            name: name.clone(),
            kind: source.kind,
            ack: Bytes::from(ack),
            ack_type,
            probe: source.probe,
            fields: source.fields.clone(),
            tenants,
        })
    }
}

impl Resident {
    fn new(name: &TenantName, tenant: &Tenant, verifier: Verifier) -> Self {
        Self {
            name: name.clone(),
            token: tenant.enterprise_token.clone(),
            verifier,
            waiting: Waiting::default(),
            path_secret: tenant.path_secret.clone(),
            allow_from: tenant.allow_from.clone(),
        }
    }

    /// Whether a URL without a path secret may lead here.
    pub(super) const fn is_open(&self) -> bool {
        self.path_secret.is_none()
    }

    /// Whether the URL's last segment is this tenant's secret, or neither exists.
    fn knows(&self, segment: Option<&str>) -> bool {
        match (&self.path_secret, segment) {
            (None, None) => true,
            (Some(secret), Some(segment)) => {
                // Compared in constant time.
                let same = percent_decode(segment).is_some_and(|segment| *secret == Secret::new(segment));
                same && !secret.is_empty()
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// Whether requests from an address are taken.
    ///
    /// # Errors
    /// [`Problem::Address`].
    pub(super) fn allows(&self, client: Option<IpAddr>) -> Result<(), Refusal> {
        let listed = || client.is_some_and(|client| address::contains(&self.allow_from, client));
        if self.allow_from.is_empty() || listed() { Ok(()) } else { Err(Problem::Address.into()) }
    }
}

/// Undoes `%41`; a `%` that begins no such triple stands for itself. `None` if that leaves no UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let mut byte = [0];
        match after.split_at_checked(2) {
            Some((digits, further)) if *first == b'%' && hex::decode_to_slice(digits, &mut byte).is_ok() => {
                decoded.extend_from_slice(&byte);
                rest = further;
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::{Resident, percent_decode};
    use crate::{
        config::settings::{Signature, SignatureEncoding, SignatureScheme, Tenant},
        domain::{Secret, TenantName},
        vendors::signature::Verifier,
    };

    fn resident(path_secret: Option<&str>) -> Resident {
        let signature = Signature {
            scheme: SignatureScheme::None,
            headers: Vec::new(),
            encoding: SignatureEncoding::Hex,
            prefix: String::new(),
        };
        let tenant = Tenant {
            enterprise_token: None,
            enterprise_id: None,
            tenant_id: None,
            secrets: Vec::new(),
            path_secret: path_secret.map(|text| Secret::new(text.to_owned())),
            allow_from: vec!["10.0.0.0/8".parse().unwrap()],
            api: None,
            reconcile: None,
            poll_sessions: None,
            reports: None,
        };
        Resident::new(&TenantName::parse("acme").unwrap(), &tenant, Verifier::new(&signature, &[]).unwrap())
    }

    #[test]
    fn a_path_secret_must_be_there_and_be_the_same_one() {
        for (secret, segment, expected) in [
            (None, None, true),
            (None, Some("s"), false),
            (Some("s"), None, false),
            (Some("s"), Some("s"), true),
            (Some("s"), Some("%73"), true),
            (Some("s"), Some("S"), false),
            (Some("s"), Some("ss"), false),
            (Some("s"), Some("%ff"), false),
            (Some(""), Some(""), false),
        ] {
            assert_eq!(resident(secret).knows(segment), expected, "{secret:?} {segment:?}");
        }
    }

    #[test]
    fn an_address_that_cannot_be_told_is_not_on_any_list() {
        let resident = resident(None);
        assert!(resident.allows("10.1.2.3".parse().ok()).is_ok());
        assert!(resident.allows("11.1.2.3".parse().ok()).is_err());
        assert!(resident.allows(None).is_err());
    }

    #[test]
    fn percent_signs_that_begin_no_triple_stand_for_themselves() {
        for (text, expected) in
            [("a%2Fb%20", Some("a/b ")), ("100%", Some("100%")), ("%zz%4", Some("%zz%4")), ("%ff", None)]
        {
            assert_eq!(percent_decode(text).as_deref(), expected, "{text}");
        }
    }
}
