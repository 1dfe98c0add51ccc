//! The disk beside the journal's model: segments, the steps of sealing them, and what retention takes.

use crate::world::{Happening, World};
use laigu_router::{
    core::retention::{Facts, SegmentFacts, plan},
    domain::{Offset, Partition, RouteName, Routed},
    journal::{Heads, LaneName, Log, Retention, memory::state::StateImage, sqlite::sealing::SealStep},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};

/// What of one partition lies on the disk; outlives every process.
#[derive(Debug)]
pub struct Store {
    /// Oldest first; the last one is written to.
    pub segments: Vec<SegmentFacts>,
    /// The segment that is being sealed, and the step that is next.
    sealing: Option<(u32, usize)>,
    /// Rows below these are gone from the logs.
    pub taken: Heads,
    /// Shelf rows whose content was copied before their rows went.
    copies: BTreeSet<(LaneName, Offset, Option<RouteName>)>,
}

impl Store {
    pub fn new() -> Self {
        let first = Heads { events: 1, routed: 1 };
        Self { segments: vec![segment(1)], sealing: None, taken: first, copies: BTreeSet::new() }
    }
}

/// A segment that is written to.
fn segment(number: u32) -> SegmentFacts {
    let end = Heads { events: 1, routed: 1 };
    SegmentFacts { number, end, closed_at: None, sealed: false, oldest_event: None, bytes: 100 }
}

/// A crash at each of the steps has a name.
const CRASHES: [&str; 6] = [
    "crash in sealing: collect",
    "crash in sealing: write",
    "crash in sealing: sync",
    "crash in sealing: rename",
    "crash in sealing: sync folder",
    "crash in sealing: load",
];

impl World {
    /// Closes the segment that is written to, if it has an event.
    pub fn roll(&mut self, number: u16) {
        let partition = Partition(number);
        let heads = self.journal.log().heads(partition);
        let Some(store) = self.stores.get_mut(usize::from(number)) else { return };
        let before = store.segments.len().checked_sub(2).and_then(|index| store.segments.get(index));
        let start = before.map_or(Heads { events: 1, routed: 1 }, |segment| segment.end);
        let start = if store.segments.len() == 1 { store.taken } else { start };
        let Some(open) = store.segments.last_mut() else { return };
        if heads.events <= start.events {
            return;
        }
        open.oldest_event = self.journal.oldest_event(partition, start.routed);
        open.end = heads;
        open.closed_at = Some(self.now);
        let next = open.number + 1;
        store.segments.push(segment(next));
        self.journal.roll(partition);
        self.hit("roll");
    }

    /// One step of sealing, now and then of retention.
    pub fn keep_store(&mut self, number: u16) {
        self.soon(if self.healed { 150 } else { 25 }, Happening::Store(number));
        if self.process.is_none() {
            return;
        }
        if self.rng.u32(..3) == 0 {
            self.retain(number);
        }
        let full = !self.healed && self.rng.u32(..1_000) < self.plan.commit_fault;
        let Some(store) = self.stores.get_mut(usize::from(number)) else { return };
        let Some((segment, step)) = store.sealing else {
            let next = store.segments.iter().find(|segment| segment.closed_at.is_some() && !segment.sealed);
            store.sealing = next.map(|segment| (segment.number, 0));
            return;
        };
        if full {
            // Begun again from the first step when there is room.
            store.sealing = Some((segment, 0));
            return;
        }
        if SealStep::ALL.get(step) != Some(&SealStep::Load) {
            store.sealing = Some((segment, step + 1));
            return;
        }
        let first = self.seal(number, segment);
        if let Some(run) = self.process.as_mut().and_then(|process| process.partitions.get_mut(usize::from(number))) {
            run.intake.sealed(first);
        }
        self.hit("a segment is sealed");
    }

    fn seal(&mut self, number: u16, segment: u32) -> Offset {
        if let Some(store) = self.stores.get_mut(usize::from(number)) {
            store.sealing = None;
            store.segments.iter_mut().filter(|facts| facts.number == segment).for_each(|facts| facts.sealed = true);
        }
        self.journal.seal_oldest(Partition(number))
    }

    /// What a crash leaves of a sealing: no file until it has its name; then perhaps, until its folder is synced; then for sure.
    pub fn crash_in_sealing(&mut self, number: u16) {
        let sealing = self.stores.get_mut(usize::from(number)).and_then(|store| store.sealing.take());
        let Some((segment, step)) = sealing else { return };
        self.hit(CRASHES[step]);
        let there = match SealStep::ALL[step] {
            SealStep::Collect | SealStep::Write | SealStep::Sync => false,
            SealStep::Rename | SealStep::SyncFolder => self.rng.bool(),
            SealStep::Load => true,
        };
        if there {
            self.seal(number, segment);
        }
    }

