//! Pushes: made from a key and a number alone, so that a re-send is the same bytes, and so that the oracle knows
//! without asking the product what each one says and where it must go.

use sha1::{Digest, Sha1};
use std::fmt::Write;

/// Different keys.
pub const KEYS: usize = 64;
/// The vendor's name for the tenant.
pub const ENTERPRISE: &str = "b6bd473a003a99216d3f63cc329869b3";
/// What signs every push.
pub const SECRET: &str = "crash-secret";

/// The sources, and the conditions that [`Push::routes`] knows by other means.
pub const SOURCES: &str = "sources:
  laigu:
    type: laigu
    tenants:
      acme: { enterprise_token: b6bd473a003a99216d3f63cc329869b3, secret: crash-secret }
";

/// The push of a key with a number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Push {
    pub key: usize,
    pub number: usize,
}

impl Push {
    /// The vendor's id.
    pub fn id(self) -> String {
        format!("sub_{:03}_{:07}", self.key, self.number)
    }

    /// Reads [`Push::id`].
    pub fn from_id(id: &str) -> Option<Self> {
        let (key, number) = id.strip_prefix("sub_")?.split_once('_')?;
        let push = Self { key: key.parse().ok()?, number: number.parse().ok()? };
        (push.id() == id && push.key < KEYS).then_some(push)
    }

    pub fn track_id(self) -> String {
        format!("trk_{:03}", self.key)
    }

    pub fn is_lead(self) -> bool {
        self.number.is_multiple_of(3)
    }

    pub fn is_vip(self) -> bool {
        self.number.is_multiple_of(5)
    }

    /// Its bytes: no two alike, some over several lines, with what a careless program would change on the way.
    pub fn body(self) -> Vec<u8> {
        let line = if self.number % 4 == 1 { "\r\n  " } else { "" };
        let mut text = format!(
            "{{\"event\":\"cus.upsert\",{line}\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
             {line}\"body\":{{\"name\":\"小黄鸭 \\u00e9\\/\\\"\",\"big\":12345678901234567890123,\"r\":1.00e2,"
        );
        if self.is_lead() {
            text.push_str("\"tel\":\"13800000000\",");
        }
        if self.is_vip() {
            text.push_str("\"level\":\"A\",");
        }
        let filler = "x".repeat(self.number * 37 % 400);
        let (track_id, id) = (self.track_id(), self.id());
        write!(text, "\"remark\":\"{filler}\",{line}\"track_id\":\"{track_id}\"}},\"id\":\"{id}\"}}").unwrap();
        text.into_bytes()
    }

    /// The request that carries it, signed.
    pub fn request(self) -> Vec<u8> {
        signed(&self.body())
    }
}

/// The request that carries a body, signed.
pub fn signed(body: &[u8]) -> Vec<u8> {
    request(body, &sign(body, SECRET))
}

/// What Laigu writes into the header.
pub fn sign(body: &[u8], secret: &str) -> String {
    hex::encode(Sha1::new().chain_update(body).chain_update(secret).finalize())
}

/// The request that carries a body with a signature, right or wrong.
pub fn request(body: &[u8], signature: &str) -> Vec<u8> {
    let mut request = format!(
        "POST /hooks/laigu/acme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Laigu-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}
