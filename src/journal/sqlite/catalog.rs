//! What the ends of a store share: its segments, how far they are readable, and connections to read them.

use crate::{
    domain::{HashKeys, Offset, Timestamp},
    journal::{
        Heads,
        sqlite::{database::open_reader, folder::Folder, segment::Segment},
    },
};
use rusqlite::Connection;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Connections that wait for the next read; the one used longest ago is closed beyond that.
const CONNECTIONS_KEPT: usize = 16;

/// Shared by appender, log, sealer and keeper.
#[derive(Debug)]
pub struct Catalog {
    /// The folder, locked.
    pub folder: Folder,
    /// What bodies and rows are checked with.
    pub keys: HashKeys,
    /// In order; the last one is written to.
    segments: RwLock<Vec<Arc<Segment>>>,
    heads: (AtomicU64, AtomicU64),
    /// Every segment below this number is sealed or gone.
    sealed_below: AtomicU32,
    idle: Mutex<Vec<(u32, Connection)>>,
}

/// A segment and where it ends.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// The segment.
    pub segment: Arc<Segment>,
    /// The first rows after it.
    pub end: Heads,
    /// When the next one was made; `None` for the one that is written to.
    pub closed_at: Option<Timestamp>,
}

impl Catalog {
    /// Shares segments that were found at a start.
    #[must_use]
    pub fn new(folder: Folder, keys: HashKeys, segments: Vec<Arc<Segment>>, heads: Heads) -> Self {
        Self {
            folder,
            keys,
            segments: RwLock::new(segments),
            heads: (AtomicU64::new(heads.events), AtomicU64::new(heads.routed)),
            sealed_below: AtomicU32::new(0),
            idle: Mutex::default(),
        }
    }

    /// The first rows that nobody may read yet.
    #[must_use]
    pub fn heads(&self) -> Heads {
        // In the reverse order of `publish`: a decision is never readable before its event.
        let routed = self.heads.1.load(Ordering::Acquire);
        Heads { events: self.heads.0.load(Ordering::Acquire), routed }
    }

    /// Lets everybody read below these rows.
    pub fn publish(&self, heads: Heads) {
        self.heads.0.store(heads.events, Ordering::Release);
        self.heads.1.store(heads.routed, Ordering::Release);
    }

    /// The first rows of the first segment.
    #[must_use]
    pub fn first(&self) -> Heads {
        self.read().first().map(|segment| segment.first).unwrap_or_default()
    }

    /// Every segment that is there, in order.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let heads = self.heads();
        let segments = self.read();
        let next = segments.iter().skip(1).map(Some).chain([None]);
        segments.iter().zip(next).map(|(segment, next)| stretch(segment, next, heads)).collect()
    }

    /// The segment that holds a row, or else the next one after it; `row` says which log is meant.
    #[must_use]
    pub fn find(&self, offset: Offset, row: impl Fn(&Heads) -> Offset) -> Option<Stretch> {
        let heads = self.heads();
        let segments = self.read();
        let after = segments.partition_point(|segment| row(&segment.first) <= offset);
        let mut index = after.saturating_sub(1);
        // Between two segments there is a gap where one was lost.
        let ended = segments.get(index).and_then(|segment| segment.end());
        if ended.is_some_and(|end| offset >= row(&end)) && after < segments.len() {
            index = after;
        }
        let segment = segments.get(index)?;
        Some(stretch(segment, segments.get(index + 1), heads))
    }

    /// The segment that is written to.
    #[must_use]
    pub fn tail(&self) -> Option<Arc<Segment>> {
        self.read().last().cloned()
    }

    /// Adds the segment that is written to from now on.
    pub fn add(&self, segment: Arc<Segment>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Takes a segment out that retention is about to remove; nobody finds it any more.
    pub fn remove(&self, number: u32) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).retain(|segment| segment.number != number);
        self.idle().retain(|(idle, _)| *idle != number);
    }

    /// Every segment below this number is sealed or gone.
    #[must_use]
    pub fn sealed_below(&self) -> u32 {
        self.sealed_below.load(Ordering::Acquire)
    }

    /// Takes note that every segment below a number is sealed or gone.
    pub fn note_sealed_below(&self, number: u32) {
        self.sealed_below.fetch_max(number, Ordering::AcqRel);
    }

    /// Reads from a segment with a connection of its own.
    ///
    /// # Errors
    /// SQLite's, from opening the file or from `work`.
    pub fn with_reader<R>(
        &self,
        number: u32,
        work: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let connection = self.take_idle(number).map_or_else(|| open_reader(&self.folder.segment(number)), Ok)?;
        let result = work(&connection);
        // After an error the connection may be in any state: it is not used again. One to a segment that was removed
        // meanwhile would keep its bytes on the disk.
        if result.is_ok() && self.read().iter().any(|segment| segment.number == number) {
            let mut idle = self.idle();
            let left = (idle.len() >= CONNECTIONS_KEPT).then(|| idle.remove(0));
            idle.push((number, connection));
            drop(idle);
            drop(left);
        }
        result
    }

    /// Closes the connections that wait for the next read.
    pub fn close_idle(&self) {
        self.idle().clear();
    }

    fn take_idle(&self, number: u32) -> Option<Connection> {
        let mut idle = self.idle();
        let index = idle.iter().rposition(|(idle, _)| *idle == number)?;
        Some(idle.remove(index).1)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(u32, Connection)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stretch(segment: &Arc<Segment>, next: Option<&Arc<Segment>>, heads: Heads) -> Stretch {
    let end = segment.end().or(next.map(|next| next.first)).unwrap_or(heads);
    Stretch { segment: Arc::clone(segment), end, closed_at: next.map(|next| next.created_at) }
}
