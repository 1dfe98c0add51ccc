//! The store: two append-only logs and the marks of those who read them.
//!
//! EVENTS holds every accepted push, ROUTED one row for every decision. Both live in segments, both are written
//! by one appender in one group commit. Beside them stands the state: how far each lane has come, what it got
//! for an answer, and the shelf with what is parked or dead.
//!
//! What a journal promises, whatever engine carries it:
//! - **Dense.** `append` gives each log's rows the next numbers, from 1; nothing is ever inserted in between.
//! - **Visible in order.** A reader that has seen row n has seen every row before it. What is not committed
//!   cannot be read, and a batch that failed leaves no trace: its numbers are given again.
//! - **Durable.** When `append` or `settle` says `Ok`, the rows survive a power cut.
//! - **All or nothing.** A batch is one transaction; so is everything handed to one `settle`.
//! - **Fenced.** Only the holder of the newest fence can write.
//!
//! Nothing is atomic between the logs and the state, or between two partitions. Everything in between is done
//! again after a crash, and every repeat is idempotent by position.

use crate::domain::{
    DeadCause, Decision, DestinationName, Event, EventId, Incarnation, NewEvent, Offset, OrderKey, Partition,
    ReplayJob, RouteName, Routed, RoutedRow, Timestamp,
};
use std::{sync::Arc, time::Duration};

#[cfg(test)]
mod agreement;
pub mod budget;
pub mod ids;
pub mod memory;
#[cfg(test)]
pub(crate) mod samples;
pub mod sqlite;
pub mod tail;

/// The next row number of each log of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heads {
    /// The number that the next event will get.
    pub events: Offset,
    /// The number that the next decision will get.
    pub routed: Offset,
}

/// How much one read may bring. At least one row is brought whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// At most so many rows.
    pub rows: usize,
    /// Stop after so many bytes of bodies.
    pub bytes: usize,
}

/// A row that is there but cannot be believed: its hash does not match, or its page cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The row's number in the log that was read.
    pub offset: Offset,
    /// Of a decision: the event that it is about, where its own row can be believed and something else is spoiled.
    pub event: Option<Offset>,
    /// What is wrong with it.
    pub detail: Box<str>,
}

/// One row of a page, or the damage found in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<T> {
    /// The row.
    Row(Arc<T>),
    /// What stands there instead.
    Damaged(Damage),
}

/// A stretch of a log: everything in `[from, next)` that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, by number.
    pub rows: Vec<Entry<T>>,
    /// The first row not covered; equal to `from` when there is nothing new.
    pub next: Offset,
    /// How many rows of the stretch retention has taken.
    pub gone: u64,
}

/// What goes into one partition's logs in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// New events, each with whether its id had come before with another body.
    pub events: Vec<(NewEvent, bool)>,
    /// New decisions about events that are committed already.
    pub routed: Vec<NewRouted>,
}

/// A decision on its way into ROUTED, with the event it is about, so that those who keep up need not read it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRouted {
    /// The row.
    pub row: RoutedRow,
    /// The event at `row.event`.
    pub event: Arc<Event>,
}

/// Where a committed batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The first new event's number; the others follow.
    pub first_event: Offset,
    /// The first new decision's number; the others follow.
    pub first_routed: Offset,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk, or the size the operator allows, is full, no more files may be opened, or another write took too long.
    /// Rolled back; try again later.
    #[error("the store cannot take it now: {0}")]
    Full(String),
    /// A sync failed: what is on disk is not known. The process must stop; a start finds out.
    #[error("the store cannot sync: {0}")]
    Sync(String),
    /// Somebody else holds a newer fence.
    #[error("the store has another owner now")]
    Fenced,
}

/// Why a read failed as a whole.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the store: {0}")]
pub struct ReadError(pub String);

/// The writing end of one partition's logs. One thread owns it.
pub trait Appender: Send {
    /// The numbers that the next rows will get.
    fn heads(&self) -> Heads;
    /// The run that writes; part of the ids of the events it appends.
    fn incarnation(&self) -> Incarnation;
    /// The first event of the segment that is written to now. When it moves on, the ids before it belong to a
    /// segment that waits to be sealed.
    fn segment_start(&self) -> Offset;
    /// Writes a batch, synced, all or nothing.
    ///
    /// # Errors
    /// [`WriteError`]; on [`WriteError::Sync`] the caller stops the process.
    fn append(&mut self, batch: &Batch) -> Result<Appended, WriteError>;
}

