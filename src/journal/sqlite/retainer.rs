//! Removes what retention lets go: segments, files of ids, dead letters, receipts.
//!
//! What lies on a shelf is copied into `state.db` and synced before its segment is unlinked. A crash in between leaves
//! rows twice, or a segment that goes the next time.

use crate::{
    core::retention::{Facts, IdsFacts, Plan, SegmentFacts, plan},
    domain::{Event, Timestamp},
    journal::{
        Entry, Heads, Log, ReadError, Retention, WriteError,
        sqlite::{
            OpenError,
            database::{open_writer, transaction},
            decision,
            folder::{remove_database, sync_folder},
            log::SqliteLog,
            pack::Packer,
            room::Room,
            rows::{
                INSERT_EVENT, INSERT_RECORD, INSERT_ROUTED, RoutedColumns, event_checksum, insert_event, insert_routed,
                routed_checksum, rowid,
            },
            sealing::IdsFiles,
            writer::PARTITION,
        },
    },
};
use rusqlite::{Connection, params};
use std::{fs, io, sync::Arc};

/// Rows that one transaction copies or deletes: lanes settle in between.
const ROWS_AT_ONCE: i64 = 64;

/// Carries retention out. One thread runs it now and then.
#[derive(Debug)]
pub struct Retainer {
    log: SqliteLog,
    ids: Arc<IdsFiles>,
    room: Arc<Room>,
    rules: Retention,
    /// On `state.db`, beside the one that settles.
    connection: Connection,
    /// The latest time it was called with: time never runs backwards here.
    latest: Timestamp,
}

/// What a run removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Segments.
    pub segments: usize,
    /// Files of ids.
    pub ids: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Rows of shelves that were copied first.
    pub copied: usize,
}

