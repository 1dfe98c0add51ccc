//! The reading end: pages of EVENTS and ROUTED out of whichever segments hold them.
//!
//! A page never holds a snapshot longer than [`SNAPSHOT_MAX`](crate::journal::sqlite::scan::SNAPSHOT_MAX); it then
//! ends early, and its `next` says where to go on.

use crate::{
    domain::{Event, EventId, Offset, Partition, Routed},
    journal::{
        Damage, Entry, Heads, Log, Page, ReadError, ReadLimit, Wanted,
        budget::Budget,
        sqlite::{
            catalog::{Catalog, Stretch},
            kept::Kept,
            scan::{Candidate, candidates, candidates_max, chosen_events, events, read_error},
            writer::PARTITION,
        },
    },
};
use std::{collections::HashMap, sync::Arc};

/// [`Log`] of a SQLite store. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteLog {
    catalog: Arc<Catalog>,
    kept: Kept,
}

/// Events by their row, or what is wrong with them.
type Fetched = HashMap<Offset, Result<Arc<Event>, String>>;

impl SqliteLog {
    /// Reads what a catalog knows, and what the shelf keeps of segments that are gone.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, kept: Kept) -> Self {
        Self { catalog, kept }
    }

    /// The segments that are there.
    #[must_use]
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    fn fetch(&self, mut offsets: Vec<Offset>) -> Result<Fetched, ReadError> {
        offsets.sort_unstable();
        offsets.dedup();
        let mut found = HashMap::with_capacity(offsets.len());
        let mut rest = offsets.as_slice();
        while let Some(offset) = rest.first() {
            let Some(stretch) = self.catalog.find(*offset, |first| first.events) else { break };
            let here = rest.partition_point(|offset| *offset < stretch.end.events).max(1);
            let (here, after) = rest.split_at(here);
            rest = after;
            // What lies before the first segment is gone, whatever the reason; the callers miss it in `found`.
            let from = here.partition_point(|offset| *offset < stretch.segment.first.events);
            let here = here.get(from..).unwrap_or_default();
            self.catalog
                .with_reader(stretch.segment.number, |connection| {
                    let incarnation = |offset| stretch.segment.incarnation(offset);
                    chosen_events(connection, &self.catalog.keys, incarnation, here, &mut found)
                })
                .map_err(|error| read_error(&error))?;
        }
        Ok(found)
    }

    fn candidates(
        &self,
        stretch: &Stretch,
        from: Offset,
        wanted: &Wanted,
        rows_max: usize,
    ) -> Result<(Vec<Candidate>, Offset), ReadError> {
        let range = from..stretch.end.routed;
        let keys = &self.catalog.keys;
        let found = self
            .catalog
            .with_reader(stretch.segment.number, |connection| candidates(connection, keys, wanted, range, rows_max));
        found.map_err(|error| read_error(&error))
    }

    /// Whether a decision's event went with its segment, which retention allows once every lane is past the decision.
    fn is_gone(candidate: &Candidate, events: &Fetched) -> bool {
        candidate.row.as_ref().is_ok_and(|row| !events.contains_key(&row.event.offset))
    }

    /// The first row of a log that can be read from `from` on, and the stretch that holds it. `None` at the end.
    fn start(&self, from: Offset, row: impl Fn(&Heads) -> Offset) -> Option<(Offset, Stretch)> {
        let stretch = self.catalog.find(from, &row)?;
        let start = from.max(row(&stretch.segment.first));
        (start < row(&stretch.end)).then_some((start, stretch))
    }
}

impl Log for SqliteLog {
    fn heads(&self, partition: Partition) -> Heads {
        if partition == PARTITION { self.catalog.heads() } else { Heads::default() }
    }