/// The reading end of the logs. Shared by all who read.
pub trait Log: Send + Sync {
    /// The numbers that the next rows of a partition will get.
    fn heads(&self, partition: Partition) -> Heads;
    /// Reads EVENTS from a row on.
    ///
    /// # Errors
    /// [`ReadError`] when nothing could be read; a bad row alone is an [`Entry::Damaged`].
    fn events(&self, partition: Partition, from: Offset, limit: ReadLimit) -> Result<Page<Event>, ReadError>;
    /// Reads ROUTED from a row on: only rows that concern a destination (or all, without one). Bodies are read for
    /// these rows alone. The destination `""` does not exist: rows with dead routes are asked for by `dead`.
    ///
    /// # Errors
    /// [`ReadError`] when nothing could be read; a bad row alone is an [`Entry::Damaged`].
    fn routed(
        &self,
        partition: Partition,
        from: Offset,
        wanted: &Wanted,
        limit: ReadLimit,
    ) -> Result<Page<Routed>, ReadError>;
    /// One event by its id; `None` when there is none, or retention took it. What lies on a shelf is never taken.
    ///
    /// # Errors
    /// [`ReadError`] when it could not be read, or is damaged.
    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, ReadError>;
    /// One decision by its row; `None` when there is none, or retention took it. What lies on a shelf is never taken:
    /// this finds it also when its segment is gone.
    ///
    /// # Errors
    /// [`ReadError`] when it could not be read.
    fn routed_row(&self, partition: Partition, offset: Offset) -> Result<Option<Entry<Routed>>, ReadError>;
}

/// Which rows of ROUTED a reader is after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of them.
    All,
    /// Those with a target there.
    Destination(DestinationName),
    /// Those with a dead route, or dead as a whole.
    Dead,
}

impl Wanted {
    /// Whether a decision concerns this reader.
    #[must_use]
    pub fn matches(&self, decision: &Decision) -> bool {
        match self {
            Self::All => true,
            Self::Destination(name) => decision.targets.iter().any(|target| target.destination == *name),
            Self::Dead => !decision.dead.is_empty(),
        }
    }
}

/// Who reads a log and keeps a mark in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneName {
    /// Reads EVENTS, writes ROUTED.
    Router,
    /// Reads ROUTED, moves what was dead on decision to the shelf.
    Morgue,
    /// Reads ROUTED, publishes to one destination.
    Destination(DestinationName),
    /// Reads a selection, publishes again.
    Replay(ReplayJob),
}

/// How far a lane has come: everything below `watermark` is settled, and so are the rows in `beyond`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// The first row that is not settled.
    pub watermark: Offset,
    /// Bit i says that row `watermark + i` is settled; bit 0 of the first word is always 0.
    pub beyond: Vec<u64>,
    /// Deliveries already settled of rows that are not settled as a whole.
    pub partial: Vec<(Offset, RouteName)>,
    /// The router only: the last ROUTED row that this progress reflects.
    pub reflects: Offset,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The destination has it.
    Delivered,
    /// It lies on the shelf, its key waiting.
    Parked,
    /// It lies on the shelf, dead.
    Dead(DeadCause),
}

/// What became of one delivery: a line of its event's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The ROUTED row.
    pub offset: Offset,
    /// Which of its deliveries.
    pub route: RouteName,
    /// How it ended.
    pub ending: Ending,
    /// When.
    pub at: Timestamp,
    /// How many tries it took, since the process started.
    pub attempts: u32,
    /// The destination's answer, short.
    pub answer: Box<str>,
}

/// Where a shelf row stands. Only `Parked` rows are the lane's own to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShelfState {
    /// Waits for its key's turn.
    Parked,
    /// A dead letter.
    Dead,
    /// Taken by a replay; nobody else may touch it.
    Replaying(ReplayJob),
}

