//! Questions that people ask the store: which events came, what became of each, what lies on the shelf.
//!
//! Nobody's delivery waits for an answer: every question has connections of its own, reads a stretch of rows at a time
//! so that no snapshot grows old, and stops at a budget; a cursor says where to go on. Nothing here changes anything.
//! An answer is put together from files that go on being written: it may be a moment behind, never made up.

pub mod decisions;
pub mod events;
pub mod fates;
pub mod letter;
pub mod receipts;
pub mod shelf;
#[cfg(test)]
mod tests;

use crate::journal::{
    LaneRecord, ReadError,
    sqlite::{
        database::open_reader,
        log::SqliteLog,
        scan::read_error,
        state_rows::{LaneColumns, read_lane},
    },
};
use rusqlite::Connection;

/// Answers questions about one store. Its methods block: ask them where blocking is allowed.
#[derive(Debug, Clone)]
pub struct Queries {
    log: SqliteLog,
}

impl Queries {
    /// Asks the store that a log belongs to.
    #[must_use]
    pub fn new(log: SqliteLog) -> Self {
        Self { log }
    }

    /// The log itself.
    #[must_use]
    pub const fn log(&self) -> &SqliteLog {
        &self.log
    }

    /// Runs a query on `state.db`.
    pub(super) fn state<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, ReadError> {
        let path = self.log.catalog().folder.state();
        open_reader(&path).and_then(|connection| work(&connection)).map_err(|error| read_error(&error))
    }
}

/// Every lane with the number it goes by in `state.db`; one whose row is damaged is left out.
pub(super) fn lanes(connection: &Connection) -> rusqlite::Result<Vec<(i64, LaneRecord)>> {
    let sql = "SELECT lane, partition, kind, paused, watermark, reflects, beyond, partial, id FROM lanes ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], LaneColumns::read)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows.iter().filter_map(|row| Some((row.id, read_lane(row, Vec::new())?))).collect())
}
