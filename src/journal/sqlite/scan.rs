//! Reading rows of one file in order, past whatever is damaged.
//!
//! Rows are dense: a row that is missing between two others is damage too. When a page cannot be read, the row that
//! should stand there is reported and the scan goes on behind it, row by row, until something can be read again.

use crate::{
    domain::{Event, HashKeys, Incarnation, Offset, Record},
    journal::{
        Damage, Entry, ReadError, ReadLimit, Wanted,
        budget::Budget,
        sqlite::{
            database::is_damage,
            decision,
            pack::Packer,
            rows::{
                EventReader, RoutedColumns, SELECT_EVENTS, SELECT_RECORD, SELECT_ROUTED, blob, integer,
                routed_checksum, routed_columns, rowid,
            },
            writer::PARTITION,
        },
    },
};
use rusqlite::Connection;
use std::{
    collections::HashMap,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a scan may hold a snapshot: longer ones keep the WAL from starting over.
pub const SNAPSHOT_MAX: Duration = Duration::from_millis(50);
/// Rows between two looks at the clock.
const ROWS_BETWEEN_LOOKS: u64 = 64;

/// What a walk over a range does with a row.
enum Step {
    On,
    Stop,
}

/// Walks over the rows of a statement with `offset >= ?1 AND offset < ?2`. `visit` gets each row; `damaged` each
/// number that should be there and cannot be read. Both say whether to go on. Returns the first row not visited.
///
/// # Errors
/// SQLite's, when it is not about one row.
fn walk(connection: &Connection, sql: &str, range: Range<Offset>, out: &mut impl Visit) -> rusqlite::Result<Offset> {
    let started = Instant::now();
    let mut next = range.start;
    while next < range.end {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([rowid(next), rowid(range.end)])?;
        let why = loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let offset = integer(row, 0).map_or(next, i64::cast_unsigned);
                    while next < offset {
                        if let Step::Stop = out.damaged(next, "the row is missing") {
                            return Ok(next + 1);
                        }
                        next += 1;
                    }
                    next += 1;
                    if let Step::Stop = out.row(offset, row) {
                        return Ok(next);
                    }
                    if next.is_multiple_of(ROWS_BETWEEN_LOOKS) && started.elapsed() > SNAPSHOT_MAX {
                        return Ok(next);
                    }
                }
                Ok(None) => break "the row is missing".to_owned(),
                Err(error) if is_damage(&error) => break format!("its page cannot be read: {error}"),
                Err(error) => return Err(error),
            }
        };
        if next < range.end {
            let stop = out.damaged(next, &why);
            next += 1;
            if let Step::Stop = stop {
                break;
            }
        }
    }
    Ok(next)
}

trait Visit {
    fn row(&mut self, offset: Offset, row: &rusqlite::Row<'_>) -> Step;
    fn damaged(&mut self, offset: Offset, why: &str) -> Step;
}

fn damage(offset: Offset, detail: &str) -> Damage {
    Damage { offset, event: None, detail: detail.into() }
}

/// Reads events of one file. Returns them and the first row not read.
///
/// # Errors
/// SQLite's, when it is not about one row.
pub fn events(
    connection: &Connection,
    keys: &HashKeys,
    incarnation: impl Fn(Offset) -> Incarnation,
    range: Range<Offset>,
    budget: &mut Budget,
    rows: &mut Vec<Entry<Event>>,
) -> rusqlite::Result<Offset> {
    let mut out = Events { reader: EventReader::new(keys), incarnation, budget, rows };
    walk(connection, SELECT_EVENTS, range, &mut out)
}

struct Events<'a, F> {
    reader: EventReader<'a>,
    incarnation: F,
    budget: &'a mut Budget,
    rows: &'a mut Vec<Entry<Event>>,
}

impl<F> Events<'_, F> {
    fn push(&mut self, entry: Entry<Event>, bytes: usize) -> Step {
        self.budget.spend(bytes);
        self.rows.push(entry);
        if self.budget.is_spent(self.rows.len()) { Step::Stop } else { Step::On }
    }
}

impl<F: Fn(Offset) -> Incarnation> Visit for Events<'_, F> {
    fn row(&mut self, offset: Offset, row: &rusqlite::Row<'_>) -> Step {
        match self.reader.read(row, PARTITION, (self.incarnation)(offset)) {
            Ok(event) => {
                let bytes = event.body.len();
                self.push(Entry::Row(Arc::new(event)), bytes)
            }
            Err(why) => self.damaged(offset, &why),
        }
    }

    fn damaged(&mut self, offset: Offset, why: &str) -> Step {
        self.push(Entry::Damaged(damage(offset, why)), 0)
    }
}

/// Some events of one file, by ascending row; rows in between are passed over.
///
/// # Errors
/// SQLite's, when it is not about one row.
pub fn chosen_events(
    connection: &Connection,
    keys: &HashKeys,
    incarnation: impl Fn(Offset) -> Incarnation,
    offsets: &[Offset],
    found: &mut HashMap<Offset, Result<Arc<Event>, String>>,
) -> rusqlite::Result<()> {
    let mut out = Chosen { reader: EventReader::new(keys), incarnation, wanted: offsets, found };
    for run in offsets.chunk_by(|a, b| b - a <= GAP_MAX) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        // A walk may stop early to let the snapshot go.
        let mut next = *first;
        while next <= *last {
            next = walk(connection, SELECT_EVENTS, next..last + 1, &mut out)?;
        }
    }
    Ok(())
}

