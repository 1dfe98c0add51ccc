//! The model of a store: plain maps behind a mutex, with the faults of a disk at hand.
//!
//! It keeps two images. What readers see is the live one; what a crash leaves is the durable one. They differ in
//! one case only: a commit that reported an error and is there after the reopen all the same
//! ([`CommitOutcome::Resurrected`]), which SQLite was seen to do after a failed sync.
//!
//! After a sync error the store refuses every write until [`MemoryJournal::crash`], as the process that owned it
//! must. Handles taken before a crash are fenced afterwards.

pub mod ends;
pub mod state;

use crate::{
    domain::{Event, Incarnation, Offset, Partition, Routed},
    journal::{
        Appended, Batch, Damage, Entry, Heads, Settlement, WriteError,
        ids::{UnsealedIds, pairs_of},
    },
};
use ends::{MemoryAppender, MemoryLog, MemorySealedIds, MemoryState};
use state::StateImage;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How the next commit ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CommitOutcome {
    /// Durable and visible.
    #[default]
    Ok,
    /// No room: rolled back, the store stays usable.
    Full,
    /// A sync error before anything reached the disk.
    Failed,
    /// A sync error after the write; a crash finds nothing of it.
    Lost,
    /// A sync error after the write; a crash finds it there.
    Resurrected,
}

/// A store in memory. Clones share it.
#[derive(Debug, Clone)]
pub struct MemoryJournal {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Default)]
struct World {
    /// Counts crashes and new owners: a handle with an older number is fenced.
    fence: u64,
    partitions: Vec<PartitionImage>,
    state: StateImage,
    /// Settlements that a crash brings back.
    resurrected: Vec<Settlement>,
    settle_outcomes: VecDeque<CommitOutcome>,
    /// Why nothing more is written until the next crash.
    broken: Option<String>,
}

#[derive(Debug, Default)]
struct PartitionImage {
    events: Vec<Arc<Event>>,
    routed: Vec<Arc<Routed>>,
    /// The first rows that retention has left.
    first: Heads,
    segment_start: Offset,
    damaged_events: BTreeSet<Offset>,
    /// Batches that a crash brings back, each with the run that wrote it.
    resurrected: Vec<(Incarnation, Batch)>,
    outcomes: VecDeque<CommitOutcome>,
    /// Ids of segments that are closed but not sealed, oldest first, then of the open one.
    unsealed: Vec<UnsealedIds>,
    sealed: BTreeMap<u64, BTreeSet<u64>>,
}

impl PartitionImage {
    fn new() -> Self {
        let unsealed = vec![UnsealedIds { start: 1, pairs: Vec::new() }];
        Self { first: Heads { events: 1, routed: 1 }, segment_start: 1, unsealed, ..Self::default() }
    }

    fn heads(&self) -> Heads {
        Heads { events: self.events.len() as u64 + 1, routed: self.routed.len() as u64 + 1 }
    }

    fn apply(&mut self, partition: Partition, incarnation: Incarnation, batch: &Batch) -> Appended {
        let heads = self.heads();
        for ((event, conflict), offset) in batch.events.iter().zip(heads.events..) {
            let pairs = pairs_of(event);
            self.events.push(Arc::new(event.clone().at(partition, offset, incarnation, *conflict)));
            if let Some(open) = self.unsealed.last_mut() {
                open.pairs.extend(pairs);
            }
        }
        for (new, offset) in batch.routed.iter().zip(heads.routed..) {
            self.routed.push(Arc::new(Routed { offset, row: new.row.clone(), event: Arc::clone(&new.event) }));
        }
        Appended { first_event: heads.events, first_routed: heads.routed }
    }

    fn event_entry(&self, event: &Arc<Event>) -> Entry<Event> {
        let offset = event.position().offset;
        if self.damaged_events.contains(&offset) {
            return Entry::Damaged(Damage { offset, event: None, detail: "the body does not match its hash".into() });
        }
        Entry::Row(Arc::clone(event))
    }

    fn routed_entry(&self, routed: &Arc<Routed>) -> Entry<Routed> {
        match self.event_entry(&routed.event) {
            Entry::Row(_) => Entry::Row(Arc::clone(routed)),
            Entry::Damaged(damage) => {
                let event = Some(damage.offset);
                Entry::Damaged(Damage { offset: routed.offset, event, detail: damage.detail })
            }
        }
    }
}

/// Rows of a dense log from an offset on, with their offsets.
fn rows_from<T>(rows: &[Arc<T>], from: Offset) -> impl Iterator<Item = (Offset, &Arc<T>)> {
    let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
    (from..).zip(rows.iter().skip(skip))
}

