//! Rows that outlive their segment: what lies on the shelf is copied into `state.db` before retention takes the file.

use crate::{
    domain::{Event, HashKeys, Incarnation, Offset, Routed},
    journal::{
        Entry, ReadError, Wanted,
        sqlite::{
            database::open_reader,
            log::join,
            scan::{candidates, chosen_events, read_error},
        },
    },
};
use rusqlite::{Connection, OptionalExtension};
use std::{collections::HashMap, path::PathBuf, sync::Arc};

/// Reads kept rows. Rare, so each read opens the file anew.
#[derive(Debug, Clone)]
pub struct Kept {
    state: PathBuf,
}

impl Kept {
    /// Reads from a `state.db`.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self { state }
    }

    /// An event that was kept.
    ///
    /// # Errors
    /// [`ReadError`], also when it is damaged.
    pub fn event(&self, keys: &HashKeys, offset: Offset) -> Result<Option<Arc<Event>>, ReadError> {
        let found = self.find(keys, offset)?;
        found.transpose().map_err(|why| ReadError(format!("kept event {offset}: {why}")))
    }

    /// An event that was kept, or what is wrong with it.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find(&self, keys: &HashKeys, offset: Offset) -> Result<Option<Result<Arc<Event>, String>>, ReadError> {
        self.with(|connection| Self::fetch(connection, keys, offset))
    }

    /// A decision that was kept, with its event.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn routed(&self, keys: &HashKeys, offset: Offset) -> Result<Option<Entry<Routed>>, ReadError> {
        self.with(|connection| {
            if !is_there(connection, "SELECT 1 FROM routed WHERE offset = ?1", offset)? {
                return Ok(None);
            }
            let (found, _) = candidates(connection, keys, &Wanted::All, offset..offset + 1, 1)?;
            let Some(candidate) = found.into_iter().next() else { return Ok(None) };
            let mut events = HashMap::new();
            if let Ok(row) = &candidate.row
                && let Some(event) = Self::fetch(connection, keys, row.event.offset)?
            {
                events.insert(row.event.offset, event);
            }
            Ok(Some(join(candidate, &events)))
        })
    }

    fn fetch(
        connection: &Connection,
        keys: &HashKeys,
        offset: Offset,
    ) -> rusqlite::Result<Option<Result<Arc<Event>, String>>> {
        if !is_there(connection, "SELECT 1 FROM events WHERE offset = ?1", offset)? {
            return Ok(None);
        }
        let sql = "SELECT incarnation FROM runs WHERE first_event <= ?1 ORDER BY first_event DESC LIMIT 1";
        let run = connection.query_row(sql, [offset.cast_signed()], |row| row.get(0)).optional()?;
        let incarnation = Incarnation(run.unwrap_or(0));
        let mut found = HashMap::new();
        chosen_events(connection, keys, |_| incarnation, &[offset], &mut found)?;
        Ok(found.remove(&offset))
    }

    fn with<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, ReadError> {
        open_reader(&self.state).and_then(|connection| work(&connection)).map_err(|error| read_error(&error))
    }
}

fn is_there(connection: &Connection, sql: &str, offset: Offset) -> rusqlite::Result<bool> {
    Ok(connection.query_row(sql, [offset.cast_signed()], |_| Ok(())).optional()?.is_some())
}
