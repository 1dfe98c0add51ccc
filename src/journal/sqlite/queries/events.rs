//! Which events came, the newest first.

use crate::{
    domain::{EventId, Offset, Origin, Position, SourceName, TenantName, Timestamp},
    journal::{
        ReadError,
        sqlite::{
            catalog::Stretch, database::is_damage, queries::Queries, rows::rowid, scan::read_error, writer::PARTITION,
        },
    },
};
use rusqlite::{Connection, Row, params};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// Rows that one statement walks over: a few milliseconds.
const ROWS_A_STEP: u64 = 2_000;
/// How long one page may search; then it ends with what it has.
const SEARCH_MAX: Duration = Duration::from_millis(700);
/// Events stand in the order in which they were committed: the times in which they came may differ by this.
const DISORDER_MAX: Duration = Duration::from_secs(60);

/// Which events are asked for; what is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// From this source.
    pub source: Option<String>,
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this type.
    pub kind: Option<String>,
    /// About this.
    pub key: Option<String>,
    /// With this id of the vendor's.
    pub vendor_id: Option<String>,
    /// That came in this way.
    pub origin: Option<Origin>,
    /// Received at this time or later.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
}

/// An event without headers and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// Its id.
    pub id: EventId,
    /// Its source.
    pub source: SourceName,
    /// Its tenant.
    pub tenant: TenantName,
    /// Its type; empty for a push that cannot be read.
    pub kind: String,
    /// What it is about.
    pub key: Option<String>,
    /// The vendor's id.
    pub vendor_id: Option<String>,
    /// How it came.
    pub origin: Origin,
    /// Whether its id had come with another body.
    pub conflict: bool,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventPage {
    /// The newest first.
    pub rows: Vec<EventRow>,
    /// Every row from here on has been looked at: the next page is below. `None` when there is nothing below.
    pub before: Option<Offset>,
}

impl Queries {
    /// Finds events below a row, at most so many. A page may be empty and not the last one.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged row is passed over.
    pub fn events(
        &self,
        filter: &EventFilter,
        before: Option<Offset>,
        rows_max: usize,
    ) -> Result<EventPage, ReadError> {
        let started = Instant::now();
        let catalog = self.log.catalog();
        let mut rows = Vec::new();
        let mut next = before.unwrap_or(Offset::MAX).min(catalog.heads().events);
        for stretch in catalog.stretches().iter().rev() {
            let first = stretch.segment.first.events;
            next = next.min(stretch.end.events);
            // A segment that begins after the time asked for holds nothing of it.
            if filter.to.is_some_and(|to| stretch.segment.created_at > to.plus(DISORDER_MAX)) {
                next = next.min(first);
            }
            while next > first {
                let range = first.max(next.saturating_sub(ROWS_A_STEP))..next;
                let step = self.step(stretch, filter, range.clone(), rows_max - rows.len(), &mut rows)?;
                next = step.unwrap_or(range.start);
                let ended = self.is_before(stretch, filter, next)?;
                if ended || rows.len() >= rows_max || started.elapsed() > SEARCH_MAX {
                    let before = (!ended).then_some(next);
                    return Ok(EventPage { rows, before: before.filter(|before| self.is_above_the_first(*before)) });
                }
            }
        }
        Ok(EventPage { rows, before: None })
    }

    fn is_above_the_first(&self, offset: Offset) -> bool {
        let first = self.log.catalog().stretches().first().map_or(0, |stretch| stretch.segment.first.events);
        offset > first
    }