impl MemoryJournal {
    /// Makes an empty store of `partitions` logs.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        let world = World { partitions: (0..partitions).map(|_| PartitionImage::new()).collect(), ..World::default() };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The writing end of a partition, for a run that calls itself `incarnation`.
    #[must_use]
    pub fn appender(&self, partition: Partition, incarnation: Incarnation) -> MemoryAppender {
        let fence = self.world().fence;
        MemoryAppender { journal: self.clone(), partition, incarnation, fence }
    }

    /// The reading end.
    #[must_use]
    pub fn log(&self) -> MemoryLog {
        MemoryLog { journal: self.clone() }
    }

    /// The state's end.
    #[must_use]
    pub fn state(&self) -> MemoryState {
        let fence = self.world().fence;
        MemoryState { journal: self.clone(), fence }
    }

    /// The sealed ids of a partition.
    #[must_use]
    pub fn sealed_ids(&self, partition: Partition) -> MemorySealedIds {
        MemorySealedIds { journal: self.clone(), partition }
    }

    /// Says how the next `append` to a partition ends; calls queue up.
    pub fn next_append(&self, partition: Partition, outcome: CommitOutcome) {
        self.partition(partition, |image| image.outcomes.push_back(outcome));
    }

    /// Says how the next `settle` or `register` ends; calls queue up.
    pub fn next_settle(&self, outcome: CommitOutcome) {
        self.world().settle_outcomes.push_back(outcome);
    }

    /// The process dies, or the power fails: what was resurrected appears, planned outcomes are forgotten, and
    /// every handle taken so far is fenced.
    pub fn crash(&self) {
        let mut world = self.world();
        world.fence += 1;
        world.broken = None;
        world.settle_outcomes.clear();
        for (number, image) in (0_u16..).zip(&mut world.partitions) {
            image.outcomes.clear();
            for (incarnation, batch) in std::mem::take(&mut image.resurrected) {
                image.apply(Partition(number), incarnation, &batch);
            }
        }
        for settlement in std::mem::take(&mut world.resurrected) {
            world.state.settle(&settlement);
        }
    }

    /// Spoils a stored event: whoever reads it finds [`Entry::Damaged`].
    pub fn damage(&self, partition: Partition, offset: Offset) {
        self.partition(partition, |image| image.damaged_events.insert(offset));
    }

    /// Retention takes every row below `first`.
    pub fn take(&self, partition: Partition, first: Heads) {
        self.partition(partition, |image| {
            image.first.events = image.first.events.max(first.events).min(image.heads().events);
            image.first.routed = image.first.routed.max(first.routed).min(image.heads().routed);
        });
    }

    /// Closes the segment that is written to; an empty one stays open.
    pub fn roll(&self, partition: Partition) {
        self.partition(partition, |image| {
            let start = image.heads().events;
            if start > image.segment_start {
                image.segment_start = start;
                image.unsealed.push(UnsealedIds { start, pairs: Vec::new() });
            }
        });
    }

    /// Seals every closed segment; returns the first event whose id is not sealed.
    pub fn seal(&self, partition: Partition) -> Offset {
        let mut start = 0;
        self.partition(partition, |image| {
            start = image.segment_start;
            let open = image.unsealed.pop();
            for pair in std::mem::take(&mut image.unsealed).into_iter().flat_map(|closed| closed.pairs) {
                image.sealed.entry(pair.id_hash).or_default().insert(pair.body_hash);
            }
            image.unsealed.extend(open);
        });
        start
    }

    /// Seals the oldest closed segment, if there is one; returns the first event whose id is not sealed.
    pub fn seal_oldest(&self, partition: Partition) -> Offset {
        let mut start = 0;
        self.partition(partition, |image| {
            if image.unsealed.len() > 1 {
                for pair in image.unsealed.remove(0).pairs {
                    image.sealed.entry(pair.id_hash).or_default().insert(pair.body_hash);
                }
            }
            start = image.unsealed.first().map_or(image.segment_start, |ids| ids.start);
        });
        start
    }

    /// Everything ever committed, with what was spoiled or taken since: for a judge.
    #[must_use]
    pub fn everything(&self, partition: Partition) -> (Vec<Arc<Event>>, Vec<Arc<Routed>>) {
        let mut rows = Default::default();
        self.partition(partition, |image| rows = (image.events.clone(), image.routed.clone()));
        rows
    }

    /// One decision, whatever was spoiled or taken since.
    #[must_use]
    pub fn decision(&self, partition: Partition, offset: Offset) -> Option<Arc<Routed>> {
        let mut found = None;
        self.partition(partition, |image| {
            found = rows_from(&image.routed, offset).next().filter(|_| offset > 0).map(|(_, row)| Arc::clone(row));
        });
        found
    }