    fn retain(&mut self, number: u16) {
        let partition = Partition(number);
        let mut watermarks = Heads { events: 1, routed: Offset::MAX };
        let lanes = self.journal.inspect(StateImage::lanes);
        let lanes: Vec<_> = lanes.into_iter().filter(|record| record.partition == partition).collect();
        let mut held_by_parked = false;
        for record in &lanes {
            match record.lane {
                // What the router parked is not decided yet: its decision will be about an event in the log.
                LaneName::Router => {
                    let shelf = self.journal.inspect(|image| image.shelf(&record.lane, partition));
                    let parked = shelf.iter().map(|row| row.offset).min().unwrap_or(Offset::MAX);
                    held_by_parked = parked < record.progress.watermark;
                    watermarks.events = record.progress.watermark.min(parked);
                }
                LaneName::Morgue | LaneName::Destination(_) => {
                    watermarks.routed = watermarks.routed.min(record.progress.watermark);
                }
                // It works on the shelf alone.
                LaneName::Replay(_) => {}
            }
        }
        let long = Duration::from_secs(1_000_000);
        let rules = Retention { delivered: self.plan.keep, dead_letters: long, ids: long, size_max: 1_000 };
        let pins = Heads { events: Offset::MAX, routed: Offset::MAX };
        let used = if self.rng.u32(..4) == 0 { 1_000 } else { 100 };
        let heads = self.journal.log().heads(partition);
        let Some(store) = self.stores.get_mut(usize::from(number)) else { return };
        let mut segments = store.segments.clone();
        let closed = segments.iter().rev().nth(1).map_or(store.taken, |segment| segment.end);
        if let Some(open) = segments.last_mut() {
            open.end = heads;
            open.oldest_event = self.journal.oldest_event(partition, closed.routed);
        }
        let facts = Facts { segments: &segments, ids: &[], watermarks, pins, now: self.now, rules, used };
        let going = plan(&facts);
        let mut forgetful = segments.clone();
        forgetful.iter_mut().for_each(|segment| segment.oldest_event = None);
        let waits = plan(&Facts { segments: &forgetful, ..facts }).segments.len() > going.segments.len();
        if going.segments.is_empty() {
            if waits {
                self.hit("retention waits for a late-routed event");
            }
            if held_by_parked {
                self.hit("retention waits for a parked event");
            }
            return;
        }
        for record in &lanes {
            for row in self.journal.inspect(|image| image.shelf(&record.lane, partition)) {
                // The router's rows are events, not decisions.
                let decision_goes = row.offset < going.below.routed && record.lane != LaneName::Router;
                if decision_goes || row.event.position.offset < going.below.events {
                    store.copies.insert((record.lane.clone(), row.offset, row.route));
                }
            }
        }
        store.segments.retain(|segment| !going.segments.contains(&segment.number));
        store.taken = going.below;
        self.journal.take(partition, going.below);
        self.hit("retention takes segments");
    }

    /// Complains when a lane reads what retention took.
    pub fn check_read(&mut self, number: u16, gone: u64, rows: impl Iterator<Item = Offset>) {
        let Some(store) = self.stores.get(usize::from(number)) else { return };
        let mut rows = rows;
        if gone > 0 || rows.any(|event| event < store.taken.events) {
            self.wrong(format!("partition {number}: retention took what a lane has still to read"));
        }
    }

    /// Complains when an event on the router's shelf was taken.
    pub fn check_parked(&mut self, number: u16, event: Offset) {
        let Some(store) = self.stores.get(usize::from(number)) else { return };
        if event < store.taken.events {
            self.wrong(format!("partition {number}: retention took event {event} from the router's shelf"));
        }
    }

    /// Complains when a row of the shelf was neither kept nor copied.
    pub fn check_shelved(&mut self, number: u16, lane: &LaneName, row: &Routed, route: Option<&RouteName>) {
        let Some(store) = self.stores.get(usize::from(number)) else { return };
        let event = row.event.position().offset;
        // Of what is spoiled there is nothing to copy: its dead letter says so.
        let spoiled = self.damaged.contains(&(number, event));
        let kept = spoiled || row.offset >= store.taken.routed && event >= store.taken.events;
        if !kept && !store.copies.contains(&(lane.clone(), row.offset, route.cloned())) {
            let offset = row.offset;
            self.wrong(format!("partition {number}: retention took row {offset} from the shelf of {lane:?}"));
        }
    }
}

/// The rows that decisions of a page are about.
pub fn events_of(rows: &[laigu_router::journal::Entry<Routed>]) -> Vec<Offset> {
    let event = |row: &Arc<Routed>| row.event.position().offset;
    rows.iter()
        .filter_map(|entry| match entry {
            laigu_router::journal::Entry::Row(row) => Some(event(row)),
            laigu_router::journal::Entry::Damaged(_) => None,
        })
        .collect()
}
