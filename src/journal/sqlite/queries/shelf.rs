//! What lies on the shelves, dead.

use crate::{
    domain::{DeadCause, Offset, RouteName, Timestamp},
    journal::{
        LaneName, ReadError, ShelfRow,
        sqlite::{
            decision::{cause, cause_code},
            queries::{Queries, lanes},
            state_rows::read_shelf,
            writer::PARTITION,
        },
    },
};
use rusqlite::{Connection, params};
use std::cmp::Reverse;

/// A dead letter's place: its row, then its lane by number, then its route. Lists go down by row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShelfPlace {
    /// Higher rows first.
    pub row: Reverse<Offset>,
    /// The lane's number in `state.db`.
    pub lane: i64,
    /// The route, or nothing.
    pub route: String,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Whose shelf it lies on.
    pub lane: LaneName,
    /// Where it stands in lists.
    pub place: ShelfPlace,
    /// The row.
    pub row: ShelfRow,
}

/// Which dead letters are asked for, by what their rows say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShelfFilter {
    /// On this lane's shelf.
    pub lane: Option<LaneName>,
    /// By this route.
    pub route: Option<RouteName>,
    /// For this cause.
    pub cause: Option<DeadCause>,
    /// Last tried at this time or later.
    pub from: Option<Timestamp>,
    /// Last tried before this time.
    pub to: Option<Timestamp>,
}

/// Dead letters of one lane and cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShelfGroup {
    /// The lane.
    pub lane: LaneName,
    /// The cause.
    pub cause: Option<DeadCause>,
    /// How many.
    pub count: u64,
    /// The first try of the first.
    pub first_at: Timestamp,
    /// The last try of the last.
    pub last_at: Timestamp,
}

impl Queries {
    /// Finds dead letters behind a place, the newest rows first, at most so many.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged row is passed over.
    pub fn dead_letters(
        &self,
        filter: &ShelfFilter,
        after: Option<&ShelfPlace>,
        rows_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        let mut found = self.state(|connection| {
            let mut found = Vec::new();
            for (id, record) in lanes(connection)? {
                // What replays have on their lists lies on the shelf it came from too.
                let listed = !matches!(record.lane, LaneName::Replay(_));
                if listed && filter.lane.as_ref().is_none_or(|lane| *lane == record.lane) {
                    of_lane(connection, (id, &record.lane), filter, after, rows_max, &mut found)?;
                }
            }
            Ok(found)
        })?;
        found.sort_by(|a, b| a.place.cmp(&b.place));
        found.truncate(rows_max);
        Ok(found)
    }

    /// Finds dead letters that nobody has, from the first row of the first lane up, at most so many: what replays and
    /// discards go through. `after` is the place of the last one that was looked at.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged row is passed over.
    pub fn dead_letters_up(
        &self,
        filter: &ShelfFilter,
        after: Option<&ShelfPlace>,
        rows_max: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.state(|connection| {
            let mut found = Vec::new();
            for (id, record) in lanes(connection)? {
                let listed = !matches!(record.lane, LaneName::Replay(_));
                let wanted = listed && filter.lane.as_ref().is_none_or(|lane| *lane == record.lane);
                if wanted && after.is_none_or(|after| id >= after.lane) && found.len() < rows_max {
                    let after = after.filter(|after| after.lane == id);
                    of_lane_up(connection, (id, &record.lane), filter, after, rows_max, &mut found)?;
                }
            }
            Ok(found)
        })
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn dead_letter(
        &self,
        lane: &LaneName,
        row: Offset,
        route: Option<&RouteName>,
    ) -> Result<Option<DeadLetter>, ReadError> {
        self.state(|connection| {
            let lanes = lanes(connection)?;
            let Some((id, record)) = lanes.into_iter().find(|(_, record)| record.lane == *lane) else {
                return Ok(None);
            };
            let sql = format!("{COLUMNS} WHERE lane = ?1 AND row = ?2 AND route = ?3 AND state != 0");
            let route = route.map(RouteName::as_str).unwrap_or_default();
            let mut statement = connection.prepare(&sql)?;
            let mut rows = statement.query(params![id, row.cast_signed(), route])?;
            let found = rows.next()?.and_then(|row| read_shelf(row, PARTITION));
            let place = ShelfPlace { row: Reverse(row), lane: id, route: route.to_owned() };
            Ok(found.map(|row| DeadLetter { lane: record.lane, place, row }))
        })
    }

    /// Counts dead letters by lane and cause.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn dead_letter_groups(&self) -> Result<Vec<ShelfGroup>, ReadError> {
        self.state(|connection| {
            let lanes = lanes(connection)?;
            let sql = "SELECT lane, cause, COUNT(*), MIN(first_at), MAX(last_at) FROM shelf WHERE state != 0 \
                 GROUP BY lane, cause ORDER BY lane, cause";
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            let mut groups = Vec::new();
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let record = lanes.iter().find(|(lane, _)| *lane == id).map(|(_, record)| record);
                let Some(record) = record.filter(|record| !matches!(record.lane, LaneName::Replay(_))) else {
                    continue;
                };
                groups.push(ShelfGroup {
                    lane: record.lane.clone(),
                    cause: u8::try_from(row.get::<_, i64>(1)?).ok().and_then(cause),
                    count: row.get::<_, i64>(2)?.cast_unsigned(),
                    first_at: Timestamp::from_millis(row.get(3)?),
                    last_at: Timestamp::from_millis(row.get(4)?),
                });
            }
            Ok(groups)
        })
    }
}