    /// Looks at a stretch of rows; where to go on if it was full before its end.
    fn step(
        &self,
        stretch: &Stretch,
        filter: &EventFilter,
        range: Range<Offset>,
        rows_max: usize,
        rows: &mut Vec<EventRow>,
    ) -> Result<Option<Offset>, ReadError> {
        let before = rows.len();
        let read = |connection: &Connection| select(connection, stretch, filter, &range, rows_max, rows);
        match self.log.catalog().with_reader(stretch.segment.number, read) {
            Ok(()) if rows.len() - before >= rows_max => Ok(rows.last().map(|row| row.id.position.offset)),
            Ok(()) => Ok(None),
            Err(error) if is_damage(&error) => {
                rows.truncate(before);
                // Down to the row that cannot be read, which is passed over.
                let middle = range.start + (range.end - range.start) / 2;
                if middle == range.start {
                    return Ok(None);
                }
                let upper = self.step(stretch, filter, middle..range.end, rows_max, rows)?;
                let found = rows.len() - before;
                if upper.is_some() || found >= rows_max {
                    return Ok(upper);
                }
                self.step(stretch, filter, range.start..middle, rows_max - found, rows)
            }
            Err(error) => Err(read_error(&error)),
        }
    }

    /// Whether everything below a row came before the time asked for.
    fn is_before(&self, stretch: &Stretch, filter: &EventFilter, next: Offset) -> Result<bool, ReadError> {
        let Some(from) = filter.from else { return Ok(false) };
        let sql = "SELECT received_at FROM events WHERE offset >= ?1 ORDER BY offset LIMIT 1";
        let read = |connection: &Connection| connection.query_row(sql, [rowid(next)], |row| row.get::<_, i64>(0));
        match self.log.catalog().with_reader(stretch.segment.number, read) {
            Ok(at) => Ok(Timestamp::from_millis(at).plus(DISORDER_MAX) < from),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(false),
            Err(error) if is_damage(&error) => Ok(false),
            Err(error) => Err(read_error(&error)),
        }
    }
}

const SELECT: &str = "SELECT offset, received_at, source, tenant, type, key, vendor_id, origin, conflict FROM events \
     WHERE offset >= ?1 AND offset < ?2 AND (?3 IS NULL OR source = ?3) AND (?4 IS NULL OR tenant = ?4) \
     AND (?5 IS NULL OR type = ?5) AND (?6 IS NULL OR key = ?6) AND (?7 IS NULL OR vendor_id = ?7) \
     AND (?8 IS NULL OR origin = ?8) AND (?9 IS NULL OR received_at >= ?9) AND (?10 IS NULL OR received_at < ?10) \
     ORDER BY offset DESC LIMIT ?11";

fn select(
    connection: &Connection,
    stretch: &Stretch,
    filter: &EventFilter,
    range: &Range<Offset>,
    rows_max: usize,
    found: &mut Vec<EventRow>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(SELECT)?;
    let mut rows = statement.query(params![
        rowid(range.start),
        rowid(range.end),
        filter.source,
        filter.tenant,
        filter.kind,
        filter.key,
        filter.vendor_id,
        filter.origin.map(Origin::as_str),
        filter.from.map(Timestamp::as_millis),
        filter.to.map(Timestamp::as_millis),
        i64::try_from(rows_max).unwrap_or(i64::MAX),
    ])?;
    while let Some(row) = rows.next()? {
        found.extend(event_row(row, stretch));
    }
    Ok(())
}

/// A row of [`SELECT`]. `None` for damage.
fn event_row(row: &Row<'_>, stretch: &Stretch) -> Option<EventRow> {
    let offset = Offset::try_from(row.get::<_, i64>(0).ok()?).ok()?;
    let name = |column: usize| row.get_ref(column).ok()?.as_str().ok();
    Some(EventRow {
        id: EventId {
            received_at: Timestamp::from_millis(row.get(1).ok()?),
            incarnation: stretch.segment.incarnation(offset),
            position: Position { partition: PARTITION, offset },
        },
        source: SourceName::parse(name(2)?).ok()?,
        tenant: TenantName::parse(name(3)?).ok()?,
        kind: row.get(4).ok()?,
        key: row.get(5).ok()?,
        vendor_id: row.get(6).ok()?,
        origin: Origin::parse(name(7)?)?,
        conflict: row.get::<_, i64>(8).ok()? & 1 != 0,
    })
}
