//! `state.db`: lanes and their progress, receipts, shelves, generations, audit.
//!
//! One thread owns it and settles for all lanes at once, off the path of the 200. It also holds what the store is
//! made of: its hash keys, its number of partitions, its format.

use crate::{
    domain::{HashKeys, Offset, OrderKey, Partition, Timestamp},
    journal::{
        Heads, LaneName, LaneRecord, ParkedKey, Progress, ReadError, Settlement, ShelfChange, ShelfRow, State,
        WriteError,
        sqlite::{
            OpenError,
            checkpoint::{Checkpointer, make_durable},
            database::{open_state, transaction},
            feeds,
            folder::{Folder, create_private, sync_folder},
            jobs,
            rows::TABLES,
            scan::read_error,
            segment::FORMAT,
            state_rows::{
                LaneColumns, PUT_SHELF, REMOVE_SHELF, SELECT_PARKED, lane_text, pack_receipts, put_shelf, read_lane,
                read_shelf, route_text,
            },
        },
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{collections::HashMap, path::PathBuf};

/// What is in `state.db` beside the rows that the shelf keeps of removed segments.
///
/// Receipts: one packed row a settlement. Shelf: `state` 0 parked, 1 dead, 2 taken by the replay `job`.
const OWN_TABLES: &str = "
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE lanes(
  id INTEGER PRIMARY KEY, lane TEXT NOT NULL, partition INTEGER NOT NULL, kind TEXT NOT NULL, paused INTEGER NOT NULL,
  watermark INTEGER NOT NULL, reflects INTEGER NOT NULL, beyond BLOB NOT NULL, partial BLOB NOT NULL,
  UNIQUE(lane, partition));
CREATE TABLE receipts(
  id INTEGER PRIMARY KEY, lane INTEGER NOT NULL, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL,
  packed BLOB NOT NULL);
CREATE TABLE shelf(
  lane INTEGER NOT NULL, row INTEGER NOT NULL, route TEXT NOT NULL, event INTEGER NOT NULL,
  received_at INTEGER NOT NULL, incarnation INTEGER NOT NULL, order_key INTEGER, state INTEGER NOT NULL,
  job INTEGER NOT NULL, cause INTEGER NOT NULL, attempts INTEGER NOT NULL, first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL, holds INTEGER NOT NULL, detail TEXT NOT NULL,
  PRIMARY KEY(lane, row, route)) WITHOUT ROWID;
CREATE INDEX parked ON shelf(lane, order_key, row) WHERE state = 0;
CREATE TABLE generations(number INTEGER PRIMARY KEY, at INTEGER NOT NULL, text TEXT NOT NULL);
CREATE TABLE audit(id INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);
";

/// [`State`] of a SQLite store.
#[derive(Debug)]
pub struct SqliteState {
    connection: Connection,
    checkpointer: Checkpointer,
    lanes: HashMap<(LaneName, Partition), i64>,
    broken: Option<String>,
}

impl SqliteState {
    /// Opens `state.db`, or makes it with these keys; returns the keys it holds.
    ///
    /// # Errors
    /// [`OpenError`]: of a newer format, of another number of partitions, or unreadable.
    pub fn open(folder: &Folder, fresh: HashKeys, now: Timestamp) -> Result<(Self, HashKeys), OpenError> {
        let path = folder.state();
        let failed = |source| OpenError::Database { path: path.clone(), source };
        let io = |source| OpenError::Folder { path: path.clone(), source };
        create_private(&path).map_err(io)?;
        let connection = open_state(&path).map_err(failed)?;
        let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if format > FORMAT {
            return Err(OpenError::NewerFormat { path, format, known: FORMAT });
        }
        if format == 0 {
            make(&connection, fresh, now).map_err(|source| OpenError::Write { path: path.clone(), source })?;
            sync_folder(path.parent().unwrap_or(&path)).map_err(io)?;
        }
        for tables in [feeds::TABLES, jobs::TABLES] {
            transaction(&connection, |connection| connection.execute_batch(tables))
                .map_err(|source| OpenError::Write { path: path.clone(), source })?;
        }
        make_durable(&connection, &path)?;
        let keys = HashKeys {
            first: meta(&connection, "hash_key_first").map_err(failed)?.cast_unsigned(),
            second: meta(&connection, "hash_key_second").map_err(failed)?.cast_unsigned(),
        };
        let partitions = meta(&connection, "partitions").map_err(failed)?;
        if partitions != 1 {
            return Err(OpenError::Partitions { path, partitions });
        }
        let checkpointer = Checkpointer::start(&path).map_err(io)?;
        Ok((Self { connection, checkpointer, lanes: HashMap::new(), broken: None }, keys))
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.connection.path().map(PathBuf::from).unwrap_or_default()
    }

    /// The first rows that nobody has seen yet: new rows must not get older numbers, or lanes would take them for done.
    /// They do when the newest segment was lost.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn floor(&self) -> Result<Heads, ReadError> {
        let mut floor = Heads { events: 1, routed: 1 };
        for record in self.lanes()? {
            let first_unseen = first_unseen(&record.progress);
            if record.lane == LaneName::Router {
                floor.events = floor.events.max(first_unseen);
                floor.routed = floor.routed.max(record.progress.reflects + 1);
            } else if !matches!(record.lane, LaneName::Replay(_)) {
                floor.routed = floor.routed.max(first_unseen);
            }
        }
        let sql = "SELECT MAX(event), MAX(CASE WHEN lanes.lane != 'router' THEN row END) \
             FROM shelf JOIN lanes ON lanes.id = shelf.lane";
        let next = |row: &rusqlite::Row<'_>, column| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map_or(1, |last| last.cast_unsigned() + 1))
        };
        let shelf = self.read(|connection| connection.query_row(sql, [], |row| Ok((next(row, 0)?, next(row, 1)?))))?;
        Ok(Heads { events: floor.events.max(shelf.0), routed: floor.routed.max(shelf.1) })
    }

    /// Adds a line to the audit: who did what.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn audit(&mut self, at: Timestamp, who: &str, what: &str) -> Result<(), WriteError> {
        self.write(1, |connection, _| jobs::audit(connection, at, who, what))
    }

    /// Runs a transaction on `state.db`; `rows` is about how many it writes.
    ///
    /// # Errors
    /// [`WriteError`]; after a sync error everything is refused.
    pub fn write<R>(
        &mut self,
        rows: u64,
        work: impl FnOnce(&Connection, &mut HashMap<(LaneName, Partition), i64>) -> rusqlite::Result<R>,
    ) -> Result<R, WriteError> {
        if let Some(why) = &self.broken {
            return Err(WriteError::Sync(why.clone()));
        }
        let Self { connection, checkpointer, lanes, .. } = self;
        let checked = checkpointer.between_batches(connection);
        let result = checked.and_then(|()| transaction(connection, |connection| work(connection, lanes)));
        match &result {
            Ok(_) => checkpointer.wrote(rows, rows * ROW_BYTES),
            Err(error) => {
                // A lane that was added in the transaction is not there.
                lanes.clear();
                if let WriteError::Sync(why) = error {
                    self.broken = Some(why.clone());
                }
            }
        }
        result
    }

    /// Runs a query on `state.db`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, ReadError> {
        work(&self.connection).map_err(|error| read_error(&error))
    }
}

