//! The writing end: one transaction and one sync a batch, always at the end of the tail segment.

use crate::{
    domain::{HashKeys, Incarnation, NewEvent, Offset, Partition, Record, Timestamp},
    journal::{
        Appended, Appender, Batch, Heads, NewRouted, WriteError,
        ids::pairs_of,
        sqlite::{
            OpenError, Options,
            catalog::Catalog,
            checkpoint::Checkpointer,
            database::transaction,
            decision,
            pack::Packer,
            room::Room,
            rows::{
                APPEND_EVENT, APPEND_ROUTED, INSERT_EVENT, INSERT_RECORD, INSERT_ROUTED, RoutedColumns, event_checksum,
                insert_event, insert_routed, routed_checksum, rowid,
            },
            segment::Segment,
        },
    },
};
use rusqlite::{Connection, params};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// A segment is closed when it is older than that, so that retention works for quiet stores too.
const SEGMENT_AGE_MAX: Duration = Duration::from_secs(86_400);
/// Records of the tail segment whose place is remembered; beyond that they are stored again.
const RECORDS_KNOWN_MAX: usize = 65_536;
/// What an event costs beside its body, about: for counting, never for deciding what fits.
const EVENT_BYTES: u64 = 300;
/// What a decision costs, about.
const ROUTED_BYTES: u64 = 150;

/// [`Appender`] of a SQLite store.
#[derive(Debug)]
pub struct SqliteAppender {
    catalog: Arc<Catalog>,
    room: Arc<Room>,
    segment: Arc<Segment>,
    connection: Connection,
    checkpointer: Checkpointer,
    heads: Heads,
    incarnation: Incarnation,
    segment_bytes_max: u64,
    /// Bytes in the tail segment, about.
    segment_bytes: u64,
    /// Whether this run stands in the segment's `runs`.
    announced: bool,
    /// Where records of the tail segment lie, by their hash.
    records: HashMap<u64, i64>,
    /// Why nothing is written any more.
    broken: Option<String>,
    scratch: Scratch,
}

/// Buffers that live from batch to batch.
#[derive(Debug, Default)]
struct Scratch {
    row: Packer,
    targets: Packer,
    enrichment: Packer,
    ids: Vec<u8>,
    /// Records that the open transaction added: forgotten when it fails.
    records: Vec<(u64, i64)>,
}

impl SqliteAppender {
    /// Takes over the tail segment, whose next rows are `heads`.
    ///
    /// # Errors
    /// [`OpenError`] when the tail cannot be read or no thread can be started.
    pub fn open(
        catalog: Arc<Catalog>,
        room: Arc<Room>,
        tail: (Arc<Segment>, Connection),
        heads: Heads,
        options: &Options,
    ) -> Result<Self, OpenError> {
        let (segment, connection) = tail;
        let path = catalog.folder.segment(segment.number);
        let failed = |source| OpenError::Database { path: path.clone(), source };
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(failed)?;
        let bytes = pages.cast_unsigned() * u64::from(crate::journal::sqlite::database::PAGE_BYTES);
        let records = recent_records(&connection).map_err(failed)?;
        let checkpointer =
            Checkpointer::start(&path).map_err(|source| OpenError::Folder { path: path.clone(), source })?;
        Ok(Self {
            catalog,
            room,
            segment,
            connection,
            checkpointer,
            heads,
            incarnation: options.incarnation,
            segment_bytes_max: options.segment_bytes_max,
            segment_bytes: bytes,
            announced: false,
            records,
            broken: None,
            scratch: Scratch::default(),
        })
    }

    /// How many checkpoints failed.
    #[must_use]
    pub fn checkpoint_errors(&self) -> u64 {
        self.checkpointer.errors()
    }