/// Stepping over so many rows is cheaper than a new search.
const GAP_MAX: u64 = 4;

struct Chosen<'a, F> {
    reader: EventReader<'a>,
    incarnation: F,
    wanted: &'a [Offset],
    found: &'a mut HashMap<Offset, Result<Arc<Event>, String>>,
}

impl<F: Fn(Offset) -> Incarnation> Visit for Chosen<'_, F> {
    fn row(&mut self, offset: Offset, row: &rusqlite::Row<'_>) -> Step {
        if self.wanted.binary_search(&offset).is_ok() {
            let event = self.reader.read(row, PARTITION, (self.incarnation)(offset));
            self.found.insert(offset, event.map(Arc::new));
        }
        Step::On
    }

    fn damaged(&mut self, offset: Offset, why: &str) -> Step {
        self.found.insert(offset, Err(why.to_owned()));
        Step::On
    }
}

/// A decision that concerns the reader, its event still to be fetched.
#[derive(Debug)]
pub struct Candidate {
    /// Its row.
    pub offset: Offset,
    /// All of it, or what is wrong with it; and its event, if only its records are.
    pub row: Result<crate::domain::RoutedRow, (Option<Offset>, String)>,
}

/// Finds decisions that concern a reader in one file, without touching bodies. Returns them and the first row not
/// looked at.
///
/// # Errors
/// SQLite's, when it is not about one row.
pub fn candidates(
    connection: &Connection,
    keys: &HashKeys,
    wanted: &Wanted,
    range: Range<Offset>,
    rows_max: usize,
) -> rusqlite::Result<(Vec<Candidate>, Offset)> {
    let (scratch, records) = (Packer::default(), HashMap::new());
    let mut out = Decisions { connection, keys, wanted, rows_max, scratch, records, found: Vec::new() };
    let next = walk(connection, SELECT_ROUTED, range, &mut out)?;
    Ok((out.found, next))
}

struct Decisions<'a> {
    connection: &'a Connection,
    keys: &'a HashKeys,
    wanted: &'a Wanted,
    rows_max: usize,
    scratch: Packer,
    records: HashMap<i64, Arc<Record>>,
    found: Vec<Candidate>,
}

impl Decisions<'_> {
    fn push(&mut self, offset: Offset, row: Result<crate::domain::RoutedRow, (Option<Offset>, String)>) -> Step {
        self.found.push(Candidate { offset, row });
        if self.found.len() >= self.rows_max { Step::Stop } else { Step::On }
    }

    fn build(&mut self, columns: &RoutedColumns<'_>) -> Result<crate::domain::RoutedRow, String> {
        let decision = decision::unpack(columns.targets).ok_or("its decision cannot be read")?;
        let Self { connection, keys, records, .. } = self;
        let enrichment =
            decision::unpack_enrichment(columns.enrichment, |place| record(connection, keys, records, place))?;
        let event = crate::domain::Position { partition: PARTITION, offset: columns.event };
        Ok(crate::domain::RoutedRow { event, job: columns.job, generation: columns.generation, decision, enrichment })
    }
}

impl Visit for Decisions<'_> {
    fn row(&mut self, offset: Offset, row: &rusqlite::Row<'_>) -> Step {
        let Some((_, checksum, columns)) = routed_columns(row) else {
            return self.damaged(offset, "a column holds what was never written there");
        };
        // Checked first: a flipped name must not hide a row from its lane.
        if routed_checksum(self.keys, &mut self.scratch, offset, &columns) != checksum {
            return self.damaged(offset, "the row does not match its checksum");
        }
        if decision::concerns(columns.targets, self.wanted) == Some(false) {
            return Step::On;
        }
        let built = self.build(&columns).map_err(|why| (Some(columns.event), why));
        self.push(offset, built)
    }

    fn damaged(&mut self, offset: Offset, why: &str) -> Step {
        self.push(offset, Err((None, why.to_owned())))
    }
}

/// A fetched record, checked; each is read once a scan.
fn record(
    connection: &Connection,
    keys: &HashKeys,
    records: &mut HashMap<i64, Arc<Record>>,
    place: i64,
) -> Result<Arc<Record>, String> {
    if let Some(record) = records.get(&place) {
        return Ok(Arc::clone(record));
    }
    let read = |row: &rusqlite::Row<'_>| {
        let bytes = blob(row, 1).map(bytes::Bytes::copy_from_slice);
        Ok(integer(row, 0).map(i64::cast_unsigned).zip(bytes))
    };
    let found = connection.prepare_cached(SELECT_RECORD).and_then(|mut statement| statement.query_row([place], read));
    let found = found.map_err(|error| format!("its enrichment cannot be read: {error}"))?;
    let (hash, bytes) = found.ok_or("its enrichment cannot be read")?;
    if keys.body(&bytes) != hash {
        return Err("its enrichment does not match its hash".to_owned());
    }
    let record = Arc::new(Record { bytes, hash });
    records.insert(place, Arc::clone(&record));
    Ok(record)
}

/// A read that failed as a whole.
#[must_use]
pub fn read_error(error: &rusqlite::Error) -> ReadError {
    ReadError(error.to_string())
}

/// How many decisions are looked up at once: their events are fetched together, and what does not fit the reader's
/// bytes any more is fetched again later.
#[must_use]
pub fn candidates_max(limit: ReadLimit) -> usize {
    limit.rows.clamp(1, 256)
}
