//! What a job has chosen goes onto its list, chunk by chunk.

use super::{Counts, audit, find_job};
use crate::{
    domain::{DeadCause, DestinationName, Offset, Partition, ReplayJob, RouteName, Timestamp},
    journal::{
        LaneName, ShelfRow, WriteError,
        sqlite::{
            decision::cause_code,
            state::SqliteState,
            state_rows::{PUT_SHELF, lane_text, put_shelf, route_text},
            writer::PARTITION,
        },
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;

/// A dead letter's place: its lane, row and route.
pub type Origin = (LaneName, Offset, Option<RouteName>);

/// A delivery on its way onto a job's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// The part that will publish it.
    pub part: ReplayJob,
    /// The delivery; its state is the part's.
    pub row: ShelfRow,
    /// Whether it had been delivered before, so that its identity must differ.
    pub again: bool,
    /// Whether it was decided anew: if it dies, it is a dead letter of its own.
    pub moved: bool,
}

/// One thing chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planned {
    /// The dead letter it was; `None` for an event.
    pub origin: Option<Origin>,
    /// Its deliveries.
    pub items: Vec<NewItem>,
    /// Why the dead letter stays one, where nothing came of it: `None` for the cause that it had.
    pub refused: Option<(DeadCause, Box<str>)>,
    /// Dead letters that an event's new decision makes.
    pub buried: Vec<ShelfRow>,
}

/// How many items each part has got, and what the job has counted.
pub type Fed = (BTreeMap<ReplayJob, u64>, Counts);

/// A chunk of what a job chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The job.
    pub job: ReplayJob,
    /// Parts that may be new, with their destinations.
    pub parts: Vec<(ReplayJob, DestinationName)>,
    /// What was chosen.
    pub planned: Vec<Planned>,
    /// How far the job has chosen with it.
    pub cursor: String,
    /// The first event still to be read, if it reads events.
    pub pin: Option<Offset>,
    /// Whether that was all.
    pub complete: bool,
    /// Rows that retention had taken.
    pub gone: u64,
}

impl SqliteState {
    /// Lays a chunk on a job's list. A dead letter that is not there any more, or is another job's, is left out. Gives
    /// back what came onto it.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the chunk is there then.
    pub fn feed_job(&mut self, chunk: &Chunk, at: Timestamp) -> Result<Fed, WriteError> {
        let rows: usize = chunk.planned.iter().map(|planned| 2 + planned.items.len() * 2).sum();
        self.write(rows as u64, |connection, _| {
            let mut parts = BTreeMap::new();
            for (part, destination) in &chunk.parts {
                parts.insert(*part, add_part(connection, *part, destination)?);
            }
            let mut fed = BTreeMap::new();
            let mut kept = 0_u64;
            for planned in &chunk.planned {
                let origin = match &planned.origin {
                    Some(origin) if planned.items.is_empty() => {
                        kept += u64::from(refuse(connection, origin, planned.refused.as_ref(), at)?);
                        continue;
                    }
                    Some(origin) => match take(connection, chunk.job, origin)? {
                        Some(lane) => Some((lane, origin.1, route_text(origin.2.as_ref()))),
                        None => continue,
                    },
                    None => None,
                };
                let mut taken = 0;
                for item in &planned.items {
                    let Some(lane) = parts.get(&item.part) else { continue };
                    if add_item(connection, *lane, item, origin)? {
                        *fed.entry(item.part).or_default() += 1;
                        taken += 1;
                    }
                }
                if let Some((lane, row, route)) = origin.filter(|_| taken == 0) {
                    // The same delivery is on the list already, of another dead letter.
                    give_back(connection, lane, row, route)?;
                }
                for row in &planned.buried {
                    bury(connection, row)?;
                }
                kept += planned.buried.len() as u64;
            }
            let matched: u64 = fed.values().sum();
            let sql = "UPDATE jobs SET cursor = ?2, pin = ?3, complete = ?4, matched = matched + ?5, kept = kept + ?6, \
                 gone = gone + ?7 WHERE job = ?1";
            connection.execute(
                sql,
                params![
                    chunk.job.0.cast_signed(),
                    chunk.cursor,
                    chunk.pin.map(u64::cast_signed),
                    chunk.complete,
                    matched.cast_signed(),
                    kept.cast_signed(),
                    chunk.gone.cast_signed()
                ],
            )?;
            if chunk.complete {
                let sql = "SELECT who, matched FROM jobs WHERE job = ?1";
                let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?));
                if let Some((who, matched)) = connection.query_row(sql, [chunk.job.0.cast_signed()], read).optional()? {
                    audit(connection, at, &who, &format!("replay {} has chosen {matched} deliveries", chunk.job))?;
                }
            }
            let counts = find_job(connection, chunk.job)?.map(|record| record.counts);
            Ok((fed, counts.unwrap_or_default()))
        })
    }
}

