//! What was decided about an event: its row in ROUTED, which no index names.
//!
//! ROUTED has one row an event, nearly in the events' order: the router holds at most a few thousand at a time, and
//! nothing is further out of line than its bitmap reaches. Replays add rows in between. So a row is guessed, the guess
//! is corrected by what stands there, and the neighbourhood is searched, wider and wider.

use crate::{
    domain::{Decision, Offset},
    journal::{
        ReadError,
        sqlite::{database::is_damage, decision::unpack, queries::Queries, rows::rowid, scan::read_error},
    },
};
use rusqlite::{Connection, OptionalExtension, params};
use std::{collections::BTreeMap, ops::Range};

/// How far from the guess is looked; the last one is what the router's bitmap spans, and some.
const RADII: [u64; 3] = [64, 8_192, 70_000];
/// Corrections of a guess; each jumps to where the row would be if no replay stood in between.
const CORRECTIONS_MAX: usize = 8;

/// A first decision about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Its row in ROUTED.
    pub offset: Offset,
    /// The generation of the routes that decided.
    pub generation: u32,
    /// What was decided.
    pub decision: Decision,
}

type Found = BTreeMap<Offset, Decided>;

impl Queries {
    /// Finds the first decisions about some events, by event.
    ///
    /// # Errors
    /// [`ReadError`]; what is damaged or not decided yet is not found.
    pub fn decisions(&self, events: &[Offset]) -> Result<Found, ReadError> {
        let mut found = Found::new();
        let mut missing: Vec<Offset> = events.to_vec();
        missing.sort_unstable();
        missing.dedup();
        for radius in RADII {
            for run in missing.chunk_by(|a, b| b - a <= radius) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                let rows = self.guess(*first)?.saturating_sub(radius)..self.guess(*last)?.saturating_add(radius + 1);
                self.search(rows, run, &mut found)?;
            }
            missing.retain(|event| !found.contains_key(event));
        }
        Ok(found)
    }

    /// About where the decision about an event stands.
    fn guess(&self, event: Offset) -> Result<Offset, ReadError> {
        let mut guess = event;
        for _ in 0..CORRECTIONS_MAX {
            let Some(there) = self.event_at(guess)? else { break };
            if there.abs_diff(event) <= RADII[0] / 2 {
                break;
            }
            let corrected = guess.saturating_add_signed(event.cast_signed() - there.cast_signed());
            guess = corrected.clamp(1, self.log.catalog().heads().routed.max(1));
        }
        Ok(guess)
    }

    /// The event that the first decision at a row or after it is about.
    fn event_at(&self, row: Offset) -> Result<Option<Offset>, ReadError> {
        let catalog = self.log.catalog();
        let last = catalog.heads().routed.saturating_sub(1);
        let Some(stretch) = catalog.find(row.min(last), |first| first.routed) else { return Ok(None) };
        let sql = "SELECT event FROM routed WHERE offset >= ?1 AND job = 0 ORDER BY offset LIMIT 1";
        let read = |connection: &Connection| {
            connection.prepare_cached(sql)?.query_row([rowid(row.min(last))], |row| row.get::<_, i64>(0)).optional()
        };
        match catalog.with_reader(stretch.segment.number, read) {
            Ok(event) => Ok(event.map(i64::cast_unsigned)),
            Err(error) if is_damage(&error) => Ok(None),
            Err(error) => Err(read_error(&error)),
        }
    }

    fn search(&self, rows: Range<Offset>, events: &[Offset], found: &mut Found) -> Result<(), ReadError> {
        let catalog = self.log.catalog();
        for stretch in catalog.stretches() {
            let here = rows.start.max(stretch.segment.first.routed)..rows.end.min(stretch.end.routed);
            if here.is_empty() {
                continue;
            }
            let read = |connection: &Connection| select(connection, &here, events, found);
            match catalog.with_reader(stretch.segment.number, read) {
                Ok(()) => {}
                // What was found before the damage stays.
                Err(error) if is_damage(&error) => {}
                Err(error) => return Err(read_error(&error)),
            }
        }
        Ok(())
    }
}

fn select(connection: &Connection, rows: &Range<Offset>, events: &[Offset], found: &mut Found) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let sql = "SELECT offset, event, generation, targets FROM routed \
         WHERE offset >= ?1 AND offset < ?2 AND job = 0 AND event BETWEEN ?3 AND ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![rowid(rows.start), rowid(rows.end), rowid(*first), rowid(*last)])?;
    while let Some(row) = rows.next()? {
        let event = row.get::<_, i64>(1)?.cast_unsigned();
        if events.binary_search(&event).is_err() {
            continue;
        }
        let Some(decision) = row.get_ref(3)?.as_blob().ok().and_then(unpack) else { continue };
        let offset = row.get::<_, i64>(0)?.cast_unsigned();
        found.insert(event, Decided { offset, generation: row.get(2)?, decision });
    }
    Ok(())
}
