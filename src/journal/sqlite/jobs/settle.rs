//! How items leave a job's list: delivered, dead, or given back.

use super::{
    Counts, JobRecord, JobState,
    feed::{give_back, lane_id},
    find_job, note_state,
};
use crate::{
    domain::{DestinationName, Offset, OrderKey, ReplayJob, Timestamp},
    journal::{
        LaneName, Progress, Receipt, ShelfChange, ShelfRow, ShelfState, WriteError,
        sqlite::{
            decision::cause_code,
            state::SqliteState,
            state_rows::{LaneColumns, PUT_SHELF, REMOVE_SHELF, lane_name, pack_receipts, put_shelf, route_text},
        },
    },
};
use rusqlite::{Connection, OptionalExtension, params};

/// A key that was held by a dead letter that is gone, and the lane to tell.
pub type Released = (DestinationName, OrderKey);

/// What a part of a job makes durable at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartSettlement {
    /// The part.
    pub part: ReplayJob,
    /// Where it publishes.
    pub destination: DestinationName,
    /// Where its lane stands.
    pub progress: Progress,
    /// What ended.
    pub receipts: Vec<Receipt>,
    /// What becomes of its items: removed when delivered, dead when not.
    pub shelf: Vec<ShelfChange>,
}

/// Where an item came from.
struct Entry {
    moved: bool,
    origin: Option<(i64, Offset, String)>,
}

impl SqliteState {
    /// Makes the ends of a part's deliveries durable. Gives the job's counts afterwards, and the keys that are let go.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn settle_part(&mut self, settlement: &PartSettlement) -> Result<(Counts, Vec<Released>), WriteError> {
        self.write(1 + 3 * settlement.shelf.len() as u64, |connection, _| {
            let Some(lane) = lane_id(connection, &LaneName::Replay(settlement.part))? else {
                return Ok((Counts::default(), Vec::new()));
            };
            let watermark = LaneColumns::new(&settlement.progress).watermark;
            connection.prepare_cached("UPDATE lanes SET watermark = ?2 WHERE id = ?1")?.execute([lane, watermark])?;
            if let Some((first, last, packed)) = pack_receipts(&settlement.receipts) {
                let sql = "INSERT INTO receipts(lane, first_row, last_row, packed) VALUES(?1, ?2, ?3, ?4)";
                connection.prepare_cached(sql)?.execute(params![lane, first, last, packed])?;
            }
            let (mut delivered, mut failed, mut released, mut error) = (0_i64, 0_i64, Vec::new(), None);
            for change in &settlement.shelf {
                match change {
                    ShelfChange::Remove(offset, route) => {
                        let entry = leave(connection, lane, *offset, route_text(route.as_ref()), false)?;
                        delivered += i64::from(entry.is_some());
                        finish(connection, entry, &mut released)?;
                    }
                    ShelfChange::Put(row) => {
                        let entry = leave(connection, lane, row.offset, route_text(row.route.as_ref()), true)?;
                        failed += i64::from(entry.is_some());
                        error = Some(format!("{}: {}", row.cause.map_or("dead", |cause| cause.as_str()), row.detail));
                        died(connection, entry.as_ref(), &settlement.destination, row)?;
                        finish(connection, entry, &mut released)?;
                    }
                }
            }
            let job = settlement.part.whole();
            let sql = "UPDATE jobs SET delivered = delivered + ?2, failed = failed + ?3, \
                 last_error = COALESCE(?4, last_error) WHERE job = ?1";
            connection.prepare_cached(sql)?.execute(params![job.0.cast_signed(), delivered, failed, error])?;
            let counts = find_job(connection, job)?.map(|record| record.counts);
            Ok((counts.unwrap_or_default(), released))
        })
    }

    /// Ends a job before its time: what it still has is a dead letter again, as it was. The job as it is afterwards.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn give_back_job(
        &mut self,
        job: ReplayJob,
        to: JobState,
        at: Timestamp,
    ) -> Result<Option<JobRecord>, WriteError> {
        self.write(1, |connection, _| {
            let Some(record) = find_job(connection, job)? else { return Ok(None) };
            for lane in part_lanes(connection, job)? {
                for sql in ["DELETE FROM shelf WHERE lane = ?1", "DELETE FROM job_items WHERE lane = ?1"] {
                    connection.execute(sql, [lane])?;
                }
            }
            let sql = "UPDATE shelf SET state = 1, job = 0 WHERE state = 2 AND job = ?1";
            connection.execute(sql, [job.0.cast_signed()])?;
            note_state(connection, &record, to, (at, &record.who))?;
            find_job(connection, job)
        })
    }
}

/// The lanes of a job's parts.
pub(super) fn part_lanes(connection: &Connection, job: ReplayJob) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare("SELECT id, lane FROM lanes WHERE lane LIKE 'replay:%'")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
    let mut lanes = Vec::new();
    for row in rows {
        let (id, text) = row?;
        if matches!(lane_name(&text), Some(LaneName::Replay(part)) if part.whole() == job) {
            lanes.push(id);
        }
    }
    Ok(lanes)
}

