//! Takes out of `state.db` what nobody needs any more: old dead letters, receipts, copies, and then the room they took.
//!
//! What goes is looked for outside the steps, a page at a time, so that a step holds the lock only for as long as it takes
//! to delete some rows by their keys.

use crate::{
    domain::{Offset, Timestamp},
    journal::{
        Heads,
        sqlite::{
            database::PAGE_BYTES,
            decision,
            rows::rowid,
            steps::{Ended, ROWS_AT_ONCE, Steps},
        },
    },
};
use rusqlite::{Connection, Row, params};
use std::collections::HashSet;

/// Rows that one look for old ones walks over: a millisecond.
const ROWS_A_LOOK: u32 = 2_000;

/// Free pages that stay in the file for what comes next: a MiB.
const FREE_PAGES_KEPT: i64 = 256;
/// Free pages that one step gives back.
const PAGES_AT_ONCE: i64 = 256;

/// Where a row of the shelf stands: lane, row, route.
type Place = (i64, i64, String);

const SELECT_LETTERS: &str = "SELECT lane, row, route, state = 1 AND NOT holds AND last_at < ?4 FROM shelf \
     WHERE (lane, row, route) > (?1, ?2, ?3) ORDER BY lane, row, route LIMIT ?5";
/// Looked at again within the step: a replay may have taken it meanwhile.
const DELETE_LETTER: &str = "DELETE FROM shelf WHERE lane = ?1 AND row = ?2 AND route = ?3 \
     AND state = 1 AND NOT holds AND last_at < ?4";

/// Deletes dead letters whose last try lies before a time. Those that hold their key stay: only their lane may let the
/// key go.
///
/// # Errors
/// [`Ended`]; what was deleted until then stays so.
pub fn dead_letters(steps: &mut Steps<'_>, before: Timestamp, deleted: &mut usize) -> Result<(), Ended> {
    let before = before.as_millis();
    let mut after: Place = (0, 0, String::new());
    loop {
        let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), row.get(3)?));
        let page: Vec<(Place, bool)> = steps.read(|connection| {
            let mut statement = connection.prepare_cached(SELECT_LETTERS)?;
            statement.query_map(params![after.0, after.1, after.2, before, ROWS_A_LOOK], read)?.collect()
        })?;
        let is_last = page.len() < ROWS_A_LOOK as usize;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = last.clone();
        let old: Vec<Place> = page.into_iter().filter_map(|(place, old)| old.then_some(place)).collect();
        for step in old.chunks(ROWS_AT_ONCE) {
            let count: usize = steps.write(|connection| {
                let mut delete = connection.prepare_cached(DELETE_LETTER)?;
                step.iter().map(|(lane, row, route)| delete.execute(params![lane, row, route, before])).sum()
            })?;
            *deleted += count;
        }
        // What comes behind it meanwhile is new.
        if is_last {
            return Ok(());
        }
        steps.look()?;
    }
}

/// Deletes receipts of rows below the first one of ROUTED that is there. The router has none.
///
/// # Errors
/// [`Ended`]; what was deleted until then stays so.
pub fn receipts(steps: &mut Steps<'_>, below: Offset) -> Result<(), Ended> {
    let mut after = 0_i64;
    loop {
        let sql = "SELECT id, last_row FROM receipts WHERE id > ?1 ORDER BY id LIMIT ?2";
        let page: Vec<(i64, i64)> = steps.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_map(params![after, ROWS_A_LOOK], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })?;
        let is_last = page.len() < ROWS_A_LOOK as usize;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = *last;
        let old: Vec<i64> = page.iter().filter(|(_, row)| *row < rowid(below)).map(|(id, _)| *id).collect();
        delete(steps, &["DELETE FROM receipts WHERE id = ?1"], &old)?;
        // What comes behind it meanwhile is new.
        if is_last {
            return Ok(());
        }
        steps.look()?;
    }
}

/// Deletes copies that no shelf refers to any more, and the records that only they had. Nothing comes to lie on a shelf
/// anew about a copy that no shelf refers to: what is found is still so in its step.
///
/// # Errors
/// [`Ended`]; what was deleted until then stays so.
pub fn copies(steps: &mut Steps<'_>, first: Heads, records_swept: &mut bool) -> Result<(), Ended> {
    let sql = "SELECT offset FROM routed WHERE offset < ?1 AND offset NOT IN (SELECT row FROM shelf)";
    let decisions = steps.read(|connection| column(connection, sql, rowid(first.routed)))?;
    *records_swept &= decisions.is_empty();
    delete(steps, &["DELETE FROM routed WHERE offset = ?1"], &decisions)?;
    let sql = "SELECT offset FROM events WHERE offset < ?1 AND offset NOT IN (SELECT event FROM shelf)";
    let events = steps.read(|connection| column(connection, sql, rowid(first.events)))?;
    let with_run = ["DELETE FROM events WHERE offset = ?1", "DELETE FROM runs WHERE first_event = ?1"];
    delete(steps, &with_run, &events)?;
    if !*records_swept {
        let records = steps.read(unused_records)?;
        delete(steps, &["DELETE FROM enrichment WHERE id = ?1"], &records)?;
        *records_swept = true;
    }
    Ok(())
}

/// Records that no copied decision refers to. A damaged decision refers to none: it cannot be read with them either.
fn unused_records(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut used = HashSet::new();
    let mut statement = connection.prepare("SELECT enrichment FROM routed WHERE length(enrichment) > 0")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        used.extend(row.get_ref(0)?.as_blob().ok().and_then(decision::records).unwrap_or_default());
    }
    let all = column(connection, "SELECT id FROM enrichment WHERE id >= ?1", i64::MIN)?;
    Ok(all.into_iter().filter(|id| !used.contains(id)).collect())
}

/// Gives pages that nothing lies in any more back to the disk. The file of an older version, which was not made for that,
/// stays as large as it is; its pages are used again.
///
/// # Errors
/// [`Ended`]; what was given back until then is.
pub fn shrink(steps: &mut Steps<'_>) -> Result<(), Ended> {
    let mut free = steps.read(free_pages)?;
    while free > FREE_PAGES_KEPT {
        let left = steps.write(|connection| {
            let sql = format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})");
            let mut statement = connection.prepare(&sql)?;
            // Each row is a page.
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            free_pages(connection)
        })?;
        if left >= free {
            break;
        }
        free = left;
    }
    Ok(())
}

fn free_pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "freelist_count", |row| row.get(0))
}

/// Bytes that something lies in, whatever the file's length.
///
/// # Errors
/// SQLite's.
pub fn bytes_used(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let used = pages - free_pages(connection)?;
    Ok(u64::try_from(used).unwrap_or(0) * u64::from(PAGE_BYTES))
}

fn column(connection: &Connection, sql: &str, bound: i64) -> rusqlite::Result<Vec<i64>> {
    connection.prepare(sql)?.query_map([bound], |row| row.get(0))?.collect()
}

/// Deletes rows by their keys, so many in a step.
fn delete(steps: &mut Steps<'_>, statements: &[&str], keys: &[i64]) -> Result<(), Ended> {
    for step in keys.chunks(ROWS_AT_ONCE) {
        steps.write(|connection| {
            for sql in statements {
                let mut statement = connection.prepare_cached(sql)?;
                step.iter().try_for_each(|key| statement.execute([key]).map(|_| ()))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
