//! The ends of a [`MemoryJournal`] that the rest of the program holds.

use crate::{
    domain::{Event, EventId, Incarnation, Offset, OrderKey, Partition, Routed, Timestamp},
    journal::{
        Appended, Appender, Batch, Entry, Heads, LaneName, LaneRecord, Log, Page, ReadError, ReadLimit, Settlement,
        ShelfRow, State, Wanted, WriteError,
        budget::Budget,
        ids::{Known, SealedIds},
        memory::{CommitOutcome, MemoryJournal, PartitionImage, rows_from, state::StateImage},
    },
};
use std::sync::Arc;

/// [`Appender`] of a [`MemoryJournal`].
#[derive(Debug)]
pub struct MemoryAppender {
    pub(super) journal: MemoryJournal,
    pub(super) partition: Partition,
    pub(super) incarnation: Incarnation,
    pub(super) fence: u64,
}

impl Appender for MemoryAppender {
    fn heads(&self) -> Heads {
        self.journal.log().heads(self.partition)
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn segment_start(&self) -> Offset {
        let mut start = 0;
        self.journal.partition(self.partition, |image| start = image.segment_start);
        start
    }

    fn append(&mut self, batch: &Batch) -> Result<Appended, WriteError> {
        let mut world = self.journal.world();
        world.check(self.fence)?;
        let Some(image) = world.partitions.get_mut(usize::from(self.partition.0)) else {
            return Err(WriteError::Fenced);
        };
        match image.outcomes.pop_front().unwrap_or_default() {
            CommitOutcome::Ok => return Ok(image.apply(self.partition, self.incarnation, batch)),
            CommitOutcome::Full => return Err(WriteError::Full("planned fault".to_owned())),
            CommitOutcome::Failed | CommitOutcome::Lost => {}
            CommitOutcome::Resurrected => image.resurrected.push((self.incarnation, batch.clone())),
        }
        Err(world.fail("append"))
    }
}

/// [`Log`] of a [`MemoryJournal`].
#[derive(Debug, Clone)]
pub struct MemoryLog {
    pub(super) journal: MemoryJournal,
}

impl MemoryLog {
    fn read<R>(&self, partition: Partition, work: impl FnOnce(&PartitionImage) -> R) -> Result<R, ReadError> {
        let world = self.journal.world();
        let image = world.partitions.get(usize::from(partition.0));
        image.map(work).ok_or_else(|| ReadError(format!("there is no partition {}", partition.0)))
    }
}

impl Log for MemoryLog {
    fn heads(&self, partition: Partition) -> Heads {
        self.read(partition, PartitionImage::heads).unwrap_or_default()
    }

    fn events(&self, partition: Partition, from: Offset, limit: ReadLimit) -> Result<Page<Event>, ReadError> {
        self.read(partition, |image| {
            let start = from.max(image.first.events);
            let mut page = Page { rows: Vec::new(), next: start, gone: start.saturating_sub(from) };
            let mut budget = Budget::new(limit);
            for (offset, event) in rows_from(&image.events, start) {
                if budget.is_spent(page.rows.len()) {
                    break;
                }
                budget.spend(event.body.len());
                page.rows.push(image.event_entry(event));
                page.next = offset + 1;
            }
            page
        })
    }

    fn routed(
        &self,
        partition: Partition,
        from: Offset,
        wanted: &Wanted,
        limit: ReadLimit,
    ) -> Result<Page<Routed>, ReadError> {
        self.read(partition, |image| {
            let start = from.max(image.first.routed);
            let mut page = Page { rows: Vec::new(), next: start, gone: start.saturating_sub(from) };
            let mut budget = Budget::new(limit);
            for (offset, routed) in rows_from(&image.routed, start) {
                if budget.is_spent(page.rows.len()) {
                    break;
                }
                if wanted.matches(&routed.row.decision) {
                    budget.spend(routed.event.body.len());
                    page.rows.push(image.routed_entry(routed));
                }
                page.next = offset + 1;
            }
            page
        })
    }

