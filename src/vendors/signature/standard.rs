//! Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`, several signatures in one header while secrets rotate.
//!
//! Source: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. Senders that
//! spell the headers `svix-…` are read too: the id and the time stand beside the signature, under its own prefix.

use super::{
    SignatureError,
    digest::{self, Keyed},
};
use crate::domain::{Secret, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue};

/// How far a message's time may lie from ours, either way.
const TOLERANCE_MILLIS: u64 = 300_000;

/// What stands before a secret's base64.
const SECRET_PREFIX: &str = "whsec_";

/// Signatures in one header, at most; senders put one for each live secret.
const SIGNATURES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct StandardWebhooks {
    keys: Vec<Keyed>,
    id: HeaderName,
    time: HeaderName,
    signature: HeaderName,
}

impl StandardWebhooks {
    pub(super) fn new(headers: &[HeaderName], secrets: &[Secret]) -> Result<Self, SignatureError> {
        let signature = headers.first().cloned().ok_or(SignatureError::NoHeader)?;
        let prefix = signature.as_str().strip_suffix("-signature").unwrap_or("webhook");
        let beside = |what: &str| {
            HeaderName::try_from(format!("{prefix}-{what}"))
                .map_err(|_| SignatureError::Header(signature.as_str().to_owned()))
        };
        let keys = secrets
            .iter()
            .map(|secret| {
                let text = secret.expose();
                let text = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
                let key = digest::from_base64(text.as_bytes()).filter(|key| !key.is_empty());
                key.map(|key| Keyed::hmac_sha256_bytes(&key)).ok_or(SignatureError::NotBase64)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { keys, id: beside("id")?, time: beside("timestamp")?, signature })
    }

    /// The id and time that are signed with the body, if both are there once and the time is near.
    pub(super) fn signed<'a>(&self, headers: &'a HeaderMap, now: Timestamp) -> Option<(&'a str, &'a str)> {
        let id = once(headers, &self.id)?;
        let time = once(headers, &self.time)?;
        let millis = time.parse::<i64>().ok()?.checked_mul(1000)?;
        (now.as_millis().abs_diff(millis) <= TOLERANCE_MILLIS).then_some((id, time))
    }

    /// Whether one of the header's signatures matches.
    pub(super) fn matches(&self, id: &str, time: &str, body: &[u8], value: &[u8]) -> bool {
        let digests: Vec<_> = self.keys.iter().map(|key| key.digest_parts(&signed_parts(id, time, body))).collect();
        value
            .split(|byte| *byte == b' ')
            .take(SIGNATURES_MAX)
            .filter_map(|signature| digest::claimed_base64(signature.strip_prefix(b"v1,")?))
            .fold(false, |found, claimed| digests.iter().fold(found, |found, digest| digest.matches(&claimed) | found))
    }

    pub(super) fn sign(&self, body: &[u8], id: &str, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
        let time = (now.as_millis() / 1000).to_string();
        let Some(key) = self.keys.first() else { return Vec::new() };
        let signature = format!("v1,{}", key.digest_parts(&signed_parts(id, &time, body)).to_base64());
        [(&self.id, id), (&self.time, &time), (&self.signature, &signature)]
            .into_iter()
            .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(value).ok()?)))
            .collect()
    }
}

fn signed_parts<'a>(id: &'a str, time: &'a str, body: &'a [u8]) -> [&'a [u8]; 5] {
    [id.as_bytes(), b".", time.as_bytes(), b".", body]
}

fn once<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    (values.next().is_none() && !value.is_empty()).then_some(value)
}
