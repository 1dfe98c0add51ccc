//! Which ids have come before: what the intake asks about everything older than its own map.
//!
//! An id is two keyed hashes, of (source, tenant, vendor id) and of the body. The intake itself holds the pairs of
//! segments that are not sealed; those of sealed segments lie in files of their own and are asked for here.
//!
//! Fingerprints stand among them as pairs of their own: the hash of a record's version, and how it came. So they live
//! exactly as long as ids do, through restarts and sealing. A push is never held against another push by them.

use crate::domain::{NewEvent, Offset, Origin};

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

/// What stands in the place of a body's hash beside the fingerprint of a push.
const PUSHED: u64 = 1;
/// The same for a reconciled record.
const RECONCILED: u64 = 2;

/// All that is kept among the ids of an event: its id with its body, and what tells a push from a reconciled record.
pub fn pairs_of(event: &NewEvent) -> impl Iterator<Item = IdPair> + use<> {
    let own = IdPair { id_hash: event.id_hash, body_hash: event.body_hash };
    let came = match event.origin {
        Origin::Push | Origin::Poll => PUSHED,
        Origin::Reconcile | Origin::Report => RECONCILED,
    };
    let prints = [event.fingerprint.exact, event.fingerprint.any];
    let prints = prints.into_iter().flatten().map(move |print| IdPair { id_hash: print, body_hash: came });
    std::iter::once(own).chain(prints)
}

/// What must have come before for an event to be superseded (a push) or known already (a reconciled record).
///
/// A push is only held against reconciled records; a reconciled record against both, but against pushes alone where those
/// named no version.
pub fn rivals_of(event: &NewEvent) -> impl Iterator<Item = IdPair> + use<> {
    let pair = |print: Option<u64>, came: u64| print.map(|print| IdPair { id_hash: print, body_hash: came });
    let (exact, any) = (event.fingerprint.exact, event.fingerprint.any);
    let rivals = match event.origin {
        Origin::Push => [pair(exact, RECONCILED), pair(any, RECONCILED), None],
        Origin::Reconcile | Origin::Report => [pair(exact, PUSHED), pair(exact, RECONCILED), pair(any, PUSHED)],
        Origin::Poll => [None, None, None],
    };
    rivals.into_iter().flatten()
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
