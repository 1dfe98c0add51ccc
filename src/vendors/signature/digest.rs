//! Digests of a body: how they are computed, and how a header writes them.

use crate::{config::settings::SignatureEncoding, domain::Secret};
use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::fmt;
use subtle::ConstantTimeEq;

/// Takes padded and unpadded: senders of one scheme disagree about it.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// What stands before the base64 in an offline push of the Meiqia SDK.
const MEIQIA_SIGN: &str = "meiqia_sign:";

/// The longest text that can be a digest: base64 of the hex of 32 bytes, with room to spare.
const WRITTEN_BYTES_MAX: usize = 128;

/// A secret ready to make digests.
#[derive(Clone)]
pub(super) enum Keyed {
    /// SHA1(body, then secret): not an HMAC.
    Sha1Suffix(Secret),
    HmacSha1(Hmac<Sha1>),
    HmacSha256(Hmac<Sha256>),
}

impl Keyed {
    pub(super) fn sha1_suffix(secret: &Secret) -> Self {
        Self::Sha1Suffix(secret.clone())
    }

    pub(super) fn hmac_sha1(secret: &Secret) -> Self {
        let key = secret.expose().as_bytes();
        Self::HmacSha1(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub(super) fn hmac_sha256(secret: &Secret) -> Self {
        Self::hmac_sha256_bytes(secret.expose().as_bytes())
    }

    pub(super) fn hmac_sha256_bytes(key: &[u8]) -> Self {
        Self::HmacSha256(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub(super) fn digest(&self, body: &[u8]) -> Sum {
        self.digest_parts(&[body])
    }

    /// The digest of the parts one after the other.
    pub(super) fn digest_parts(&self, parts: &[&[u8]]) -> Sum {
        match self {
            Self::Sha1Suffix(secret) => {
                let mut sha1 = Sha1::new();
                parts.iter().for_each(|part| sha1.update(part));
                sha1.update(secret.expose().as_bytes());
                Sum::of(&sha1.finalize())
            }
            Self::HmacSha1(keyed) => {
                let mut hmac = keyed.clone();
                parts.iter().for_each(|part| Mac::update(&mut hmac, part));
                Sum::of(&hmac.finalize().into_bytes())
            }
            Self::HmacSha256(keyed) => {
                let mut hmac = keyed.clone();
                parts.iter().for_each(|part| Mac::update(&mut hmac, part));
                Sum::of(&hmac.finalize().into_bytes())
            }
        }
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[secret]")
    }
}

/// A digest, ours or a claimed one: up to 64 bytes, kept in place.
pub(super) struct Sum {
    bytes: [u8; 64],
    len: usize,
}

impl Sum {
    fn of(digest: &[u8]) -> Self {
        Self::read(digest).expect("a digest has at most 64 bytes")
    }

    fn read(claimed: &[u8]) -> Option<Self> {
        let mut bytes = [0; 64];
        bytes.get_mut(..claimed.len())?.copy_from_slice(claimed);
        Some(Self { bytes, len: claimed.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Compares in constant time.
    pub(super) fn matches(&self, claimed: &Self) -> bool {
        same(self.as_bytes(), claimed.as_bytes())
    }

    pub(super) fn to_base64(&self) -> String {
        BASE64.encode(self.as_bytes())
    }
}

/// Compares in constant time; only lengths may show.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Reads base64 in either alphabet, padded or not.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    if url_safe { BASE64_URL.decode(text) } else { BASE64.decode(text) }.ok()
}

/// Reads a claimed digest in base64.
pub(super) fn claimed_base64(text: &[u8]) -> Option<Sum> {
    if text.len() > WRITTEN_BYTES_MAX {
        return None;
    }
    Sum::read(&from_base64(text)?)
}

/// How a header writes a digest.
#[derive(Debug, Clone)]
pub(super) struct Written {
    prefix: String,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Hex,
    Base64,
    /// Base64 of the lower-case hex.
    Base64OfHex,
}

impl Written {
    pub(super) fn plain(encoding: SignatureEncoding, prefix: &str) -> Self {
        let form = match encoding {
            SignatureEncoding::Hex => Form::Hex,
            SignatureEncoding::Base64 => Form::Base64,
        };
        Self { prefix: prefix.to_owned(), form }
    }

    pub(super) fn meiqia_sign(prefix: &str) -> Self {
        let prefix = if prefix.is_empty() { MEIQIA_SIGN } else { prefix };
        Self { prefix: prefix.to_owned(), form: Form::Base64OfHex }
    }

    /// Reads what a header claims; `None` when that is no digest.
    pub(super) fn read(&self, value: &[u8]) -> Option<Sum> {
        let value = value.strip_prefix(self.prefix.as_bytes())?.trim_ascii();
        if value.is_empty() || value.len() > WRITTEN_BYTES_MAX {
            return None;
        }
        match self.form {
            Form::Hex => from_hex(value),
            Form::Base64 => claimed_base64(value),
            Form::Base64OfHex => from_hex(&from_base64(value)?),
        }
    }

    pub(super) fn write(&self, sum: &Sum) -> String {
        let digest = match self.form {
            Form::Hex => hex::encode(sum.as_bytes()),
            Form::Base64 => sum.to_base64(),
            Form::Base64OfHex => BASE64.encode(hex::encode(sum.as_bytes())),
        };
        [self.prefix.as_str(), &digest].concat()
    }
}

/// Reads hex in either case.
fn from_hex(text: &[u8]) -> Option<Sum> {
    let mut bytes = [0; 64];
    let len = text.len() / 2;
    hex::decode_to_slice(text, bytes.get_mut(..len)?).ok()?;
    Some(Sum { bytes, len })
}