    /// The oldest event that a decision from a row on is about.
    #[must_use]
    pub fn oldest_event(&self, partition: Partition, from: Offset) -> Option<Offset> {
        let mut oldest = None;
        self.partition(partition, |image| {
            oldest = rows_from(&image.routed, from).map(|(_, row)| row.row.event.offset).min();
        });
        oldest
    }

    /// Looks at all that was settled so far; `look` may not use the store.
    pub fn inspect<R>(&self, look: impl FnOnce(&StateImage) -> R) -> R {
        look(&self.world().state)
    }

    /// What a start reads: the ids of segments that are not sealed, oldest first.
    #[must_use]
    pub fn unsealed_ids(&self, partition: Partition) -> Vec<UnsealedIds> {
        let mut ids = Vec::new();
        self.partition(partition, |image| ids.clone_from(&image.unsealed));
        ids
    }

    /// All that was settled so far.
    #[must_use]
    pub fn state_image(&self) -> StateImage {
        self.world().state.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition<R>(&self, partition: Partition, work: impl FnOnce(&mut PartitionImage) -> R) {
        if let Some(image) = self.world().partitions.get_mut(usize::from(partition.0)) {
            work(image);
        }
    }
}

impl World {
    fn check(&self, fence: u64) -> Result<(), WriteError> {
        if fence != self.fence {
            return Err(WriteError::Fenced);
        }
        match &self.broken {
            Some(why) => Err(WriteError::Sync(why.clone())),
            None => Ok(()),
        }
    }

    fn fail(&mut self, what: &str) -> WriteError {
        self.broken = Some(format!("{what} failed before"));
        WriteError::Sync(format!("{what}: planned fault"))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommitOutcome, MemoryJournal};
    use crate::{
        domain::{Incarnation, Partition},
        journal::{Appender, Batch, Entry, Heads, Log, ReadLimit, WriteError, ids::Known, ids::SealedIds, samples},
    };

    const P0: Partition = Partition(0);
    const ALL: ReadLimit = ReadLimit { rows: 1_000, bytes: 1 << 20 };

    fn one(id: &str) -> Batch {
        Batch { events: vec![(samples::event(id, 50), false)], routed: vec![] }
    }

    #[test]
    fn a_crash_leaves_what_was_synced_and_what_was_resurrected() {
        for (outcome, expected) in
            [(CommitOutcome::Failed, 2), (CommitOutcome::Lost, 2), (CommitOutcome::Resurrected, 3)]
        {
            let journal = MemoryJournal::new(1);
            let mut appender = journal.appender(P0, Incarnation(1));
            appender.append(&one("a")).unwrap();
            journal.next_append(P0, outcome);
            assert!(matches!(appender.append(&one("b")), Err(WriteError::Sync(_))));
            assert!(matches!(appender.append(&one("c")), Err(WriteError::Sync(_))), "broken until the crash");
            assert_eq!(journal.log().heads(P0), Heads { events: 2, routed: 1 });
            journal.crash();
            assert!(matches!(appender.append(&one("d")), Err(WriteError::Fenced)));
            assert_eq!(journal.log().heads(P0).events, expected, "{outcome:?}");
        }
    }

    #[test]
    fn taken_rows_are_counted_and_spoiled_ones_reported() {
        let journal = MemoryJournal::new(1);
        let mut appender = journal.appender(P0, Incarnation(1));
        for id in ["a", "b", "c", "d"] {
            appender.append(&one(id)).unwrap();
        }
        journal.take(P0, Heads { events: 3, routed: 1 });
        journal.damage(P0, 3);
        let page = journal.log().events(P0, 1, ALL).unwrap();
        assert_eq!((page.gone, page.next, page.rows.len()), (2, 5, 2));
        assert!(matches!(page.rows.as_slice(), [Entry::Damaged(damage), Entry::Row(_)] if damage.offset == 3));
    }

    #[test]
    fn sealing_moves_the_ids_of_closed_segments() {
        let journal = MemoryJournal::new(1);
        let mut appender = journal.appender(P0, Incarnation(1));
        appender.append(&one("a")).unwrap();
        journal.roll(P0);
        appender.append(&one("b")).unwrap();
        assert_eq!(appender.segment_start(), 2);
        assert_eq!(journal.unsealed_ids(P0).len(), 2);
        assert_eq!(journal.seal(P0), 2);
        assert_eq!(journal.unsealed_ids(P0).len(), 1);
        let (a, b, ids) = (samples::event("a", 50), samples::event("b", 50), journal.sealed_ids(P0));
        assert_eq!(ids.find(a.id_hash, a.body_hash), Known::Duplicate);
        assert_eq!(ids.find(a.id_hash, b.body_hash), Known::Conflict);
        assert_eq!(ids.find(b.id_hash, b.body_hash), Known::New);
    }
}
