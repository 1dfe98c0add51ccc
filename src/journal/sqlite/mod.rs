//! The store on disk: SQLite files used as an append-only log.
//!
//! Who writes what:
//! - `events/NNNN.db`, one at a time the *tail*, by [`writer::SqliteAppender`]: EVENTS, ROUTED, fetched records and
//!   the ids of each batch, in one transaction and one sync a batch. A file of that kind is a *segment*.
//! - `state.db`, by [`state::SqliteState`]: lanes, receipts, shelves. Off the path of the 200.
//! - `ids/NNNN`, by the sealer: the ids of a closed segment, sorted.
//!
//! What a crash leaves at each point, and what the next start makes of it:
//! - in a batch: nothing of it, or all of it where its commit reached the disk before anyone was told; ids tell a
//!   re-send then.
//! - while a segment is made: a file without a format number, or one that nothing was written to while its elder went on;
//!   removed and made again.
//! - after a failed sync: what the disk has is not known, so nothing more is written; the next start writes what it
//!   finds back and syncs it before anything is served. Where a full disk has no room for that, it is written again in the
//!   WAL and synced there.
//!
//! A full disk ends nothing: batches are refused, checkpoints and sealing wait, and a start serves what is there.
//!
//! SQLite's files stay readable by any SQLite: `SELECT cast(body AS text) FROM events` works on a copy.

pub mod catalog;
pub mod checkpoint;
pub mod copies;
pub mod database;
pub mod decision;
pub mod feeds;
pub mod folder;
pub mod ids_file;
pub mod jobs;
pub mod kept;
pub mod log;
pub mod pack;
pub mod queries;
pub mod retainer;
#[cfg(test)]
mod retainer_tests;
#[cfg(test)]
mod retention_tests;
pub mod room;
pub mod rows;
pub mod scan;
pub mod sealing;
pub mod segment;
pub mod state;
pub mod state_rows;
pub mod steps;
#[cfg(test)]
pub(crate) mod store_tests;
pub mod sweep;
pub mod writer;

use crate::{
    domain::{HashKeys, Incarnation, Timestamp},
    journal::{Heads, ReadError, Retention, WriteError, ids::UnsealedIds},
};
use catalog::Catalog;
use folder::Folder;
use kept::Kept;
use log::SqliteLog;
use retainer::Retainer;
use room::Room;
use rusqlite::Connection;
use sealing::{IdsFiles, Sealer};
use segment::Segment;
use state::SqliteState;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use writer::SqliteAppender;

/// The largest segment, where `max_size` does not ask for smaller ones.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// So many segments fit into `max_size` at least, so that retention can free room in steps.
const SEGMENTS_MIN: u64 = 16;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder.
    pub path: PathBuf,
    /// How long things are kept, and the bytes of everything below the folder.
    pub retention: Retention,
    /// Bytes of a segment.
    pub segment_bytes_max: u64,
    /// This run.
    pub incarnation: Incarnation,
    /// Keys for a store that is made now; a store that is there keeps its own.
    pub keys: HashKeys,
    /// The time of a store that is made now.
    pub now: Timestamp,
}