/// A parked or dead delivery. Identified by lane, row and route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfRow {
    /// The ROUTED row (the EVENTS row, on the router's shelf).
    pub offset: Offset,
    /// The route; `None` when the event itself is dead.
    pub route: Option<RouteName>,
    /// The event.
    pub event: EventId,
    /// What it keeps its order with.
    pub order: Option<OrderKey>,
    /// Where it stands.
    pub state: ShelfState,
    /// Why, for a dead letter; for a parked one what holds its key.
    pub cause: Option<DeadCause>,
    /// The words for it.
    pub detail: Box<str>,
    /// Tries so far.
    pub attempts: u32,
    /// The first try.
    pub first_at: Timestamp,
    /// The last try.
    pub last_at: Timestamp,
    /// Whether this dead letter holds its key (`on_dead: park`) until it is replayed or discarded.
    pub holds: bool,
}

/// A key that has parked rows on a lane's shelf, or a dead letter that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedKey {
    /// The key.
    pub order: OrderKey,
    /// Its rows with [`ShelfState::Parked`].
    pub rows: u64,
    /// Whether a dead letter with [`ShelfRow::holds`] stands before them.
    pub held: bool,
}

/// A change to a lane's shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShelfChange {
    /// Lays a row there, or replaces the row with the same (row, route).
    Put(ShelfRow),
    /// Takes a row away (delivered).
    Remove(Offset, Option<RouteName>),
}

/// What a lane makes durable at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The lane.
    pub lane: LaneName,
    /// Its partition.
    pub partition: Partition,
    /// Where it stands afterwards.
    pub progress: Progress,
    /// What ended.
    pub receipts: Vec<Receipt>,
    /// What went to the shelf, or left it, in this order.
    pub shelf: Vec<ShelfChange>,
}

/// A lane as the state knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneRecord {
    /// The lane.
    pub lane: LaneName,
    /// Its partition.
    pub partition: Partition,
    /// The destination's `type` when it was first named; another type under the name is refused while work is left.
    pub kind: Box<str>,
    /// Where it stands.
    pub progress: Progress,
    /// Its parked keys.
    pub parked: Vec<ParkedKey>,
    /// Whether an operator paused it.
    pub paused: bool,
}

/// The state of everybody who reads: progress, receipts, shelf. One thread owns it.
pub trait State: Send {
    /// Every lane ever registered and not yet forgotten.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    fn lanes(&self) -> Result<Vec<LaneRecord>, ReadError>;
    /// Registers lanes that are new, each from a row on; known ones stay as they are. Synced.
    ///
    /// # Errors
    /// [`WriteError`].
    fn register(&mut self, lanes: &[LaneRecord]) -> Result<(), WriteError>;
    /// Makes settlements durable: one transaction, one sync.
    ///
    /// # Errors
    /// [`WriteError`]; on [`WriteError::Sync`] the caller stops the process.
    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), WriteError>;
    /// The first parked rows of a key, in order.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    fn parked(
        &self,
        lane: &LaneName,
        partition: Partition,
        order: OrderKey,
        rows: usize,
    ) -> Result<Vec<ShelfRow>, ReadError>;
    /// Notes whether an operator paused a lane. An unknown lane is left alone.
    ///
    /// # Errors
    /// [`WriteError`].
    fn pause(&mut self, lane: &LaneName, partition: Partition, paused: bool) -> Result<(), WriteError>;
    /// Forgets a lane and its shelf: a finished replay, or an orphan with nothing left.
    ///
    /// # Errors
    /// [`WriteError`].
    fn forget(&mut self, lane: &LaneName, partition: Partition) -> Result<(), WriteError>;
    /// The number of a generation of the routes, its text kept; the newest one's when the text is the same.
    ///
    /// # Errors
    /// [`WriteError`].
    fn generation(&mut self, text: &str, now: Timestamp) -> Result<u32, WriteError>;
    /// How far a feed has read a vendor's list: everything before this time is in the log. `None` before the first time.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read.
    fn mark(&self, feed: &str) -> Result<Option<Timestamp>, ReadError>;
    /// Makes a feed's mark durable.
    ///
    /// # Errors
    /// [`WriteError`].
    fn set_mark(&mut self, feed: &str, mark: Timestamp) -> Result<(), WriteError>;
}

/// How long things are kept, and how much room there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events whose work is done.
    pub delivered: Duration,
    /// Dead letters.
    pub dead_letters: Duration,
    /// Ids, for telling re-sends.
    pub ids: Duration,
    /// Bytes of everything under the store's folder.
    pub size_max: u64,
}