    /// The model keeps every event for its shelves.
    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, ReadError> {
        self.read(id.position.partition, |image| {
            let offset = id.position.offset;
            let (_, event) = rows_from(&image.events, offset).next().filter(|_| offset > 0)?;
            (event.id == id && !image.damaged_events.contains(&offset)).then(|| Arc::clone(event))
        })
    }

    /// The model keeps every decision for its shelves.
    fn routed_row(&self, partition: Partition, offset: Offset) -> Result<Option<Entry<Routed>>, ReadError> {
        self.read(partition, |image| {
            let (_, routed) = rows_from(&image.routed, offset).next().filter(|_| offset > 0)?;
            Some(image.routed_entry(routed))
        })
    }
}

/// [`State`] of a [`MemoryJournal`].
#[derive(Debug)]
pub struct MemoryState {
    pub(super) journal: MemoryJournal,
    pub(super) fence: u64,
}

impl MemoryState {
    /// A small change, which a crash after a fault never brings back.
    fn change<R>(&mut self, what: &str, work: impl FnOnce(&mut StateImage) -> R) -> Result<R, WriteError> {
        let mut world = self.journal.world();
        world.check(self.fence)?;
        match world.settle_outcomes.pop_front().unwrap_or_default() {
            CommitOutcome::Ok => Ok(work(&mut world.state)),
            CommitOutcome::Full => Err(WriteError::Full("planned fault".to_owned())),
            CommitOutcome::Failed | CommitOutcome::Lost | CommitOutcome::Resurrected => Err(world.fail(what)),
        }
    }
}

impl State for MemoryState {
    fn lanes(&self) -> Result<Vec<LaneRecord>, ReadError> {
        Ok(self.journal.world().state.lanes())
    }

    fn register(&mut self, lanes: &[LaneRecord]) -> Result<(), WriteError> {
        self.change("register", |state| state.register(lanes))
    }

    fn settle(&mut self, settlements: &[Settlement]) -> Result<(), WriteError> {
        let mut world = self.journal.world();
        world.check(self.fence)?;
        match world.settle_outcomes.pop_front().unwrap_or_default() {
            CommitOutcome::Ok => {
                settlements.iter().for_each(|settlement| world.state.settle(settlement));
                return Ok(());
            }
            CommitOutcome::Full => return Err(WriteError::Full("planned fault".to_owned())),
            CommitOutcome::Failed | CommitOutcome::Lost => {}
            CommitOutcome::Resurrected => world.resurrected.extend_from_slice(settlements),
        }
        Err(world.fail("settle"))
    }

    fn parked(
        &self,
        lane: &LaneName,
        partition: Partition,
        order: OrderKey,
        rows: usize,
    ) -> Result<Vec<ShelfRow>, ReadError> {
        Ok(self.journal.world().state.parked(lane, partition, order, rows))
    }

    fn pause(&mut self, lane: &LaneName, partition: Partition, paused: bool) -> Result<(), WriteError> {
        self.change("pause", |state| state.pause(lane, partition, paused))
    }

    fn forget(&mut self, lane: &LaneName, partition: Partition) -> Result<(), WriteError> {
        self.change("forget", |state| state.forget(lane, partition))
    }

    fn generation(&mut self, text: &str, _now: Timestamp) -> Result<u32, WriteError> {
        self.change("generation", |state| state.generation(text))
    }

    fn mark(&self, feed: &str) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.journal.world().state.mark(feed))
    }

    fn set_mark(&mut self, feed: &str, mark: Timestamp) -> Result<(), WriteError> {
        self.change("mark", |state| state.set_mark(feed, mark))
    }
}

/// [`SealedIds`] of one partition of a [`MemoryJournal`].
#[derive(Debug, Clone)]
pub struct MemorySealedIds {
    pub(super) journal: MemoryJournal,
    pub(super) partition: Partition,
}

impl SealedIds for MemorySealedIds {
    fn find(&self, id_hash: u64, body_hash: u64) -> Known {
        let mut known = Known::New;
        self.journal.partition(self.partition, |image| {
            if let Some(bodies) = image.sealed.get(&id_hash) {
                known = if bodies.contains(&body_hash) { Known::Duplicate } else { Known::Conflict };
            }
        });
        known
    }
}
