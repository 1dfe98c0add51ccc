//! How an event's deliveries ended, from the receipts of the lanes: lines of its timeline.
//!
//! Receipts are packed by settlement and have no index. They are stored in the order of settling, which is nearly the
//! order of rows: the place is found by halving, and what follows is looked through up to a bound. A delivery that
//! lay on the shelf for long may have its last receipt beyond it; where the delivery is, `fates` knows all the same.

use crate::{
    domain::Offset,
    journal::{
        LaneName, ReadError, Receipt,
        sqlite::{
            queries::{Queries, lanes},
            state_rows::unpack_receipts,
        },
    },
};
use rusqlite::{Connection, OptionalExtension, params};

/// Settlements before the place found that are looked at too: lanes settle beside each other.
const SETTLEMENTS_BEFORE: i64 = 2_000;
/// Settlements looked at.
const SETTLEMENTS_MAX: i64 = 50_000;

impl Queries {
    /// Finds the receipts of a ROUTED row in all lanes, by time.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged settlement is passed over.
    pub fn receipts(&self, row: Offset) -> Result<Vec<(LaneName, Receipt)>, ReadError> {
        self.state(|connection| {
            let mut found = Vec::new();
            for (id, record) in lanes(connection)? {
                if record.lane == LaneName::Router {
                    continue;
                }
                let receipts = of_lane(connection, id, row)?;
                found.extend(receipts.into_iter().map(|receipt| (record.lane.clone(), receipt)));
            }
            found.sort_by_key(|(_, receipt)| receipt.at);
            Ok(found)
        })
    }
}

fn of_lane(connection: &Connection, lane: i64, row: Offset) -> rusqlite::Result<Vec<Receipt>> {
    let Some(start) = place(connection, lane, row)? else { return Ok(Vec::new()) };
    let from = start.saturating_sub(SETTLEMENTS_BEFORE);
    let sql = "SELECT first_row, packed FROM receipts \
         WHERE id >= ?1 AND id < ?2 AND lane = ?3 AND first_row <= ?4 AND last_row >= ?4 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![from, from.saturating_add(SETTLEMENTS_MAX), lane, row.cast_signed()])?;
    let mut found = Vec::new();
    while let Some(settlement) = rows.next()? {
        let first = settlement.get::<_, i64>(0)?.cast_unsigned();
        let receipts = settlement.get_ref(1)?.as_blob().ok().and_then(|packed| unpack_receipts(first, packed));
        found.extend(receipts.unwrap_or_default().into_iter().filter(|receipt| receipt.offset == row));
    }
    Ok(found)
}

/// The first settlement of a lane that reaches a row, if settlements were in the order of rows.
fn place(connection: &Connection, lane: i64, row: Offset) -> rusqlite::Result<Option<i64>> {
    let ends = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?));
    let (Some(mut low), Some(mut high)) = connection.query_row("SELECT MIN(id), MAX(id) FROM receipts", [], ends)?
    else {
        return Ok(None);
    };
    let sql = "SELECT last_row FROM receipts WHERE id >= ?1 AND id <= ?2 AND lane = ?3 ORDER BY id LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    while low < high {
        let middle = low + (high - low) / 2;
        let last: Option<i64> = statement.query_row([middle, high, lane], |row| row.get(0)).optional()?;
        match last {
            Some(last) if last.cast_unsigned() < row => low = middle + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(Some(low))
}
