//! Which ids have come before: what the intake asks about everything older than its own map.
//!
//! An id is two keyed hashes, of (source, tenant, vendor id) and of the body. The intake itself holds the pairs of
//! segments that are not sealed; those of sealed segments lie in files of their own and are asked for here.

use crate::domain::Offset;

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Known {
    /// It never came.
    New,
    /// It came with another body.
    Conflict,
    /// It came with this body.
    Duplicate,
}

impl Known {
    /// What two places together know: a duplicate in one of them is a duplicate.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }
}

/// One id as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdPair {
    /// Keyed hash of (source, tenant, vendor id).
    pub id_hash: u64,
    /// Keyed hash of the body.
    pub body_hash: u64,
}

/// The ids of one segment that is not sealed, as a start reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsealedIds {
    /// The segment's first event.
    pub start: Offset,
    /// Its ids, in the order of its events.
    pub pairs: Vec<IdPair>,
}

/// The ids of sealed segments.
pub trait SealedIds: Send + Sync {
    /// Looks an id up. An unreadable file answers [`Known::New`]: a re-send is then stored again, never lost.
    fn find(&self, id_hash: u64, body_hash: u64) -> Known;
}

impl<T: SealedIds> SealedIds for std::sync::Arc<T> {
    fn find(&self, id_hash: u64, body_hash: u64) -> Known {
        self.as_ref().find(id_hash, body_hash)
    }
}