/// What a row of a settlement costs, pages written twice included.
const ROW_BYTES: u64 = 400;

impl State for SqliteState {
    fn lanes(&self) -> Result<Vec<LaneRecord>, ReadError> {
        let rows = self.read(|connection| {
            let sql = "SELECT lane, partition, kind, paused, watermark, reflects, beyond, partial, id FROM lanes";
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([], LaneColumns::read)?.collect::<Result<Vec<_>, _>>()?;
            rows.into_iter().map(|row| Ok((parked_keys(connection, row.id)?, row))).collect::<Result<Vec<_>, _>>()
        })?;
        let lane = |(parked, row): (Vec<ParkedKey>, LaneColumns)| {
            read_lane(&row, parked).ok_or_else(|| ReadError(format!("lane `{}` of state.db is damaged", row.lane)))
        };
        let mut lanes = rows.into_iter().map(lane).collect::<Result<Vec<_>, _>>()?;
        lanes.sort_by(|a, b| (&a.lane, a.partition).cmp(&(&b.lane, b.partition)));
        Ok(lanes)
    }

    fn register(&mut self, lanes: &[LaneRecord]) -> Result<(), WriteError> {
        self.write(lanes.len() as u64, |connection, _| {
            let mut statement = connection.prepare_cached(INSERT_LANE)?;
            for record in lanes {
                let columns = LaneColumns::new(&record.progress);
                statement.execute(params![
                    lane_text(&record.lane),
                    record.partition.0,
                    record.kind,
                    record.paused,
                    columns.watermark,
                    columns.reflects,
                    columns.beyond,
                    columns.partial
                ])?;
            }
            Ok(())
        })
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), WriteError> {
        let rows: usize = settlements.iter().map(|settlement| 1 + settlement.shelf.len()).sum();
        self.write(rows as u64, |connection, lanes| {
            settlements.iter().try_for_each(|settlement| settle(connection, lanes, settlement))
        })
    }