/// Takes an item off the list; one that died stays noted until its origin's others have ended.
fn leave(connection: &Connection, lane: i64, row: Offset, route: &str, died: bool) -> rusqlite::Result<Option<Entry>> {
    let item = params![lane, row.cast_signed(), route];
    connection.prepare_cached(REMOVE_SHELF)?.execute(item)?;
    let sql = "SELECT moved, origin_lane, origin_row, origin_route FROM job_items \
         WHERE lane = ?1 AND row = ?2 AND route = ?3 AND dead = 0";
    let read = |row: &rusqlite::Row<'_>| {
        let origin = match (row.get::<_, Option<i64>>(1)?, row.get::<_, Option<i64>>(2)?) {
            (Some(lane), Some(offset)) => Some((lane, offset.cast_unsigned(), row.get::<_, String>(3)?)),
            _ => None,
        };
        Ok(Entry { moved: row.get(0)?, origin })
    };
    let Some(entry) = connection.prepare_cached(sql)?.query_row(item, read).optional()? else { return Ok(None) };
    let sql = if died && !entry.moved && entry.origin.is_some() {
        "UPDATE job_items SET dead = 1 WHERE lane = ?1 AND row = ?2 AND route = ?3"
    } else {
        "DELETE FROM job_items WHERE lane = ?1 AND row = ?2 AND route = ?3"
    };
    connection.prepare_cached(sql)?.execute(item)?;
    Ok(Some(entry))
}

/// Notes a death: on the dead letter that it was, or as one of its own.
fn died(
    connection: &Connection,
    entry: Option<&Entry>,
    destination: &DestinationName,
    row: &ShelfRow,
) -> rusqlite::Result<()> {
    match entry {
        None => {}
        Some(Entry { moved: false, origin: Some((lane, offset, route)) }) => {
            let sql = "UPDATE shelf SET cause = ?4, detail = ?5, attempts = ?6, last_at = ?7 \
                 WHERE lane = ?1 AND row = ?2 AND route = ?3";
            let cause = row.cause.map_or(0, cause_code);
            let at = row.last_at.as_millis();
            let values = params![lane, offset.cast_signed(), route, cause, row.detail, row.attempts, at];
            connection.prepare_cached(sql)?.execute(values)?;
        }
        Some(_) => {
            let Some(lane) = lane_id(connection, &LaneName::Destination(destination.clone()))? else { return Ok(()) };
            let sql = "SELECT 1 FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3";
            let place = params![lane, row.offset.cast_signed(), route_text(row.route.as_ref())];
            // Of an event that was sent once more, the first delivery may lie there already.
            if connection.prepare_cached(sql)?.query_row(place, |_| Ok(())).optional()?.is_none() {
                // Decided anew and dead again, it takes over the key that its dead letter holds.
                let holds = origin_holds(connection, entry, lane)?;
                let row = ShelfRow { state: ShelfState::Dead, holds, ..row.clone() };
                let mut put = connection.prepare_cached(PUT_SHELF)?;
                put_shelf(&mut put, lane, &row)?;
            }
        }
    }
    Ok(())
}

/// Whether what died was a dead letter of this lane, and that one holds its key.
fn origin_holds(connection: &Connection, entry: Option<&Entry>, lane: i64) -> rusqlite::Result<bool> {
    let Some((origin, row, route)) = entry.and_then(|entry| entry.origin.as_ref()) else { return Ok(false) };
    let sql = "SELECT holds FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3 AND order_key IS NOT NULL";
    let held = connection.prepare_cached(sql)?.query_row(params![origin, row.cast_signed(), route], |row| row.get(0));
    Ok(*origin == lane && held.optional()?.unwrap_or(false))
}

/// When the last item of a dead letter has ended: it goes, or is one again.
fn finish(connection: &Connection, entry: Option<Entry>, released: &mut Vec<Released>) -> rusqlite::Result<()> {
    let Some(Entry { moved, origin: Some((lane, row, route)) }) = entry else { return Ok(()) };
    let origin = params![lane, row.cast_signed(), route];
    let sql = "SELECT COUNT(*), COALESCE(SUM(dead), 0) FROM job_items \
         WHERE origin_lane = ?1 AND origin_row = ?2 AND origin_route = ?3";
    let (all, dead): (i64, i64) =
        connection.prepare_cached(sql)?.query_row(origin, |row| Ok((row.get(0)?, row.get(1)?)))?;
    if all > dead {
        return Ok(());
    }
    if dead == 0 {
        let before = released.len();
        remove(connection, lane, row, &route, 2, released)?;
        let held = "SELECT 1 FROM shelf WHERE lane = ?1 AND order_key = ?2 AND holds AND state = 1";
        if let Some((_, key)) = released.get(before).filter(|_| moved)
            && connection.prepare_cached(held)?.exists(params![lane, key.0.cast_signed()])?
        {
            // Its successor holds the key on.
            released.truncate(before);
        }
        return Ok(());
    }
    give_back(connection, lane, row, &route)?;
    let sql = "DELETE FROM job_items WHERE origin_lane = ?1 AND origin_row = ?2 AND origin_route = ?3";
    connection.prepare_cached(sql)?.execute(origin).map(|_| ())
}

/// Takes a dead letter off its shelf if it is in this state, and notes the key that it held. Whether it was there.
pub(super) fn remove(
    connection: &Connection,
    lane: i64,
    row: Offset,
    route: &str,
    state: i64,
    released: &mut Vec<Released>,
) -> rusqlite::Result<bool> {
    let sql = "DELETE FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3 AND state = ?4 RETURNING holds, order_key";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, bool>(0)?, row.get::<_, Option<i64>>(1)?));
    let values = params![lane, row.cast_signed(), route, state];
    let Some((holds, order)) = connection.prepare_cached(sql)?.query_row(values, read).optional()? else {
        return Ok(false);
    };
    if let Some(order) = order.filter(|_| holds) {
        let name: String = connection.query_row("SELECT lane FROM lanes WHERE id = ?1", [lane], |row| row.get(0))?;
        if let Some(LaneName::Destination(destination)) = lane_name(&name) {
            released.push((destination, OrderKey(order.cast_unsigned())));
        }
    }
    Ok(true)
}
