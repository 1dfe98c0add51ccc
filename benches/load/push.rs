//! Signed pushes, made as they are sent and cheap enough not to matter.
//!
//! A push is one request of fixed length in one buffer. What differs from push to push (key, id) stands at the end of
//! the body, so that the hash of everything before it is computed once: signing costs one block of SHA-1.

use sha1::{Digest, Sha1};

/// The secret that signs every push.
pub const SECRET: &str = "load-secret";
/// The vendor's name for the tenant, as the routes file has it too.
pub const ENTERPRISE: &str = "b6bd473a003a99216d3f63cc329869b3";
const DIGITS: usize = 12;

/// A request, and how to make the next one of it.
#[derive(Clone)]
pub struct Push {
    request: Vec<u8>,
    hashed: Sha1,
    signature: usize,
    body: usize,
    tail: usize,
    key: usize,
    id: usize,
    keys: u64,
}

impl Push {
    /// A push whose body is about `body_bytes` long, and whose keys repeat after `keys`.
    pub fn new(body_bytes: usize, keys: u64) -> Self {
        let head = format!(
            r#"{{"event":"cus.upsert","enterprise_token":"{ENTERPRISE}","created_at":1726824224,"body":{{"name":"小黄鸭","tel":"13800000000","weixin":"duck","source":"redbook","level":"A","tags":["新客","北京"],"remark":""#
        );
        let zeros = "0".repeat(DIGITS);
        let tail = format!(r#"","track_id":"trk_{zeros}"}},"id":"sub_{ENTERPRISE}_1726824224_{zeros}"}}"#);
        let filler = "x".repeat(body_bytes.saturating_sub(head.len() + tail.len()));
        let body = format!("{head}{filler}{tail}");
        let request = format!(
            "POST /hooks/laigu/acme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             Laigu-Signature: {}\r\nContent-Length: {}\r\n\r\n{body}",
            "0".repeat(40),
            body.len()
        );
        let from_end = |end: &str| request.len() - tail.len() + tail.find(end).unwrap_or_default();
        Self {
            signature: request.find("Laigu-Signature: ").unwrap_or_default() + "Laigu-Signature: ".len(),
            body: request.len() - body.len(),
            tail: request.len() - tail.len(),
            key: from_end("trk_") + "trk_".len(),
            id: request.len() - DIGITS - 2,
            hashed: Sha1::new_with_prefix(body.strip_suffix(&tail).unwrap_or(&body)),
            keys,
            request: request.into_bytes(),
        }
    }

    /// The request that carries push number `number`.
    pub fn number(&mut self, number: u64) -> &[u8] {
        let key = number.checked_rem(self.keys).unwrap_or(number);
        write_digits(&mut self.request[self.key..self.key + DIGITS], key);
        write_digits(&mut self.request[self.id..self.id + DIGITS], number);
        let mut hash = self.hashed.clone();
        hash.update(&self.request[self.tail..]);
        hash.update(SECRET);
        let digest = hash.finalize();
        let place = &mut self.request[self.signature..self.signature + 40];
        hex::encode_to_slice(digest, place).expect("40 bytes hold the hex of 20");
        &self.request
    }

    /// The body of the request made last.
    pub fn body(&self) -> &[u8] {
        &self.request[self.body..]
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}
