//! One segment file: how it is made, opened and described.

use crate::{
    domain::{Incarnation, Offset, Timestamp},
    journal::{
        Heads,
        sqlite::{
            OpenError,
            checkpoint::make_durable,
            database::{checkpoint_all, open_writer, transaction},
            folder::{Folder, create_private, remove_database, sync_folder},
            rows::{TABLES, rowid},
        },
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::{
    Mutex, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// The format of segments and of `state.db`. Newer ones are refused.
pub const FORMAT: i64 = 1;

/// What is in a segment beside its rows: one row about itself, and the packed ids of each batch (16 bytes an event).
const OWN_TABLES: &str = "
CREATE TABLE segment(
  number INTEGER NOT NULL, first_event INTEGER NOT NULL, first_routed INTEGER NOT NULL, created_at INTEGER NOT NULL,
  oldest_event INTEGER);
CREATE TABLE ids(first_event INTEGER PRIMARY KEY, packed BLOB NOT NULL);
";

/// A segment as everybody knows it.
#[derive(Debug)]
pub struct Segment {
    /// Its number; part of its file's name.
    pub number: u32,
    /// Its first rows.
    pub first: Heads,
    /// When it was made.
    pub created_at: Timestamp,
    /// The first rows after it, once it is closed.
    end: OnceLock<Heads>,
    /// The oldest event that one of its decisions is about; `u64::MAX` while it has none.
    oldest_event: AtomicU64,
    /// Which run wrote the events from a row on, by row.
    runs: Mutex<Vec<(Offset, Incarnation)>>,
}

impl Segment {
    /// The oldest event that one of its decisions is about.
    #[must_use]
    pub fn oldest_event(&self) -> Option<Offset> {
        Some(self.oldest_event.load(Ordering::Acquire)).filter(|offset| *offset != u64::MAX)
    }

    /// The first rows after it, once it is closed.
    #[must_use]
    pub fn end(&self) -> Option<Heads> {
        self.end.get().copied()
    }

    /// Takes note that nothing more is written to it.
    pub fn note_end(&self, end: Heads) {
        self.end.get_or_init(|| end);
    }

    /// Takes note of decisions about events from `offset` on.
    pub fn note_oldest_event(&self, offset: Offset) {
        self.oldest_event.fetch_min(offset, Ordering::AcqRel);
    }

    /// The run that wrote an event.
    #[must_use]
    pub fn incarnation(&self, offset: Offset) -> Incarnation {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.iter().rev().find(|(first, _)| *first <= offset);
        run.map(|(_, incarnation)| *incarnation).unwrap_or_default()
    }

    /// Takes note that a run writes the events from `offset` on.
    pub fn note_run(&self, offset: Offset, incarnation: Incarnation) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).push((offset, incarnation));
    }

    /// Makes the file of a new segment, durable with its name before it returns.
    ///
    /// # Errors
    /// [`OpenError`]; what was made until then is a leftover that the next try removes.
    pub fn create(
        folder: &Folder,
        number: u32,
        first: Heads,
        created_at: Timestamp,
    ) -> Result<(Self, Connection), OpenError> {
        let path = folder.segment(number);
        let failed = |source| OpenError::Folder { path: path.clone(), source };
        remove_database(&path).map_err(failed)?;
        create_private(&path).map_err(failed)?;
        let connection = open_writer(&path).map_err(|source| OpenError::Database { path: path.clone(), source })?;
        transaction(&connection, |connection| {
            connection.execute_batch(TABLES)?;
            connection.execute_batch(OWN_TABLES)?;
            connection.execute(
                "INSERT INTO segment VALUES(?1, ?2, ?3, ?4, NULL)",
                params![number, rowid(first.events), rowid(first.routed), created_at.as_millis()],
            )?;
            connection.pragma_update(None, "user_version", FORMAT)
        })
        .map_err(|source| OpenError::Write { path: path.clone(), source })?;
        checkpoint_all(&connection).map_err(|source| OpenError::Database { path: path.clone(), source })?;
        sync_folder(&folder.events()).map_err(failed)?;
        let oldest_event = AtomicU64::new(u64::MAX);
        Ok((Self { number, first, created_at, end: OnceLock::new(), oldest_event, runs: Mutex::default() }, connection))
    }

    /// Opens a segment's file at a start: what was recovered is made durable before anything is read.
    /// `None` when the file was never finished, which a crash in [`Segment::create`] leaves.
    ///
    /// # Errors
    /// [`OpenError`] when it is damaged beyond that, or of a newer format.
    pub fn open(folder: &Folder, number: u32) -> Result<Option<(Self, Connection)>, OpenError> {
        let path = folder.segment(number);
        let failed = |source| OpenError::Database { path: path.clone(), source };
        let connection = open_writer(&path).map_err(failed)?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path, format, known: FORMAT });
        }
        if format == 0 {
            return Ok(None);
        }
        make_durable(&connection, &path)?;
        let read = |row: &rusqlite::Row<'_>| {
            let first =
                Heads { events: row.get::<_, i64>(0)?.cast_unsigned(), routed: row.get::<_, i64>(1)?.cast_unsigned() };
            let oldest = row.get::<_, Option<i64>>(3)?.map_or(u64::MAX, i64::cast_unsigned);
            Ok((first, Timestamp::from_millis(row.get(2)?), oldest))
        };
        let sql = "SELECT first_event, first_routed, created_at, oldest_event FROM segment";
        let Some((first, created_at, oldest)) = connection.query_row(sql, [], read).optional().map_err(failed)? else {
            return Ok(None);
        };
        let runs = read_runs(&connection).map_err(failed)?;
        let (oldest_event, runs) = (AtomicU64::new(oldest), Mutex::new(runs));
        let segment = Self { number, first, created_at, end: OnceLock::new(), oldest_event, runs };
        Ok(Some((segment, connection)))
    }

    /// The rows that the next append to this segment will write.
    ///
    /// # Errors
    /// SQLite's.
    pub fn heads(&self, connection: &Connection) -> rusqlite::Result<Heads> {
        let last = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
        let next = |last: Option<i64>, first| last.map_or(first, |last| last.cast_unsigned() + 1);
        Ok(Heads {
            events: next(last("SELECT MAX(offset) FROM events")?, self.first.events),
            routed: next(last("SELECT MAX(offset) FROM routed")?, self.first.routed),
        })
    }
}

/// Which run wrote the events from a row on.
///
/// # Errors
/// SQLite's.
pub fn read_runs(connection: &Connection) -> rusqlite::Result<Vec<(Offset, Incarnation)>> {
    let mut statement = connection.prepare("SELECT first_event, incarnation FROM runs ORDER BY first_event")?;
    let run = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), Incarnation(row.get(1)?)));
    statement.query_map([], run)?.collect()
}