const COLUMNS: &str = "SELECT row, route, event, received_at, incarnation, order_key, state, job, cause, attempts, \
     first_at, last_at, holds, detail FROM shelf";
const BEHIND: &str = "WHERE lane = ?1 AND row <= ?2 AND state != 0 AND (?3 IS NULL OR route = ?3) \
     AND (?4 IS NULL OR cause = ?4) AND (?5 IS NULL OR last_at >= ?5) AND (?6 IS NULL OR last_at < ?6) \
     ORDER BY row DESC, route";

fn of_lane(
    connection: &Connection,
    (id, lane): (i64, &LaneName),
    filter: &ShelfFilter,
    after: Option<&ShelfPlace>,
    rows_max: usize,
    found: &mut Vec<DeadLetter>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} {BEHIND}"))?;
    let highest = after.map_or(i64::MAX, |place| i64::try_from(place.row.0).unwrap_or(i64::MAX));
    let mut rows = statement.query(params![
        id,
        highest,
        filter.route.as_ref().map(RouteName::as_str),
        filter.cause.map(cause_code),
        filter.from.map(Timestamp::as_millis),
        filter.to.map(Timestamp::as_millis),
    ])?;
    let mut count = 0;
    while count < rows_max
        && let Some(row) = rows.next()?
    {
        let Some(row) = read_shelf(row, PARTITION) else { continue };
        let route = row.route.as_ref().map(ToString::to_string).unwrap_or_default();
        let place = ShelfPlace { row: Reverse(row.offset), lane: id, route };
        if after.is_none_or(|after| place > *after) {
            found.push(DeadLetter { lane: lane.clone(), place, row });
            count += 1;
        }
    }
    Ok(())
}

const AHEAD: &str = "WHERE lane = ?1 AND (row, route) > (?2, ?3) AND state = 1 AND (?4 IS NULL OR route = ?4) \
     AND (?5 IS NULL OR cause = ?5) AND (?6 IS NULL OR last_at >= ?6) AND (?7 IS NULL OR last_at < ?7) \
     ORDER BY row, route LIMIT ?8";

fn of_lane_up(
    connection: &Connection,
    (id, lane): (i64, &LaneName),
    filter: &ShelfFilter,
    after: Option<&ShelfPlace>,
    rows_max: usize,
    found: &mut Vec<DeadLetter>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(&format!("{COLUMNS} {AHEAD}"))?;
    let room = i64::try_from(rows_max.saturating_sub(found.len())).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![
        id,
        after.map_or(0, |place| place.row.0.cast_signed()),
        after.map_or("", |place| place.route.as_str()),
        filter.route.as_ref().map(RouteName::as_str),
        filter.cause.map(cause_code),
        filter.from.map(Timestamp::as_millis),
        filter.to.map(Timestamp::as_millis),
        room,
    ])?;
    while let Some(row) = rows.next()? {
        let Some(row) = read_shelf(row, PARTITION) else { continue };
        let route = row.route.as_ref().map(ToString::to_string).unwrap_or_default();
        let place = ShelfPlace { row: Reverse(row.offset), lane: id, route };
        found.push(DeadLetter { lane: lane.clone(), place, row });
    }
    Ok(())
}
