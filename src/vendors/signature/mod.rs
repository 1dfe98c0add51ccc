//! Whether a push comes from who it claims: one [`Verifier`] a tenant, made once from the settings.
//!
//! The bytes that are signed are the body as it came over the wire. Every configured header that is present must
//! match *some* live secret; one that is repeated, empty or unreadable fails the whole push, whatever stands beside
//! it. Digests are compared in constant time, and each live secret is always tried: the time an answer takes says
//! nothing about which secret, or how much of a digest, was right. Why a push failed is never told to its sender.

mod digest;
mod standard;

use crate::{
    config::settings::{Signature, SignatureScheme},
    domain::{Secret, Timestamp},
};
use digest::{Keyed, Written};
use http::{HeaderMap, HeaderName, HeaderValue};
use standard::StandardWebhooks;

/// Why a verifier cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A configured header's name is no header name.
    #[error("`{0}` is not a header name")]
    Header(String),
    /// There is nothing that could verify.
    #[error("a signed source needs a secret, and none may be empty")]
    NoSecret,
    /// There is no header to look at.
    #[error("a signed source needs the name of the header that carries the signature")]
    NoHeader,
    /// A Standard Webhooks secret is not base64 behind its `whsec_`.
    #[error("the secret is not base64 behind `whsec_`")]
    NotBase64,
}

/// The push is not verified. There is nothing more to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// None of the headers is there.
    #[error("no signature")]
    Missing,
    /// One that is there does not match.
    #[error("wrong signature")]
    Wrong,
}

/// Verifies and makes the signatures of one tenant.
#[derive(Debug)]
pub struct Verifier {
    headers: Vec<HeaderName>,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    /// A digest of the body in each header.
    Digest {
        keys: Vec<Keyed>,
        written: Written,
    },
    /// The header is a secret itself.
    Token {
        secrets: Vec<Secret>,
        prefix: String,
    },
    Standard(StandardWebhooks),
    /// Nothing is signed.
    Unsigned,
}

impl Verifier {
    /// Makes the verifier of a tenant: the source's scheme with the tenant's live secrets.
    ///
    /// # Errors
    /// [`SignatureError`] when a scheme that signs has no secret, no header, or one that cannot be.
    pub fn new(signature: &Signature, secrets: &[Secret]) -> Result<Self, SignatureError> {
        let headers: Vec<HeaderName> = signature
            .headers
            .iter()
            .map(|name| name.parse().map_err(|_| SignatureError::Header(name.clone())))
            .collect::<Result<_, _>>()?;
        if signature.scheme == SignatureScheme::None {
            return Ok(Self { headers, rule: Rule::Unsigned });
        }
        if secrets.is_empty() || secrets.iter().any(Secret::is_empty) {
            return Err(SignatureError::NoSecret);
        }
        if headers.is_empty() {
            return Err(SignatureError::NoHeader);
        }
        let digest = |make: fn(&Secret) -> Keyed, written: Written| Rule::Digest {
            keys: secrets.iter().map(make).collect(),
            written,
        };
        let plain = || Written::plain(signature.encoding, &signature.prefix);
        let rule = match signature.scheme {
            SignatureScheme::None => Rule::Unsigned,
            SignatureScheme::Sha1Suffix => digest(Keyed::sha1_suffix, plain()),
            SignatureScheme::HmacSha1 => digest(Keyed::hmac_sha1, plain()),
            SignatureScheme::HmacSha256 => digest(Keyed::hmac_sha256, plain()),
            SignatureScheme::MeiqiaSign => digest(Keyed::hmac_sha1, Written::meiqia_sign(&signature.prefix)),
            SignatureScheme::Token => Rule::Token { secrets: secrets.to_vec(), prefix: signature.prefix.clone() },
            SignatureScheme::StandardWebhooks => Rule::Standard(StandardWebhooks::new(&headers, secrets)?),
        };
        Ok(Self { headers, rule })
    }

    /// Whether pushes are signed at all.
    #[must_use]
    pub const fn signs(&self) -> bool {
        !matches!(self.rule, Rule::Unsigned)
    }

    /// The headers that carry a signature or a credential, never to be kept or shown.
    #[must_use]
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Whether any of the signature's headers is there, whatever it says.
    #[must_use]
    pub fn is_claimed(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().any(|name| headers.contains_key(name))
    }

    /// Verifies a body.
    ///
    /// # Errors
    /// [`Unverified`] unless a header is there and every header that is there matches a live secret.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), Unverified> {
        match &self.rule {
            Rule::Unsigned => Ok(()),
            Rule::Digest { keys, written } => {
                // Nearly always there is one secret; while rotating, each digest is made once for all headers.
                if let [key] = keys.as_slice() {
                    return self.each(headers, |value| {
                        written.read(value).is_some_and(|claimed| key.digest(body).matches(&claimed))
                    });
                }
                let mut digests = None;
                self.each(headers, |value| {
                    let Some(claimed) = written.read(value) else { return false };
                    let digests =
                        digests.get_or_insert_with(|| keys.iter().map(|key| key.digest(body)).collect::<Vec<_>>());
                    // Every secret is tried, found or not.
                    digests.iter().fold(false, |found, digest| digest.matches(&claimed) | found)
                })
            }
            Rule::Token { secrets, prefix } => self.each(headers, |value| {
                let Some(token) = value.strip_prefix(prefix.as_bytes()) else { return false };
                secrets.iter().fold(false, |found, secret| digest::same(secret.expose().as_bytes(), token) | found)
            }),
            Rule::Standard(standard) => {
                let signed = standard.signed(headers, now);
                self.each(headers, |value| {
                    signed.as_ref().is_some_and(|(id, time)| standard.matches(id, time, body, value))
                })
            }
        }
    }

    /// Signs a body as the sender would, with the first secret: the headers to send. `id` names the message where
    /// the scheme signs an id.
    #[must_use]
    pub fn sign(&self, body: &[u8], id: &str, now: Timestamp) -> Vec<(HeaderName, HeaderValue)> {
        let value = match &self.rule {
            Rule::Unsigned => None,
            Rule::Digest { keys, written } => keys.first().map(|key| written.write(&key.digest(body))),
            Rule::Token { secrets, prefix } => {
                secrets.first().map(|secret| [prefix.as_str(), secret.expose()].concat())
            }
            Rule::Standard(standard) => return standard.sign(body, id, now),
        };
        let header = self.headers.first().cloned();
        header.zip(value.and_then(|value| HeaderValue::from_str(&value).ok())).into_iter().collect()
    }

    /// Applies `matches` to every signature header that is there; all must match, and one must be there.
    fn each(&self, headers: &HeaderMap, mut matches: impl FnMut(&[u8]) -> bool) -> Result<(), Unverified> {
        let mut present = false;
        for name in &self.headers {
            let mut values = headers.get_all(name).iter();
            let Some(value) = values.next() else { continue };
            present = true;
            if values.next().is_some() || !matches(value.as_bytes().trim_ascii()) {
                return Err(Unverified::Wrong);
            }
        }
        if present { Ok(()) } else { Err(Unverified::Missing) }
    }
}

#[cfg(test)]
mod tests;
