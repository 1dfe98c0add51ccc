//! The keyed hashes by which re-sends are told, bodies checked and keys kept in order.

use crate::domain::{OrderKey, Timestamp};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The store's own hash key: drawn when the store is made, kept with it, never shown.
///
/// Keyed, so that a sender cannot make two ids or keys collide on purpose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKeys {
    /// The first half of the key.
    pub first: u64,
    /// The second half of the key.
    pub second: u64,
}

/// What a hash is taken of; keeps equal texts in different roles apart.
#[derive(Clone, Copy)]
enum Domain {
    Id = 1,
    Body = 2,
    Order = 3,
    Version = 4,
}

impl HashKeys {
    /// The hash of (source, tenant, vendor id).
    #[must_use]
    pub fn id(&self, source: &str, tenant: &str, id: &str) -> u64 {
        self.of(Domain::Id, &[source.as_bytes(), tenant.as_bytes(), id.as_bytes()])
    }

    /// The hash of a body.
    #[must_use]
    pub fn body(&self, body: &[u8]) -> u64 {
        self.of(Domain::Body, &[body])
    }

    /// What events of one key keep their order by.
    #[must_use]
    pub fn order(&self, source: &str, tenant: &str, key: &str) -> OrderKey {
        OrderKey(self.of(Domain::Order, &[source.as_bytes(), tenant.as_bytes(), key.as_bytes()]))
    }

    /// The hash of a record's version, or of the record without one; `place` is its source and tenant.
    #[must_use]
    pub fn version(&self, place: (&str, &str), kind: &str, key: &str, at: Option<Timestamp>) -> u64 {
        let at = at.map(|at| at.as_millis().to_le_bytes());
        let at = at.as_ref().map_or(&[][..], |bytes| bytes);
        let (source, tenant) = place;
        self.of(Domain::Version, &[source.as_bytes(), tenant.as_bytes(), kind.as_bytes(), key.as_bytes(), at])
    }

    fn of(&self, domain: Domain, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.first ^ domain as u64, self.second);
        for part in parts {
            // The length before the bytes, so that ("ab", "c") and ("a", "bc") differ.
            hasher.write(&(part.len() as u64).to_le_bytes());
            hasher.write(part);
        }
        hasher.finish()
    }
}

impl std::fmt::Debug for HashKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("HashKeys([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::HashKeys;

    #[test]
    fn parts_roles_and_keys_are_told_apart() {
        let keys = HashKeys { first: 1, second: 2 };
        assert_eq!(keys.id("laigu", "acme", "sub_1"), keys.id("laigu", "acme", "sub_1"));
        assert_ne!(keys.id("laigu", "acme", "sub_1"), keys.id("laig", "uacme", "sub_1"));
        assert_ne!(keys.id("laigu", "acme", "sub_1"), keys.order("laigu", "acme", "sub_1").0);
        assert_ne!(keys.body(b"{}"), HashKeys { first: 1, second: 3 }.body(b"{}"));
    }

    #[test]
    fn hashes_do_not_change_between_versions_because_they_are_stored() {
        let keys = HashKeys { first: 1, second: 2 };
        assert_eq!(keys.body(b"{}"), 4772577997076461143);
    }
}