/// The number of a lane in `state.db`.
pub(super) fn lane_id(connection: &Connection, lane: &LaneName) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM lanes WHERE lane = ?1 AND partition = ?2")?;
    statement.query_row(params![lane_text(lane), PARTITION.0], |row| row.get(0)).optional()
}

fn add_part(connection: &Connection, part: ReplayJob, destination: &DestinationName) -> rusqlite::Result<i64> {
    let lane = LaneName::Replay(part);
    if let Some(id) = lane_id(connection, &lane)? {
        return Ok(id);
    }
    let sql = "INSERT INTO lanes(lane, partition, kind, paused, watermark, reflects, beyond, partial) \
         VALUES(?1, ?2, ?3, 0, 1, 0, x'', x'')";
    let partition: Partition = PARTITION;
    connection.execute(sql, params![lane_text(&lane), partition.0, destination.as_str()])?;
    Ok(connection.last_insert_rowid())
}

/// Marks a dead letter as the job's; its lane, or `None` when it is not to be had.
fn take(connection: &Connection, job: ReplayJob, (lane, row, route): &Origin) -> rusqlite::Result<Option<i64>> {
    let Some(lane) = lane_id(connection, lane)? else { return Ok(None) };
    let sql = "UPDATE shelf SET state = 2, job = ?4 WHERE lane = ?1 AND row = ?2 AND route = ?3 AND state = 1";
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![lane, row.cast_signed(), route_text(route.as_ref()), job.0.cast_signed()];
    Ok((statement.execute(values)? == 1).then_some(lane))
}

/// Makes a dead letter that a job has one that nobody has.
pub(super) fn give_back(connection: &Connection, lane: i64, row: Offset, route: &str) -> rusqlite::Result<()> {
    let sql = "UPDATE shelf SET state = 1, job = 0 WHERE lane = ?1 AND row = ?2 AND route = ?3 AND state = 2";
    connection.prepare_cached(sql)?.execute(params![lane, row.cast_signed(), route]).map(|_| ())
}

/// A dead letter from which nothing came: it stays, with its new cause if it has one. Whether it was there.
fn refuse(
    connection: &Connection,
    (lane, row, route): &Origin,
    why: Option<&(DeadCause, Box<str>)>,
    at: Timestamp,
) -> rusqlite::Result<bool> {
    let Some(lane) = lane_id(connection, lane)? else { return Ok(false) };
    let sql = "UPDATE shelf SET cause = COALESCE(?4, cause), detail = COALESCE(?5, detail), \
         attempts = attempts + (?4 IS NOT NULL), last_at = CASE WHEN ?4 IS NULL THEN last_at ELSE ?6 END \
         WHERE lane = ?1 AND row = ?2 AND route = ?3 AND state = 1";
    let (cause, detail) = (why.map(|(cause, _)| cause_code(*cause)), why.map(|(_, detail)| detail));
    let values = params![lane, row.cast_signed(), route_text(route.as_ref()), cause, detail, at.as_millis()];
    Ok(connection.prepare_cached(sql)?.execute(values)? == 1)
}

/// Whether the item was not on the list yet.
fn add_item(
    connection: &Connection,
    lane: i64,
    item: &NewItem,
    origin: Option<(i64, Offset, &str)>,
) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO job_items(lane, row, route, again, moved, dead, origin_lane, origin_row, origin_route) \
         VALUES(?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
    let added = connection.prepare_cached(sql)?.execute(params![
        lane,
        item.row.offset.cast_signed(),
        route_text(item.row.route.as_ref()),
        item.again,
        item.moved,
        origin.map(|(lane, _, _)| lane),
        origin.map(|(_, row, _)| row.cast_signed()),
        origin.map(|(_, _, route)| route)
    ])?;
    if added == 1 {
        let mut put = connection.prepare_cached(PUT_SHELF)?;
        put_shelf(&mut put, lane, &item.row)?;
    }
    Ok(added == 1)
}

/// Lays a dead letter of a new decision on the morgue's shelf.
fn bury(connection: &Connection, row: &ShelfRow) -> rusqlite::Result<()> {
    let Some(lane) = lane_id(connection, &LaneName::Morgue)? else { return Ok(()) };
    let mut put = connection.prepare_cached(PUT_SHELF)?;
    put_shelf(&mut put, lane, row)
}