    fn parked(
        &self,
        lane: &LaneName,
        partition: Partition,
        order: OrderKey,
        rows: usize,
    ) -> Result<Vec<ShelfRow>, ReadError> {
        let rows = self.read(|connection| {
            let Some(lane) = find_lane(connection, lane, partition)? else { return Ok(Vec::new()) };
            let mut statement = connection.prepare_cached(SELECT_PARKED)?;
            let limit = i64::try_from(rows).unwrap_or(i64::MAX);
            let found = statement
                .query_map(params![lane, order.0.cast_signed(), limit], |row| Ok(read_shelf(row, partition)))?;
            found.collect::<Result<Vec<_>, _>>()
        })?;
        rows.into_iter().map(|row| row.ok_or_else(|| ReadError("a shelf row is damaged".to_owned()))).collect()
    }

    fn pause(&mut self, lane: &LaneName, partition: Partition, paused: bool) -> Result<(), WriteError> {
        self.write(1, |connection, _| {
            let sql = "UPDATE lanes SET paused = ?3 WHERE lane = ?1 AND partition = ?2";
            connection.execute(sql, params![lane_text(lane), partition.0, paused]).map(|_| ())
        })
    }

    fn forget(&mut self, lane: &LaneName, partition: Partition) -> Result<(), WriteError> {
        self.write(1, |connection, lanes| {
            lanes.remove(&(lane.clone(), partition));
            if let Some(id) = find_lane(connection, lane, partition)? {
                for sql in ["DELETE FROM shelf WHERE lane = ?1", "DELETE FROM lanes WHERE id = ?1"] {
                    connection.execute(sql, [id])?;
                }
            }
            Ok(())
        })
    }

    fn generation(&mut self, text: &str, now: Timestamp) -> Result<u32, WriteError> {
        self.write(1, |connection, _| {
            let sql = "SELECT number, text FROM generations ORDER BY number DESC LIMIT 1";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?));
            let last = connection.query_row(sql, [], read).optional()?;
            match last {
                Some((number, known)) if known == text => Ok(number),
                last => {
                    let number = last.map_or(1, |(number, _)| number + 1);
                    let sql = "INSERT INTO generations VALUES(?1, ?2, ?3)";
                    connection.execute(sql, params![number, now.as_millis(), text])?;
                    Ok(number)
                }
            }
        })
    }

    fn mark(&self, feed: &str) -> Result<Option<Timestamp>, ReadError> {
        self.read(|connection| feeds::mark(connection, feed))
    }

    fn set_mark(&mut self, feed: &str, mark: Timestamp) -> Result<(), WriteError> {
        self.write(1, |connection, _| feeds::set_mark(connection, feed, mark))
    }
}

const INSERT_LANE: &str = "INSERT INTO lanes(lane, partition, kind, paused, watermark, reflects, beyond, partial) \
     VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT(lane, partition) DO NOTHING";
const MOVE_LANE: &str = "UPDATE lanes SET watermark = ?2, reflects = ?3, beyond = ?4, partial = ?5 WHERE id = ?1";
const INSERT_RECEIPTS: &str = "INSERT INTO receipts(lane, first_row, last_row, packed) VALUES(?1, ?2, ?3, ?4)";

