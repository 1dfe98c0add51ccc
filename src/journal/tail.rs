//! The tail ring: what was just committed, kept in memory so that those who keep up never read the disk.
//!
//! [`Tail`] is a [`Log`] over another one. A batch is published to it only after its commit said ok; from then on
//! the router and every lane get the same `Arc` of a row. Reads that begin before the ring go to the engine
//! underneath. The ring is bounded by the bytes of bodies it keeps alive; at the bound the oldest rows leave. A decision
//! keeps its event alive: it leaves with it at the latest, unless its body was counted for itself.

use crate::{
    domain::{Event, EventId, Incarnation, Offset, Partition, Routed, records_bytes},
    journal::{
        Appended, Appender, Batch, Entry, Heads, Log, Page, ReadError, ReadLimit, Wanted, WriteError, budget::Budget,
    },
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes that a ring may keep alive: half a second of 60,000 pushes of 1 KB.
pub const TAIL_BYTES_MAX: usize = 32 << 20;

/// What a row costs beside its texts: the allocations around it.
const ROW_BYTES: usize = 320;

/// A log whose newest rows are in memory.
#[derive(Debug)]
pub struct Tail<L> {
    engine: L,
    rings: Vec<Mutex<Ring>>,
}

impl<L: Log> Tail<L> {
    /// Puts an empty ring before each of an engine's partitions.
    pub fn new(engine: L, partitions: u16, bytes_max: usize) -> Self {
        let ring = |number| Mutex::new(Ring::new(engine.heads(Partition(number)), bytes_max));
        let rings = (0..partitions).map(ring).collect();
        Self { engine, rings }
    }

    /// The log underneath.
    pub fn engine(&self) -> &L {
        &self.engine
    }

    /// Makes a committed batch visible. To be called once for every commit, in order, by the one who commits.
    pub fn publish(&self, partition: Partition, incarnation: Incarnation, appended: Appended, batch: Batch) {
        // The rows are built before the lock is taken: readers never wait for an allocation.
        let events = batch.events.into_iter().zip(appended.first_event..);
        let events: Vec<_> = events
            .map(|((event, conflict), offset)| Arc::new(event.at(partition, offset, incarnation, conflict)))
            .collect();
        let routed = batch.routed.into_iter().zip(appended.first_routed..);
        let routed: Vec<_> =
            routed.map(|(new, offset)| Arc::new(Routed { offset, row: new.row, event: new.event })).collect();
        let left = self.ring(partition).map(|mut ring| {
            ring.push(appended, events, routed);
            ring.evict()
        });
        // Freed only now, after the lock.
        drop(left);
    }

    /// Reads EVENTS from the ring alone: never waits for a disk. `None` when the ring does not reach back so far.
    pub fn recent_events(&self, partition: Partition, from: Offset, limit: ReadLimit) -> Option<Page<Event>> {
        self.ring(partition).and_then(|ring| ring.events.page(from, limit, |_| true, event_body))
    }

    /// Reads ROUTED from the ring alone: never waits for a disk. `None` when the ring does not reach back so far.
    pub fn recent_routed(
        &self,
        partition: Partition,
        from: Offset,
        wanted: &Wanted,
        limit: ReadLimit,
    ) -> Option<Page<Routed>> {
        let matches = |routed: &Routed| wanted.matches(&routed.row.decision);
        self.ring(partition).and_then(|ring| ring.routed.page(from, limit, matches, routed_body))
    }

    fn ring(&self, partition: Partition) -> Option<MutexGuard<'_, Ring>> {
        let ring = self.rings.get(usize::from(partition.0))?;
        Some(ring.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<L: Log> Log for Tail<L> {
    fn heads(&self, partition: Partition) -> Heads {
        self.ring(partition).map(|ring| ring.heads()).unwrap_or_default()
    }

    fn events(&self, partition: Partition, from: Offset, limit: ReadLimit) -> Result<Page<Event>, ReadError> {
        let page = self.recent_events(partition, from, limit);
        page.map_or_else(|| self.engine.events(partition, from, limit), Ok)
    }

    fn routed(
        &self,
        partition: Partition,
        from: Offset,
        wanted: &Wanted,
        limit: ReadLimit,
    ) -> Result<Page<Routed>, ReadError> {
        let page = self.recent_routed(partition, from, wanted, limit);
        page.map_or_else(|| self.engine.routed(partition, from, wanted, limit), Ok)
    }

    fn event(&self, id: EventId) -> Result<Option<Arc<Event>>, ReadError> {
        let found = self.ring(id.position.partition).and_then(|ring| ring.events.get(id.position.offset));
        match found {
            Some(event) => Ok(Some(event).filter(|event| event.id == id)),
            None => self.engine.event(id),
        }
    }

    fn routed_row(&self, partition: Partition, offset: Offset) -> Result<Option<Entry<Routed>>, ReadError> {
        match self.ring(partition).and_then(|ring| ring.routed.get(offset)) {
            Some(routed) => Ok(Some(Entry::Row(routed))),
            None => self.engine.routed_row(partition, offset),
        }
    }
}

/// The writing end: appends to an engine and publishes what was committed.
#[derive(Debug)]
pub struct TailAppender<A, L> {
    appender: A,
    partition: Partition,
    tail: Arc<Tail<L>>,
}

impl<A: Appender, L: Log> TailAppender<A, L> {
    /// Puts an engine's appender of a partition before the ring of that engine's log.
    pub fn new(appender: A, partition: Partition, tail: Arc<Tail<L>>) -> Self {
        Self { appender, partition, tail }
    }

    /// The numbers that the next rows will get.
    pub fn heads(&self) -> Heads {
        self.appender.heads()
    }

    /// The first event of the segment that is written to now.
    pub fn segment_start(&self) -> Offset {
        self.appender.segment_start()
    }

    /// Writes a batch, synced, all or nothing; then every reader sees it.
    ///
    /// # Errors
    /// [`WriteError`], with the batch as it was: nobody has seen any of it.
    pub fn append(&mut self, batch: Batch) -> Result<Appended, (WriteError, Batch)> {
        match self.appender.append(&batch) {
            Ok(appended) => {
                self.tail.publish(self.partition, self.appender.incarnation(), appended, batch);
                Ok(appended)
            }
            Err(error) => Err((error, batch)),
        }
    }
}

/// The newest rows of one partition.
#[derive(Debug)]
struct Ring {
    events: Rows<Event>,
    routed: Rows<Routed>,
    /// Events whose bodies are counted among `events` alone, each with the last decision that must leave when it does.
    /// Both numbers grow from front to back: a later decision about an older event covers those before it.
    leaning: VecDeque<(Offset, Offset)>,
    bytes_max: usize,
}

/// The newest rows of one log: dense, `next` is the first offset after them.
#[derive(Debug)]
struct Rows<T> {
    rows: VecDeque<Kept<T>>,
    next: Offset,
    bytes: usize,
}

#[derive(Debug)]
struct Kept<T> {
    row: Arc<T>,
    bytes: usize,
}

impl Ring {
    fn new(heads: Heads, bytes_max: usize) -> Self {
        let (events, routed) = (Rows::new(heads.events), Rows::new(heads.routed));
        Self { events, routed, leaning: VecDeque::new(), bytes_max }
    }

    fn heads(&self) -> Heads {
        Heads { events: self.events.next, routed: self.routed.next }
    }

    fn push(&mut self, appended: Appended, events: Vec<Arc<Event>>, routed: Vec<Arc<Routed>>) {
        self.events.start_at(appended.first_event);
        for event in events {
            let bytes = ROW_BYTES + event_body(&event) + event.headers.0.len();
            self.events.push(Kept { row: event, bytes });
        }
        self.routed.start_at(appended.first_routed);
        let first = self.events.first();
        for row in routed {
            // A body that the ring of events holds anyway is counted there.
            let event = row.event.position().offset;
            let body = if event >= first { 0 } else { ROW_BYTES + routed_body(&row) };
            if event >= first {
                while self.leaning.back().is_some_and(|(earlier, _)| *earlier >= event) {
                    self.leaning.pop_back();
                }
                self.leaning.push_back((event, row.offset));
            }
            let bytes = ROW_BYTES + body + records_bytes(&row.row.enrichment);
            self.routed.push(Kept { row, bytes });
        }
    }

    /// Takes the oldest rows out until the bound holds.
    fn evict(&mut self) -> (Vec<Kept<Event>>, Vec<Kept<Routed>>) {
        let (mut events, mut routed) = (Vec::new(), Vec::new());
        while self.events.bytes + self.routed.bytes > self.bytes_max {
            if self.routed.bytes > self.events.bytes {
                routed.extend(self.routed.pop());
            } else {
                events.extend(self.events.pop());
            }
            // Decisions must not keep alive what is counted nowhere any more.
            let first = self.events.first();
            while let Some((event, last)) = self.leaning.front().copied()
                && event < first
            {
                self.leaning.pop_front();
                while self.routed.first() <= last
                    && let Some(kept) = self.routed.pop()
                {
                    routed.push(kept);
                }
            }
        }
        (events, routed)
    }
}

impl<T> Rows<T> {
    fn new(next: Offset) -> Self {
        Self { rows: VecDeque::new(), next, bytes: 0 }
    }

    fn first(&self) -> Offset {
        self.next - self.rows.len() as u64
    }

    /// Makes sure that the next row is `offset`: after a gap nothing older may be served.
    fn start_at(&mut self, offset: Offset) {
        if self.next != offset {
            *self = Self::new(offset);
        }
    }

    fn push(&mut self, kept: Kept<T>) {
        self.bytes += kept.bytes;
        self.rows.push_back(kept);
        self.next += 1;
    }

    fn pop(&mut self) -> Option<Kept<T>> {
        let kept = self.rows.pop_front()?;
        self.bytes -= kept.bytes;
        Some(kept)
    }

    fn get(&self, offset: Offset) -> Option<Arc<T>> {
        let index = usize::try_from(offset.checked_sub(self.first())?).ok()?;
        self.rows.get(index).map(|kept| Arc::clone(&kept.row))
    }

    /// A page from an offset on, if the ring reaches back to it.
    fn page(
        &self,
        from: Offset,
        limit: ReadLimit,
        matches: impl Fn(&T) -> bool,
        body_bytes: impl Fn(&T) -> usize,
    ) -> Option<Page<T>> {
        let skip = usize::try_from(from.checked_sub(self.first())?).ok()?;
        let mut page = Page { rows: Vec::new(), next: from, gone: 0 };
        let mut budget = Budget::new(limit);
        for Kept { row, .. } in self.rows.range(skip.min(self.rows.len())..) {
            if budget.is_spent(page.rows.len()) {
                break;
            }
            if matches(row) {
                budget.spend(body_bytes(row));
                page.rows.push(Entry::Row(Arc::clone(row)));
            }
            page.next += 1;
        }
        Some(page)
    }
}

fn event_body(event: &Event) -> usize {
    event.body.len()
}

fn routed_body(routed: &Routed) -> usize {
    routed.event.body.len()
}

#[cfg(test)]
mod tests {
    use super::{Tail, TailAppender};
    use crate::{
        domain::{DestinationName, Incarnation, Offset, Partition},
        journal::{
            Batch, Entry, Heads, Log, Page, ReadLimit, Wanted, WriteError,
            memory::{CommitOutcome, MemoryJournal, ends::MemoryLog},
            samples,
        },
    };
    use std::sync::Arc;

    const P0: Partition = Partition(0);
    const ALL: ReadLimit = ReadLimit { rows: 1_000, bytes: 1 << 20 };

    fn start(
        bytes_max: usize,
    ) -> (MemoryJournal, Arc<Tail<MemoryLog>>, TailAppender<impl crate::journal::Appender, MemoryLog>) {
        let journal = MemoryJournal::new(1);
        let tail = Arc::new(Tail::new(journal.log(), 1, bytes_max));
        let appender = TailAppender::new(journal.appender(P0, Incarnation(7)), P0, Arc::clone(&tail));
        (journal, tail, appender)
    }

    fn offsets<T>(page: &Page<T>, offset: impl Fn(&T) -> Offset) -> Vec<Offset> {
        let offset = |entry: &Entry<T>| match entry {
            Entry::Row(row) => offset(row),
            Entry::Damaged(damage) => damage.offset,
        };
        page.rows.iter().map(offset).collect()
    }

    #[test]
    fn everyone_gets_the_same_rows_and_only_after_the_commit() {
        let (journal, tail, mut appender) = start(1 << 20);
        journal.next_append(P0, CommitOutcome::Full);
        let batch = Batch { events: vec![(samples::event("a", 10), false)], routed: vec![] };
        let Err((WriteError::Full(_), batch)) = appender.append(batch) else { panic!("planned") };
        assert_eq!(tail.heads(P0), Heads { events: 1, routed: 1 });

        appender.append(batch).unwrap();
        let page = tail.events(P0, 1, ALL).unwrap();
        let Some(Entry::Row(event)) = page.rows.first() else { panic!("there is one") };
        let row = samples::routed(event, &["crm"]);
        appender.append(Batch { events: vec![], routed: vec![row] }).unwrap();

        let page = tail.routed(P0, 1, &Wanted::Destination(DestinationName::parse("crm").unwrap()), ALL).unwrap();
        let Some(Entry::Row(routed)) = page.rows.first() else { panic!("there is one") };
        assert!(Arc::ptr_eq(&routed.event, event));
        let other = tail.routed(P0, 1, &Wanted::Destination(DestinationName::parse("lake").unwrap()), ALL).unwrap();
        assert_eq!((other.rows.len(), other.next), (0, 2));
    }

    #[test]
    fn what_left_the_ring_is_read_from_the_engine() {
        let (_journal, tail, mut appender) = start(40_000);
        for number in 0..100 {
            let batch = Batch { events: vec![(samples::event(&number.to_string(), 1_000), false)], routed: vec![] };
            appender.append(batch).unwrap();
        }
        let first = tail.ring(P0).unwrap().events.first();
        assert!(first > 60 && first < 80, "{first}");
        for from in [1, first - 1, first, 100, 101] {
            let page = tail.events(P0, from, ALL).unwrap();
            assert_eq!(offsets(&page, |event| event.position().offset), (from..=100).collect::<Vec<_>>());
            assert_eq!(page.next, 101);
        }
    }

    #[test]
    fn decisions_about_old_events_keep_the_ring_within_its_bound() {
        let (_journal, tail, mut appender) = start(40_000);
        let events = |from: u32, to: u32| (from..to).map(|n| (samples::event(&n.to_string(), 1_000), false)).collect();
        appender.append(Batch { events: events(0, 100), routed: vec![] }).unwrap();
        let page = tail.events(P0, 1, ALL).unwrap();
        for entry in &page.rows {
            let Entry::Row(event) = entry else { panic!("all whole") };
            let routed = vec![samples::routed(event, &["crm"])];
            appender.append(Batch { events: events(0, 1), routed }).unwrap();
            let ring = tail.ring(P0).unwrap();
            assert!(ring.events.bytes + ring.routed.bytes <= 40_000);
            assert!(ring.routed.rows.len() > 1 || ring.routed.next < 3, "{}", ring.routed.next);
        }
        let page = tail.routed(P0, 1, &Wanted::All, ALL).unwrap();
        assert_eq!(offsets(&page, |routed| routed.offset), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn no_body_is_kept_alive_beyond_the_bound_in_whatever_order_events_are_decided() {
        let (_journal, tail, mut appender) = start(40_000);
        let events = |from: u32, to: u32| (from..to).map(|n| (samples::event(&n.to_string(), 1_000), false)).collect();
        // Those waiting for a decision hold their events: half of them leave the ring before they are decided.
        let mut undecided = Vec::new();
        for step in 0..60_u32 {
            appender.append(Batch { events: events(step * 10, step * 10 + 10), routed: vec![] }).unwrap();
            let page = tail.events(P0, u64::from(step) * 10 + 1, ALL).unwrap();
            undecided.extend(page.rows.into_iter().map(|entry| match entry {
                Entry::Row(event) => event,
                Entry::Damaged(damage) => panic!("{damage:?}"),
            }));
            // A late one stands before those of this step, and these are not in the order of their events.
            let mut decided = vec![undecided.remove(0)];
            decided.extend(undecided.split_off(undecided.len() - 5).into_iter().rev());
            let routed = decided.iter().map(|event| samples::routed(event, &["crm"])).collect();
            appender.append(Batch { events: vec![], routed }).unwrap();
            let ring = tail.ring(P0).unwrap();
            let mut held: Vec<_> = ring.events.rows.iter().map(|kept| Arc::clone(&kept.row)).collect();
            held.extend(ring.routed.rows.iter().map(|kept| Arc::clone(&kept.row.event)));
            held.sort_by_key(|event| event.position().offset);
            held.dedup_by_key(|event| event.position().offset);
            let bytes: usize = held.iter().map(|event| event.body.len()).sum();
            assert!(bytes <= 40_000, "{bytes} bytes are held after step {step}");
        }
    }
}