impl Options {
    /// The options of a run: sizes from the settings, the rest drawn at random.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(path: &Path, retention: &Retention, now: Timestamp) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            retention: *retention,
            segment_bytes_max: (retention.size_max / SEGMENTS_MIN).min(SEGMENT_BYTES_MAX),
            incarnation: Incarnation(getrandom::u32()?),
            keys: HashKeys { first: getrandom::u64()?, second: getrandom::u64()? },
            now,
        })
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store in `{path}` is in use by another process: stop that one, or set another `storage.path`")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A folder or file cannot be made, listed or synced.
    #[error("cannot use `{path}`")]
    Folder {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A database cannot be opened or read.
    #[error("cannot read `{path}`: restore it from a backup, or move it away to go on without its events")]
    Database {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A database cannot be made.
    #[error("cannot write `{path}`")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// A later version wrote it.
    #[error("`{path}` has format {format}, this version knows {known}: use the version that wrote it, or a newer one")]
    NewerFormat {
        /// Which.
        path: PathBuf,
        /// Its format.
        format: i64,
        /// Ours.
        known: i64,
    },
    /// The state cannot be read.
    #[error("cannot read `{path}`: restore it from a backup")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// It was made for another kind of engine.
    #[error("`{path}` was made for {partitions} partitions, this engine has one")]
    Partitions {
        /// Which.
        path: PathBuf,
        /// How many.
        partitions: i64,
    },
}

impl OpenError {
    /// What a segment that cannot be made means for the batch that needs it.
    #[must_use]
    pub fn into_write_error(self) -> WriteError {
        match self {
            Self::Write { source, .. } => source,
            Self::Folder { source, .. } if folder::is_no_room(&source) => WriteError::Full(source.to_string()),
            Self::Database { source, .. } => database::write_error(&source),
            other => WriteError::Sync(crate::domain::Chain(&other).to_string()),
        }
    }
}

/// A store that is open. Each end goes to its own owner; the catalog is what they share.
#[derive(Debug)]
pub struct Store {
    /// The writing end.
    pub appender: SqliteAppender,
    /// The reading end.
    pub log: SqliteLog,
    /// The state.
    pub state: SqliteState,
    /// Seals closed segments, in the background.
    pub sealer: Sealer,
    /// Removes what is old, in the background.
    pub retainer: Retainer,
    /// The ids of sealed segments.
    pub sealed_ids: Arc<IdsFiles>,
    /// The ids of the others, oldest segment first: what the intake starts with.
    pub unsealed_ids: Vec<UnsealedIds>,
    /// The room that is left.
    pub room: Arc<Room>,
    /// The keys to hash ids, bodies and keys with.
    pub keys: HashKeys,
}

/// Opens a store, or makes it: locks it, recovers it, writes back and syncs what was recovered.
///
/// # Errors
/// [`OpenError`]; nothing is served then.
pub fn open(options: &Options) -> Result<Store, OpenError> {
    let folder = Folder::open(&options.path)?;
    let (state, keys) = SqliteState::open(&folder, options.keys, options.now)?;
    let floor = state.floor().map_err(|source| OpenError::State { path: folder.state(), source })?;
    let (mut segments, tail) = open_segments(&folder)?;
    let (segment, connection, heads) = open_tail(&folder, tail, floor, options.now, &mut segments)?;
    segments.push(Arc::clone(&segment));

    let used = folder.bytes().map_err(|source| OpenError::Folder { path: options.path.clone(), source })?;
    let room = Arc::new(Room::new(options.retention.size_max, used));
    let kept = Kept::new(folder.state());
    let catalog = Arc::new(Catalog::new(folder, keys, segments, heads));
    let log = SqliteLog::new(Arc::clone(&catalog), kept);
    let (sealer, sealed_ids, unsealed_ids) = open_ids(&catalog)?;
    let retainer = Retainer::open(log.clone(), Arc::clone(&sealed_ids), Arc::clone(&room), options.retention)?;
    let appender = SqliteAppender::open(catalog, Arc::clone(&room), (segment, connection), heads, options)?;
    Ok(Store { appender, log, state, sealer, retainer, sealed_ids, unsealed_ids, room, keys })
}

type Tail = (Arc<Segment>, Connection);

/// Opens every segment; the last one is kept open to be written to.
fn open_segments(folder: &Folder) -> Result<(Vec<Arc<Segment>>, Option<Tail>), OpenError> {
    let path = folder.events();
    let numbers = folder.segments().map_err(|source| OpenError::Folder { path: path.clone(), source })?;
    let mut segments: Vec<Arc<Segment>> = Vec::new();
    let mut tail: Option<Tail> = None;
    for number in numbers {
        let opened = Segment::open(folder, number)?.filter(|(segment, connection)| {
            !tail.as_ref().is_some_and(|(elder, written)| is_leftover(segment, connection, elder, written))
        });
        match opened {
            Some((segment, connection)) => {
                if let Some((before, connection)) = tail.take() {
                    close(&before, &connection, segment.first);
                    segments.push(before);
                }
                tail = Some((Arc::new(segment), connection));
            }
            // Whoever needs the number makes it again.
            None => folder::remove_database(&folder.segment(number))
                .map_err(|source| OpenError::Folder { path: path.clone(), source })?,
        }
    }
    Ok((segments, tail))
}

/// Whether a segment was made and never written to, while the one before it took more: there was no room to finish it.
fn is_leftover(segment: &Segment, connection: &Connection, elder: &Segment, written: &Connection) -> bool {
    let empty = segment.heads(connection).is_ok_and(|heads| heads == segment.first);
    let passed = |end: Heads| end.events > segment.first.events || end.routed > segment.first.routed;
    empty && elder.heads(written).is_ok_and(passed)
}

/// Notes where a segment ends: before the next one begins, if a segment between them was lost.
fn close(segment: &Segment, connection: &Connection, next: Heads) {
    // Where its end cannot be read, what is missing counts as damaged.
    let end = segment.heads(connection).unwrap_or(next);
    segment.note_end(Heads { events: end.events.min(next.events), routed: end.routed.min(next.routed) });
}

/// The segment to write to: the newest one, or a new one where there is none, or where the newest one was lost.
fn open_tail(
    folder: &Folder,
    tail: Option<Tail>,
    floor: Heads,
    now: Timestamp,
    segments: &mut Vec<Arc<Segment>>,
) -> Result<(Arc<Segment>, Connection, Heads), OpenError> {
    let mut first = floor;
    let mut number = first_number(folder)?;
    if let Some((segment, connection)) = tail {
        let path = folder.segment(segment.number);
        let heads = segment.heads(&connection).map_err(|source| OpenError::Database { path, source })?;
        if heads.events >= floor.events && heads.routed >= floor.routed {
            return Ok((segment, connection, heads));
        }
        first = Heads { events: heads.events.max(floor.events), routed: heads.routed.max(floor.routed) };
        number = number.max(segment.number + 1);
        tracing::error!(
            ?heads,
            ?floor,
            "the newest segment is lost: what it held and was not delivered is gone, new events go on behind it"
        );
        segment.note_end(heads);
        segments.push(segment);
    }
    let (segment, connection) = Segment::create(folder, number, first, now)?;
    Ok((Arc::new(segment), connection, first))
}

/// The number of the first segment of a store: after whatever sealed ids are left of an older one.
fn first_number(folder: &Folder) -> Result<u32, OpenError> {
    let ids = folder.ids_files().map_err(|source| OpenError::Folder { path: folder.ids(), source })?;
    Ok(ids.last().map_or(1, |last| last + 1))
}

/// Opens the files of ids. Closed segments but the newest are sealed now if they are not and there is room; a start then
/// reads the ids of two segments at most.
fn open_ids(catalog: &Arc<Catalog>) -> Result<(Sealer, Arc<IdsFiles>, Vec<UnsealedIds>), OpenError> {
    let path = catalog.folder.ids();
    let stretches = catalog.stretches();
    let ids = Arc::new(IdsFiles::open(&catalog.folder, &catalog.keys, &stretches)?);
    let mut sealer = Sealer::new(Arc::clone(catalog), Arc::clone(&ids));
    let tail = stretches.last().map_or(0, |stretch| stretch.segment.number);
    for stretch in &stretches {
        let number = stretch.segment.number;
        if !ids.has(number)
            && stretches.iter().any(|later| later.segment.number > number && later.segment.number < tail)
        {
            match sealer.seal_next() {
                Ok(_) => {}
                Err(WriteError::Full(why)) => {
                    tracing::warn!(number, %why, "no room to seal a segment: its ids stay in memory");
                }
                Err(source) => return Err(OpenError::Write { path, source }),
            }
        }
        catalog.note_sealed_below(number);
        if !ids.has(number) {
            break;
        }
        catalog.note_sealed_below(number + 1);
    }
    let below = catalog.sealed_below();
    let unsealed = stretches.iter().filter(|stretch| stretch.segment.number >= below);
    let unsealed = unsealed.map(|stretch| sealing::unsealed(catalog, stretch)).collect::<rusqlite::Result<_>>();
    let unsealed = unsealed.map_err(|source| OpenError::Database { path: catalog.folder.events(), source })?;
    Ok((sealer, ids, unsealed))
}