impl Retainer {
    /// Removes from the store that a log reads.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(log: SqliteLog, ids: Arc<IdsFiles>, room: Arc<Room>, rules: Retention) -> Result<Self, OpenError> {
        let path = log.catalog().folder.state();
        let connection = open_writer(&path).map_err(|source| OpenError::Database { path, source })?;
        Ok(Self { log, ids, room, rules, connection, latest: Timestamp::EPOCH })
    }

    /// Removes what may go now. `pins` are the lowest rows that replays and ranges of dead letters need, `u64::MAX`
    /// where nothing does; lanes and shelves are looked up.
    ///
    /// # Errors
    /// [`WriteError::Full`] when there was no room to copy a shelf; [`WriteError::Sync`] stops the process.
    pub fn run(&mut self, now: Timestamp, pins: Heads) -> Result<Removed, WriteError> {
        self.latest = self.latest.max(now);
        let folder = &self.log.catalog().folder;
        self.room.measure(folder).map_err(|error| io_error(&error))?;
        let plan = self.plan(pins)?;
        let copied = if plan.segments.is_empty() { 0 } else { self.copy_shelves(plan.below)? };
        self.remove_segments(&plan.segments)?;
        self.remove_ids(&plan.ids)?;
        let dead_letters = self.delete_dead_letters(plan.dead_letters_before)?;
        self.delete_receipts()?;
        self.delete_kept()?;
        self.room.measure(&self.log.catalog().folder).map_err(|error| io_error(&error))?;
        Ok(Removed { segments: plan.segments.len(), ids: plan.ids.len(), dead_letters, copied })
    }

    fn plan(&self, pins: Heads) -> Result<Plan, WriteError> {
        let catalog = self.log.catalog();
        let sealed_below = catalog.sealed_below();
        let bytes = |number| fs::metadata(catalog.folder.segment(number)).map_or(0, |metadata| metadata.len());
        let segments: Vec<_> = catalog
            .stretches()
            .iter()
            .map(|stretch| SegmentFacts {
                number: stretch.segment.number,
                end: stretch.end,
                closed_at: stretch.closed_at,
                sealed: stretch.segment.number < sealed_below,
                oldest_event: stretch.segment.oldest_event(),
                bytes: bytes(stretch.segment.number),
            })
            .collect();
        let ids = self.ids.headers();
        let ids: Vec<_> =
            ids.iter().map(|(number, header)| IdsFacts { number: *number, closed_at: header.closed_at }).collect();
        Ok(plan(&Facts {
            segments: &segments,
            ids: &ids,
            watermarks: self.watermarks()?,
            pins,
            now: self.latest,
            rules: self.rules,
            used: self.room.used(),
        }))
    }

    /// The lowest rows that lanes still have to read. Replays keep what they have chosen on shelves, and pin the events
    /// that they have still to look at. A store without a router keeps everything. An
    /// event on the router's shelf is not decided yet: whoever reads its decision some day needs it in the log.
    fn watermarks(&self) -> Result<Heads, WriteError> {
        let sql = "SELECT COALESCE(MIN(CASE WHEN lane = 'router' THEN watermark END), 0), \
             COALESCE(MIN(CASE WHEN lane != 'router' AND lane NOT LIKE 'replay:%' THEN watermark END), \
             9223372036854775807), \
             (SELECT COALESCE(MIN(pin), 9223372036854775807) FROM jobs \
             WHERE NOT complete AND state IN ('running', 'paused')) FROM lanes";
        let marks = self.connection.query_row(sql, [], |row| {
            let mark = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            Ok((mark(0)?, mark(1)?, mark(2)?))
        });
        let (router, lanes, replays) = marks.map_err(|error| read_error(&error))?;
        let sql = "SELECT COALESCE(MIN(event), 9223372036854775807) FROM shelf \
             WHERE lane IN (SELECT id FROM lanes WHERE lane = 'router')";
        let parked = self.connection.query_row(sql, [], |row| row.get::<_, i64>(0).map(i64::cast_unsigned));
        let parked = parked.map_err(|error| read_error(&error))?;
        Ok(Heads { events: router.min(replays).min(parked), routed: lanes })
    }

    /// Copies what shelves have below some rows, unless it was copied before.
    fn copy_shelves(&self, below: Heads) -> Result<usize, WriteError> {
        let mut copied = 0;
        let sql = "SELECT DISTINCT row FROM shelf JOIN lanes ON lanes.id = shelf.lane WHERE lanes.lane != 'router' \
             AND (row < ?1 OR event < ?2) AND row NOT IN (SELECT offset FROM routed) ORDER BY row";
        for offset in self.column(sql, below)? {
            // What is damaged, or gone already, is not there to be copied; the shelf says so when it is read.
            let found = self.log.routed_row(PARTITION, offset).map_err(|error| lost(&error))?;
            if let Some(Entry::Row(routed)) = found {
                self.keep(|connection| {
                    keep_event(connection, &self.log, &routed.event)?;
                    keep_routed(connection, &self.log, &routed)
                })?;
                copied += 1;
            }
        }
        Ok(copied)
    }

    fn keep(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<(), WriteError> {
        transaction(&self.connection, work)
    }

    fn column(&self, sql: &str, below: Heads) -> Result<Vec<u64>, WriteError> {
        let read = |connection: &Connection| -> rusqlite::Result<Vec<u64>> {
            let mut statement = connection.prepare(sql)?;
            let below = [rowid(below.routed), rowid(below.events)];
            statement.query_map(below, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?.collect()
        };
        read(&self.connection).map_err(|error| read_error(&error))
    }

    fn remove_segments(&self, numbers: &[u32]) -> Result<(), WriteError> {
        let catalog = self.log.catalog();
        for number in numbers {
            catalog.remove(*number);
            remove_database(&catalog.folder.segment(*number)).map_err(|error| io_error(&error))?;
        }
        if numbers.is_empty() {
            Ok(())
        } else {
            sync_folder(&catalog.folder.events()).map_err(|error| io_error(&error))
        }
    }

    fn remove_ids(&self, numbers: &[u32]) -> Result<(), WriteError> {
        let folder = &self.log.catalog().folder;
        for number in numbers {
            self.ids.remove(*number);
            fs::remove_file(folder.ids_file(*number)).map_err(|error| io_error(&error))?;
        }
        if numbers.is_empty() { Ok(()) } else { sync_folder(&folder.ids()).map_err(|error| io_error(&error)) }
    }

    /// Dead letters that hold their key stay: only their lane may let the key go.
    fn delete_dead_letters(&self, before: Timestamp) -> Result<usize, WriteError> {
        let sql = "DELETE FROM shelf WHERE (lane, row, route) IN \
             (SELECT lane, row, route FROM shelf WHERE state = 1 AND NOT holds AND last_at < ?1 LIMIT ?2)";
        self.delete(sql, before.as_millis())
    }

    /// Receipts go with the segment of their rows.
    fn delete_receipts(&self) -> Result<usize, WriteError> {
        let first = self.log.catalog().stretches().first().map(|stretch| stretch.segment.first).unwrap_or_default();
        let mut deleted = 0;
        for (lanes, first) in [("lane = 'router'", first.events), ("lane != 'router'", first.routed)] {
            let sql = format!(
                "DELETE FROM receipts WHERE id IN (SELECT id FROM receipts WHERE last_row < ?1 \
                 AND lane IN (SELECT id FROM lanes WHERE {lanes}) ORDER BY id LIMIT ?2)"
            );
            deleted += self.delete(&sql, rowid(first))?;
        }
        Ok(deleted)
    }

    /// Copies go when no shelf refers to them any more; their records when the last copy goes.
    fn delete_kept(&self) -> Result<(), WriteError> {
        let first = self.log.catalog().stretches().first().map(|stretch| stretch.segment.first).unwrap_or_default();
        for (table, column, row) in [("routed", "row", first.routed), ("events", "event", first.events)] {
            let sql = format!(
                "DELETE FROM {table} WHERE offset IN (SELECT offset FROM {table} WHERE offset < ?1 \
                 AND offset NOT IN (SELECT {column} FROM shelf) LIMIT ?2)"
            );
            self.delete(&sql, rowid(row))?;
        }
        let sql = "DELETE FROM runs WHERE first_event IN (SELECT first_event FROM runs WHERE first_event < ?1 \
             AND first_event NOT IN (SELECT offset FROM events) LIMIT ?2)";
        self.delete(sql, i64::MAX)?;
        let sql = "DELETE FROM enrichment WHERE id IN (SELECT id FROM enrichment WHERE id < ?1 \
             AND NOT EXISTS (SELECT 1 FROM routed) LIMIT ?2)";
        self.delete(sql, i64::MAX)?;
        Ok(())
    }

    /// Runs a deletion with bound ?1 in steps of ?2 rows until nothing is left.
    fn delete(&self, sql: &str, bound: i64) -> Result<usize, WriteError> {
        let mut deleted = 0;
        loop {
            let step = transaction(&self.connection, |connection| {
                connection.prepare_cached(sql)?.execute(params![bound, ROWS_AT_ONCE])
            })?;
            if step == 0 {
                return Ok(deleted);
            }
            deleted += step;
        }
    }
}

fn keep_event(connection: &Connection, log: &SqliteLog, event: &Event) -> rusqlite::Result<()> {
    let offset = event.position().offset;
    let checksum = event_checksum(&log.catalog().keys, &mut Packer::default(), offset, event, event.conflict);
    let mut insert = connection.prepare_cached(INSERT_EVENT)?;
    insert_event(&mut insert, Some(offset), event, event.conflict, checksum)?;
    let run = params![rowid(offset), event.id.incarnation.0];
    connection.prepare_cached("INSERT OR REPLACE INTO runs VALUES(?1, ?2)")?.execute(run).map(|_| ())
}

fn keep_routed(connection: &Connection, log: &SqliteLog, routed: &crate::domain::Routed) -> rusqlite::Result<()> {
    let (mut targets, mut enrichment) = (Packer::default(), Packer::default());
    decision::pack(&mut targets, &routed.row.decision);
    if !routed.row.enrichment.is_empty() {
        decision::pack_enrichment(&mut enrichment, &routed.row.enrichment, |record| {
            let hash = log.catalog().keys.body(&record.bytes).cast_signed();
            connection.prepare_cached(INSERT_RECORD)?.execute(params![hash, &record.bytes[..]])?;
            Ok::<_, rusqlite::Error>(connection.last_insert_rowid())
        })?;
    }
    let columns = RoutedColumns {
        targets: &targets.0,
        event: routed.row.event.offset,
        job: routed.row.job,
        generation: routed.row.generation,
        enrichment: &enrichment.0,
    };
    let checksum = routed_checksum(&log.catalog().keys, &mut Packer::default(), routed.offset, &columns);
    let mut insert = connection.prepare_cached(INSERT_ROUTED)?;
    insert_routed(&mut insert, Some(routed.offset), &columns, checksum)
}

fn read_error(error: &rusqlite::Error) -> WriteError {
    WriteError::Sync(format!("cannot read state.db: {error}"))
}

/// A shelf's rows that cannot be read now must not be lost: nothing is removed this time.
fn lost(error: &ReadError) -> WriteError {
    WriteError::Full(format!("cannot copy the shelf: {error}"))
}

fn io_error(error: &io::Error) -> WriteError {
    crate::journal::sqlite::folder::io_error(error)
}