    /// Limits the tail file's pages, so that tests can fill it.
    ///
    /// # Errors
    /// SQLite's.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: u32) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "max_page_count", pages)
    }

    /// Closes the tail segment and goes on in a new one, whatever its size. An empty one stays.
    ///
    /// # Errors
    /// [`WriteError`]; nothing has changed then.
    pub fn roll(&mut self, now: Timestamp) -> Result<(), WriteError> {
        if self.heads == self.segment.first {
            return Ok(());
        }
        let number = self.segment.number + 1;
        let now = now.max(self.segment.created_at);
        let (segment, connection) =
            Segment::create(&self.catalog.folder, number, self.heads, now).map_err(OpenError::into_write_error)?;
        self.checkpointer
            .move_on(std::mem::replace(&mut self.connection, connection), &self.catalog.folder.segment(number));
        self.segment.note_end(self.heads);
        self.segment = Arc::new(segment);
        self.catalog.add(Arc::clone(&self.segment));
        self.records.clear();
        self.segment_bytes = 0;
        self.announced = false;
        Ok(())
    }

    fn roll_if_due(&mut self, batch: &Batch) -> Result<(), WriteError> {
        let Some(now) = batch.events.iter().map(|(event, _)| event.received_at).max() else { return Ok(()) };
        let full = self.segment_bytes >= self.segment_bytes_max;
        let old = now.since(self.segment.created_at) >= SEGMENT_AGE_MAX;
        // At most two segments are unsealed: their ids are in memory, and a start reads them.
        let sealed = self.catalog.sealed_below() >= self.segment.number;
        if !((full || old) && sealed) {
            return Ok(());
        }
        match self.roll(now) {
            Err(WriteError::Full(why)) => {
                tracing::warn!(%why, "cannot begin a new segment: this one takes more, the next batch tries again");
                Ok(())
            }
            rolled => rolled,
        }
    }

    fn write(&mut self, batch: &Batch) -> Result<u64, WriteError> {
        let Self { catalog, segment, connection, heads, incarnation, announced, records, scratch, .. } = self;
        scratch.records.clear();
        // A replay may decide anew about an event that only the shelf still has: it is older than every segment, and would
        // hold all of them.
        let first = catalog.first().events;
        let oldest = batch.routed.iter().map(|new| new.row.event.offset).filter(|event| *event >= first).min();
        let result = transaction(connection, |connection| {
            if !*announced {
                connection.execute(
                    "INSERT OR REPLACE INTO runs VALUES(?1, ?2)",
                    params![rowid(heads.events), incarnation.0],
                )?;
            }
            if let Some(oldest) = oldest
                && segment.oldest_event().is_none_or(|known| oldest < known)
            {
                connection.execute("UPDATE segment SET oldest_event = ?1", [rowid(oldest)])?;
            }
            let mut writer = BatchWriter { catalog, connection, scratch, first: segment.first };
            let events = writer.events(&batch.events, heads.events)?;
            let routed = writer.routed(&batch.routed, heads.routed, records)?;
            Ok(events + routed)
        });
        match result {
            Ok(_) => {
                if !*announced {
                    segment.note_run(heads.events, *incarnation);
                    *announced = true;
                }
                if let Some(oldest) = oldest {
                    segment.note_oldest_event(oldest);
                }
                if records.len() > RECORDS_KNOWN_MAX {
                    records.clear();
                }
            }
            Err(_) => {
                for (hash, _) in scratch.records.drain(..) {
                    records.remove(&hash);
                }
            }
        }
        result
    }
}

/// SQLite writes the WAL back when the last connection closes, if that one may write.
impl Drop for SqliteAppender {
    fn drop(&mut self) {
        self.catalog.close_idle();
    }
}

impl Appender for SqliteAppender {
    fn heads(&self) -> Heads {
        self.heads
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn segment_start(&self) -> Offset {
        self.segment.first.events
    }

    fn append(&mut self, batch: &Batch) -> Result<Appended, WriteError> {
        if let Some(why) = &self.broken {
            return Err(WriteError::Sync(why.clone()));
        }
        if !batch.events.is_empty() {
            self.room.check()?;
        }
        let checked = self.checkpointer.between_batches(&self.connection);
        let result = checked.and_then(|()| self.roll_if_due(batch)).and_then(|()| self.write(batch));
        let bytes = result.inspect_err(|error| {
            if let WriteError::Sync(why) = error {
                self.broken = Some(why.clone());
            }
        })?;
        let appended = Appended { first_event: self.heads.events, first_routed: self.heads.routed };
        self.heads.events += batch.events.len() as u64;
        self.heads.routed += batch.routed.len() as u64;
        self.catalog.publish(self.heads);
        self.segment_bytes += bytes;
        self.room.wrote(bytes);
        self.checkpointer.wrote(batch.events.len() as u64, bytes);
        Ok(appended)
    }
}

/// Writes the rows of one batch within its transaction.
struct BatchWriter<'a> {
    catalog: &'a Catalog,
    connection: &'a Connection,
    scratch: &'a mut Scratch,
    /// The segment's first rows: only these need their number said.
    first: Heads,
}

