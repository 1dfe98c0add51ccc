//! Copies what lies on a shelf into `state.db` before retention takes its segment: what [`Kept`] reads.
//!
//! [`Kept`]: crate::journal::sqlite::kept::Kept

use crate::{
    domain::{Event, Record, Routed},
    journal::{
        Entry, Heads, Log,
        sqlite::{
            decision,
            log::SqliteLog,
            pack::Packer,
            rows::{
                INSERT_EVENT, INSERT_RECORD, INSERT_ROUTED, RoutedColumns, event_checksum, insert_event, insert_routed,
                routed_checksum, rowid,
            },
            steps::{Ended, ROWS_AT_ONCE, Steps, later},
            writer::PARTITION,
        },
    },
};
use rusqlite::{Connection, params};
use std::{collections::HashMap, sync::Arc};

/// Bytes that one step copies, about: a step is short whatever the bodies are.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Records whose place is remembered; beyond that they are stored again.
const RECORDS_KNOWN_MAX: usize = 16_384;

/// Rows of shelves that lie in segments below ?1 (ROUTED) or ?2 (EVENTS) and were not copied before.
const SELECT_UNCOPIED: &str = "SELECT DISTINCT row FROM shelf JOIN lanes ON lanes.id = shelf.lane \
     WHERE lanes.lane != 'router' AND (row < ?1 OR event < ?2) AND row NOT IN (SELECT offset FROM routed) ORDER BY row";

/// Copies what shelves have below some rows, unless it was copied before.
///
/// # Errors
/// [`Ended`]; what was copied until then stays.
pub fn copy_shelves(log: &SqliteLog, steps: &mut Steps<'_>, below: Heads, copied: &mut usize) -> Result<(), Ended> {
    let offsets: Vec<u64> = steps.read(|connection| {
        let mut statement = connection.prepare(SELECT_UNCOPIED)?;
        let below = [rowid(below.routed), rowid(below.events)];
        statement.query_map(below, |row| row.get::<_, i64>(0).map(i64::cast_unsigned))?.collect()
    })?;
    let mut copier = Copier { log, records: HashMap::new() };
    let (mut batch, mut bytes) = (Vec::new(), 0);
    for offset in offsets {
        // What cannot be read now must not be lost: nothing is removed this time. What is damaged, or gone already, is not
        // there to be copied; the shelf says so when it is read.
        let found = log.routed_row(PARTITION, offset).map_err(later)?;
        let Some(Entry::Row(routed)) = found else { continue };
        bytes += routed.bytes();
        batch.push(routed);
        if batch.len() >= ROWS_AT_ONCE || bytes >= BYTES_AT_ONCE {
            *copied += copier.keep(steps, &batch)?;
            batch.clear();
            bytes = 0;
        }
    }
    if !batch.is_empty() {
        *copied += copier.keep(steps, &batch)?;
    }
    Ok(())
}

struct Copier<'a> {
    log: &'a SqliteLog,
    /// Where records were copied to, by their hash: many letters carry the same one.
    records: HashMap<u64, i64>,
}

impl Copier<'_> {
    fn keep(&mut self, steps: &mut Steps<'_>, batch: &[Arc<Routed>]) -> Result<usize, Ended> {
        if self.records.len() > RECORDS_KNOWN_MAX {
            self.records.clear();
        }
        steps.write(|connection| {
            for routed in batch {
                keep_event(connection, self.log, &routed.event)?;
                self.keep_routed(connection, routed)?;
            }
            Ok(batch.len())
        })
    }

    fn keep_routed(&mut self, connection: &Connection, routed: &Routed) -> rusqlite::Result<()> {
        let keys = &self.log.catalog().keys;
        let (mut targets, mut enrichment) = (Packer::default(), Packer::default());
        decision::pack(&mut targets, &routed.row.decision);
        if !routed.row.enrichment.is_empty() {
            decision::pack_enrichment(&mut enrichment, &routed.row.enrichment, |record| {
                self.place_of(connection, record)
            })?;
        }
        let columns = RoutedColumns {
            targets: &targets.0,
            event: routed.row.event.offset,
            job: routed.row.job,
            generation: routed.row.generation,
            enrichment: &enrichment.0,
        };
        let checksum = routed_checksum(keys, &mut Packer::default(), routed.offset, &columns);
        let mut insert = connection.prepare_cached(INSERT_ROUTED)?;
        insert_routed(&mut insert, Some(routed.offset), &columns, checksum)
    }

    fn place_of(&mut self, connection: &Connection, record: &Record) -> rusqlite::Result<i64> {
        let hash = self.log.catalog().keys.body(&record.bytes);
        if let Some(place) = self.records.get(&hash) {
            return Ok(*place);
        }
        connection.prepare_cached(INSERT_RECORD)?.execute(params![hash.cast_signed(), &record.bytes[..]])?;
        let place = connection.last_insert_rowid();
        self.records.insert(hash, place);
        Ok(place)
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