    fn events(&self, partition: Partition, from: Offset, limit: ReadLimit) -> Result<Page<Event>, ReadError> {
        check(partition)?;
        let mut page = Page { rows: Vec::new(), next: from, gone: 0 };
        let mut budget = Budget::new(limit);
        let Some((start, stretch)) = self.start(from, |heads| heads.events) else { return Ok(page) };
        page.gone = start - from;
        let read = self.catalog.with_reader(stretch.segment.number, |connection| {
            let incarnation = |offset| stretch.segment.incarnation(offset);
            let range = start..stretch.end.events;
            events(connection, &self.catalog.keys, incarnation, range, &mut budget, &mut page.rows)
        });
        page.next = read.map_err(|error| read_error(&error))?;
        Ok(page)
    }

    fn routed(
        &self,
        partition: Partition,
        from: Offset,
        wanted: &Wanted,
        limit: ReadLimit,
    ) -> Result<Page<Routed>, ReadError> {
        check(partition)?;
        let mut page = Page { rows: Vec::new(), next: from, gone: 0 };
        let mut budget = Budget::new(limit);
        let Some((start, stretch)) = self.start(from, |heads| heads.routed) else { return Ok(page) };
        page.gone = start - from;
        let (found, next) = self.candidates(&stretch, start, wanted, candidates_max(limit))?;
        page.next = next;
        let offsets = found.iter().filter_map(|candidate| Some(candidate.row.as_ref().ok()?.event.offset));
        let events = self.fetch(offsets.collect())?;
        for candidate in found {
            if budget.is_spent(page.rows.len()) {
                page.next = candidate.offset;
                break;
            }
            if Self::is_gone(&candidate, &events) {
                page.gone += 1;
                continue;
            }
            let entry = join(candidate, &events);
            budget.spend(if let Entry::Row(routed) = &entry { routed.event.body.len() } else { 0 });
            page.rows.push(entry);
        }
        Ok(page)
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, ReadError> {
        let offset = id.position.offset;
        if id.position.partition != PARTITION || offset >= self.catalog.heads().events {
            return Ok(None);
        }
        let found = self.fetch(vec![offset])?.remove(&offset);
        let event = match found {
            Some(Ok(event)) => Some(event),
            Some(Err(why)) => return Err(ReadError(format!("event {id}: {why}"))),
            None => self.kept.event(&self.catalog.keys, offset)?,
        };
        Ok(event.filter(|event| event.id == id))
    }

    fn routed_row(&self, partition: Partition, offset: Offset) -> Result<Option<Entry<Routed>>, ReadError> {
        check(partition)?;
        if let Some((start, stretch)) = self.start(offset, |heads| heads.routed)
            && start == offset
        {
            let (found, _) = self.candidates(&stretch, offset, &Wanted::All, 1)?;
            let Some(candidate) = found.into_iter().next() else { return Ok(None) };
            let event = candidate.row.as_ref().ok().map(|row| row.event.offset);
            let mut events = self.fetch(event.into_iter().collect())?;
            // What a replay decided anew is about an event that perhaps only the shelf still has.
            if let Some(event) = event.filter(|event| !events.contains_key(event))
                && let Some(kept) = self.kept.find(&self.catalog.keys, event)?
            {
                events.insert(event, kept);
            }
            if !Self::is_gone(&candidate, &events) {
                return Ok(Some(join(candidate, &events)));
            }
        }
        self.kept.routed(&self.catalog.keys, offset)
    }
}

fn check(partition: Partition) -> Result<(), ReadError> {
    if partition == PARTITION { Ok(()) } else { Err(ReadError(format!("there is no partition {}", partition.0))) }
}

/// A decision and its event, or what is wrong with either.
pub fn join(candidate: Candidate, events: &Fetched) -> Entry<Routed> {
    let offset = candidate.offset;
    let damaged = |event, detail: &str| Entry::Damaged(Damage { offset, event, detail: detail.into() });
    let row = match candidate.row {
        Ok(row) => row,
        Err((event, why)) => return damaged(event, &why),
    };
    match events.get(&row.event.offset) {
        Some(Ok(event)) => Entry::Row(Arc::new(Routed { offset, row, event: Arc::clone(event) })),
        Some(Err(why)) => damaged(Some(row.event.offset), &format!("its event {}: {why}", row.event)),
        None => damaged(Some(row.event.offset), &format!("its event {} is gone", row.event)),
    }
}