fn settle(
    connection: &Connection,
    lanes: &mut HashMap<(LaneName, Partition), i64>,
    settlement: &Settlement,
) -> rusqlite::Result<()> {
    let columns = LaneColumns::new(&settlement.progress);
    let name = (settlement.lane.clone(), settlement.partition);
    let known = match lanes.get(&name) {
        Some(lane) => Some(*lane),
        None => find_lane(connection, &settlement.lane, settlement.partition)?,
    };
    let LaneColumns { watermark, reflects, beyond, partial, .. } = columns;
    let lane = if let Some(lane) = known {
        connection.prepare_cached(MOVE_LANE)?.execute(params![lane, watermark, reflects, beyond, partial])?;
        lane
    } else {
        let text = lane_text(&settlement.lane);
        let values = params![text, settlement.partition.0, "", false, watermark, reflects, beyond, partial];
        connection.prepare_cached(INSERT_LANE)?.execute(values)?;
        connection.last_insert_rowid()
    };
    lanes.insert(name, lane);
    if let Some((first, last, packed)) = pack_receipts(&settlement.receipts) {
        connection.prepare_cached(INSERT_RECEIPTS)?.execute(params![lane, first, last, packed])?;
    }
    for change in &settlement.shelf {
        match change {
            ShelfChange::Put(row) => {
                let mut put = connection.prepare_cached(PUT_SHELF)?;
                put_shelf(&mut put, lane, row)?;
            }
            ShelfChange::Remove(offset, route) => {
                let values = params![lane, offset.cast_signed(), route_text(route.as_ref())];
                connection.prepare_cached(REMOVE_SHELF)?.execute(values)?;
            }
        }
    }
    Ok(())
}

/// The first row that a lane has not settled, nor any after it.
fn first_unseen(progress: &Progress) -> Offset {
    let last_word = progress.beyond.iter().rposition(|word| *word != 0);
    let beyond = last_word.and_then(|index| {
        let word = progress.beyond.get(index)?;
        Some(progress.watermark + index as u64 * 64 + u64::from(u64::BITS - word.leading_zeros()))
    });
    let partial = progress.partial.iter().map(|(offset, _)| offset + 1).max();
    progress.watermark.max(beyond.unwrap_or(0)).max(partial.unwrap_or(0))
}

fn find_lane(connection: &Connection, lane: &LaneName, partition: Partition) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM lanes WHERE lane = ?1 AND partition = ?2")?;
    statement.query_row(params![lane_text(lane), partition.0], |row| row.get(0)).optional()
}

fn parked_keys(connection: &Connection, lane: i64) -> rusqlite::Result<Vec<ParkedKey>> {
    let sql = "SELECT order_key, SUM(state = 0), MAX(holds AND state != 0) FROM shelf \
         WHERE lane = ?1 AND order_key IS NOT NULL AND (state = 0 OR holds) GROUP BY order_key";
    let mut statement = connection.prepare_cached(sql)?;
    let key = |row: &rusqlite::Row<'_>| {
        let order = OrderKey(row.get::<_, i64>(0)?.cast_unsigned());
        Ok(ParkedKey { order, rows: row.get::<_, i64>(1)?.cast_unsigned(), held: row.get(2)? })
    };
    let mut keys = statement.query_map([lane], key)?.collect::<Result<Vec<_>, _>>()?;
    keys.sort_by_key(|key| key.order);
    Ok(keys)
}

fn make(connection: &Connection, keys: HashKeys, now: Timestamp) -> Result<(), WriteError> {
    transaction(connection, |connection| {
        connection.execute_batch(TABLES)?;
        connection.execute_batch(OWN_TABLES)?;
        let values = [
            ("hash_key_first", keys.first.cast_signed()),
            ("hash_key_second", keys.second.cast_signed()),
            ("partitions", 1),
            ("created_at", now.as_millis()),
        ];
        for (name, value) in values {
            connection.execute("INSERT INTO meta VALUES(?1, ?2)", params![name, value])?;
        }
        connection.pragma_update(None, "user_version", FORMAT)
    })
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}