impl BatchWriter<'_> {
    fn events(&mut self, events: &[(NewEvent, bool)], from: Offset) -> rusqlite::Result<u64> {
        if events.is_empty() {
            return Ok(0);
        }
        let mut bytes = 0;
        self.scratch.ids.clear();
        let mut append = self.connection.prepare_cached(APPEND_EVENT)?;
        for ((event, conflict), offset) in events.iter().zip(from..) {
            let checksum = event_checksum(&self.catalog.keys, &mut self.scratch.row, offset, event, *conflict);
            if offset == self.first.events {
                let mut insert = self.connection.prepare_cached(INSERT_EVENT)?;
                insert_event(&mut insert, Some(offset), event, *conflict, checksum)?;
            } else {
                insert_event(&mut append, None, event, *conflict, checksum)?;
            }
            for pair in pairs_of(event) {
                self.scratch.ids.extend_from_slice(&pair.id_hash.to_le_bytes());
                self.scratch.ids.extend_from_slice(&pair.body_hash.to_le_bytes());
            }
            bytes += EVENT_BYTES + event.body.len() as u64;
        }
        assert_last_row(self.connection, from + events.len() as u64 - 1);
        let mut ids = self.connection.prepare_cached("INSERT INTO ids VALUES(?1, ?2)")?;
        ids.execute(params![rowid(from), self.scratch.ids.as_slice()])?;
        Ok(bytes)
    }

    fn routed(&mut self, routed: &[NewRouted], from: Offset, records: &mut HashMap<u64, i64>) -> rusqlite::Result<u64> {
        if routed.is_empty() {
            return Ok(0);
        }
        let mut bytes = 0;
        let mut append = self.connection.prepare_cached(APPEND_ROUTED)?;
        for (new, offset) in routed.iter().zip(from..) {
            let Scratch { row, targets, enrichment, records: added, .. } = &mut *self.scratch;
            targets.0.clear();
            enrichment.0.clear();
            decision::pack(targets, &new.row.decision);
            if !new.row.enrichment.is_empty() {
                decision::pack_enrichment(enrichment, &new.row.enrichment, |record| {
                    place_of(self.connection, &self.catalog.keys, record, records, added, &mut bytes)
                })?;
            }
            let columns = RoutedColumns {
                targets: &targets.0,
                event: new.row.event.offset,
                job: new.row.job,
                generation: new.row.generation,
                enrichment: &enrichment.0,
            };
            let checksum = routed_checksum(&self.catalog.keys, row, offset, &columns);
            if offset == self.first.routed {
                let mut insert = self.connection.prepare_cached(INSERT_ROUTED)?;
                insert_routed(&mut insert, Some(offset), &columns, checksum)?;
            } else {
                insert_routed(&mut append, None, &columns, checksum)?;
            }
            bytes += ROUTED_BYTES;
        }
        assert_last_row(self.connection, from + routed.len() as u64 - 1);
        Ok(bytes)
    }
}

/// Where a record lies in the segment; it is added if it is not there yet.
fn place_of(
    connection: &Connection,
    keys: &HashKeys,
    record: &Record,
    records: &mut HashMap<u64, i64>,
    added: &mut Vec<(u64, i64)>,
    bytes: &mut u64,
) -> rusqlite::Result<i64> {
    if let Some(place) = records.get(&record.hash) {
        return Ok(*place);
    }
    let mut insert = connection.prepare_cached(INSERT_RECORD)?;
    insert.execute(params![keys.body(&record.bytes).cast_signed(), &record.bytes[..]])?;
    let place = connection.last_insert_rowid();
    records.insert(record.hash, place);
    added.push((record.hash, place));
    *bytes += record.bytes.len() as u64;
    Ok(place)
}

/// What was numbered by SQLite must have got the number that its checksum and its readers rely on.
fn assert_last_row(connection: &Connection, expected: Offset) {
    assert_eq!(connection.last_insert_rowid(), rowid(expected), "rows of a segment are dense");
}

/// The places of the newest records of a segment, for a start.
fn recent_records(connection: &Connection) -> rusqlite::Result<HashMap<u64, i64>> {
    let mut statement = connection.prepare("SELECT hash, id FROM enrichment ORDER BY id DESC LIMIT 4096")?;
    let record = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?));
    statement.query_map([], record)?.collect()
}

/// The one partition of a SQLite store.
pub const PARTITION: Partition = Partition(0);
