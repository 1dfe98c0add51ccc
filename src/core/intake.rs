//! Intake: gathers what waits for the writer into batches, and tells re-sends from new events.
//!
//! One intake a partition, on the writer's own thread. It judges a push against what is committed and what is in the
//! open batch. A re-send of an event in the open batch shares that batch's fate; a re-send of a committed one is
//! answered at once. Only a commit makes ids known: a batch that failed leaves nothing behind, and its offsets are given
//! again.
//!
//! The rows of ROUTED go through the same batches. A batch that finds no room is tried again with its rows alone: they
//! are what frees room.

use crate::{
    core::lane::AlreadyHashed,
    domain::{NewEvent, Offset},
    ingress::Answer,
    journal::{
        Appended, Batch, NewRouted,
        ids::{IdPair, Known, SealedIds},
    },
};
use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasherDefault,
    time::Duration,
};

/// A batch holds at most so many events and rows, so that its sync answers somebody soon.
pub const BATCH_ROWS_MAX: usize = 4_096;
/// A batch holds at most so many bytes of bodies.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// What a sender is told to wait when there is no room.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Ids with the bodies they came with.
#[derive(Debug, Default)]
struct IdMap {
    first: HashMap<u64, u64, BuildHasherDefault<AlreadyHashed>>,
    /// Further bodies of an id: rare.
    others: HashMap<u64, Vec<u64>, BuildHasherDefault<AlreadyHashed>>,
}

impl IdMap {
    fn insert(&mut self, id: u64, body: u64) {
        match self.first.entry(id) {
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(body);
            }
            std::collections::hash_map::Entry::Occupied(taken) if *taken.get() == body => {}
            std::collections::hash_map::Entry::Occupied(_) => self.others.entry(id).or_default().push(body),
        }
    }

    fn clear(&mut self) {
        self.first.clear();
        self.others.clear();
    }

    fn find(&self, id: u64, body: u64) -> Known {
        match self.first.get(&id) {
            None => Known::New,
            Some(first) if *first == body => Known::Duplicate,
            Some(_) if self.others.get(&id).is_some_and(|others| others.contains(&body)) => Known::Duplicate,
            Some(_) => Known::Conflict,
        }
    }
}

/// What the writer has to tell after a step. `A` and `R` are the shell's own tokens for who asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Done<A, R> {
    /// A push has its answer.
    Answer(A, Answer),
    /// Rows stand in ROUTED from this number on.
    Appended(R, Offset),
    /// Rows found no room: they come back to be tried again later.
    NoRoom(R, Vec<NewRouted>),
}

/// The intake of one partition.
#[derive(Debug)]
pub struct Intake<S, A, R> {
    sealed: S,
    /// Committed ids of unsealed segments: each with the first offset that is not in an older map.
    maps: VecDeque<(Offset, IdMap)>,
    batch: Batch,
    bytes: usize,
    /// Ids of the open batch, or of the one that is being written.
    open: IdMap,
    /// The same, in order.
    pairs: Vec<IdPair>,
    answers: Vec<(A, Answer)>,
    rows: Vec<(R, usize)>,
}

impl<S: SealedIds, A, R> Intake<S, A, R> {
    /// An intake that knows the ids of sealed segments; those of unsealed ones are [restored](Self::restore).
    pub fn new(sealed: S) -> Self {
        Self {
            sealed,
            maps: VecDeque::from([(0, IdMap::default())]),
            batch: Batch::default(),
            bytes: 0,
            open: IdMap::default(),
            pairs: Vec::new(),
            answers: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Makes a committed id of an unsealed segment known, at start.
    pub fn restore(&mut self, id: u64, body: u64) {
        self.remember(Offset::MAX, id, body);
    }

    /// The ids of sealed segments, to be told of new ones.
    pub fn sealed_mut(&mut self) -> &mut S {
        &mut self.sealed
    }

    /// The log begins a new segment with the event at `first`: ids from here on go into a map of their own. Told before
    /// the first batch of the new segment is said to be [committed](Self::committed).
    pub fn rolled(&mut self, first: Offset) {
        self.maps.push_back((first, IdMap::default()));
    }

    /// The segments before `first` are sealed and their ids are found by [`SealedIds`]: their maps may go.
    pub fn sealed(&mut self, first: Offset) {
        while self.maps.len() > 1 && self.maps.get(1).is_some_and(|(begin, _)| *begin <= first) {
            self.maps.pop_front();
        }
    }

    /// How many maps there are; more than two, and sealing is behind.
    #[must_use]
    pub fn unsealed(&self) -> usize {
        self.maps.len()
    }

    /// Whether the open batch takes nothing more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES_MAX || self.batch.events.len() + self.batch.routed.len() >= BATCH_ROWS_MAX
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.events.is_empty() && self.batch.routed.is_empty()
    }

    /// Takes a push into the open batch; gives its token back when the answer is known already.
    pub fn offer(&mut self, event: NewEvent, token: A) -> Option<(A, Answer)> {
        let (id, body) = (event.id_hash, event.body_hash);
        let in_batch = self.open.find(id, body);
        if in_batch == Known::Duplicate {
            self.answers.push((token, Answer::Duplicate));
            return None;
        }
        let known = known(&self.maps, &self.sealed, id, body);
        if known == Known::Duplicate {
            return Some((token, Answer::Duplicate));
        }
        self.open.insert(id, body);
        self.pairs.push(IdPair { id_hash: id, body_hash: body });
        self.bytes += event.body.len();
        self.batch.events.push((event, in_batch == Known::Conflict || known == Known::Conflict));
        self.answers.push((token, Answer::Stored));
        None
    }

    /// Takes decisions into the open batch.
    pub fn add_rows(&mut self, rows: Vec<NewRouted>, token: R) {
        self.rows.push((token, rows.len()));
        self.batch.routed.extend(rows);
    }

    /// Takes the open batch, to be appended now. What comes of it is told before anything else is offered.
    #[must_use]
    pub fn take_batch(&mut self) -> Batch {
        self.bytes = 0;
        std::mem::take(&mut self.batch)
    }

    /// The batch is committed: its ids are known, everyone is told.
    pub fn committed(&mut self, appended: Appended, done: &mut Vec<Done<A, R>>) {
        for (pair, offset) in std::mem::take(&mut self.pairs).into_iter().zip(appended.first_event..) {
            self.remember(offset, pair.id_hash, pair.body_hash);
        }
        self.open.clear();
        let mut first = appended.first_routed;
        for (token, count) in self.rows.drain(..) {
            done.push(Done::Appended(token, first));
            first += count as u64;
        }
        done.extend(self.answers.drain(..).map(|(token, answer)| Done::Answer(token, answer)));
    }

    /// The batch found no room and comes back. Pushes are refused; decisions stay as a batch of their own to try at
    /// once, unless they were alone already.
    pub fn no_room(&mut self, mut batch: Batch, done: &mut Vec<Done<A, R>>) {
        let alone = batch.events.is_empty();
        self.pairs.clear();
        self.open.clear();
        let full = Answer::Full { retry_after: FULL_RETRY_AFTER };
        done.extend(self.answers.drain(..).map(|(token, _)| Done::Answer(token, full)));
        if !alone {
            batch.events.clear();
            self.batch = batch;
            return;
        }
        let mut rows = batch.routed.into_iter();
        for (token, count) in self.rows.drain(..) {
            done.push(Done::NoRoom(token, rows.by_ref().take(count).collect()));
        }
    }

    /// The store stopped: nobody's push is known to be durable.
    pub fn stopped(&mut self, done: &mut Vec<Done<A, R>>) {
        done.extend(self.answers.drain(..).map(|(token, _)| Done::Answer(token, Answer::Stopped)));
        self.batch = Batch::default();
        self.rows.clear();
        self.pairs.clear();
        self.open.clear();
    }

    /// An id goes into the map of its event's own segment: it must not leave before that segment is sealed.
    fn remember(&mut self, offset: Offset, id: u64, body: u64) {
        if let Some((_, map)) = self.maps.iter_mut().rev().find(|(first, _)| *first <= offset) {
            map.insert(id, body);
        }
    }
}

fn known<S: SealedIds>(maps: &VecDeque<(Offset, IdMap)>, sealed: &S, id: u64, body: u64) -> Known {
    let mut known = Known::New;
    for (_, map) in maps.iter().rev() {
        known = known.or(map.find(id, body));
        if known == Known::Duplicate {
            return known;
        }
    }
    known.or(sealed.find(id, body))
}

#[cfg(test)]
mod tests {
    use super::{Done, Intake};
    use crate::{
        domain::{Incarnation, NewEvent, Partition},
        ingress::Answer,
        journal::{
            Appended, NewRouted,
            ids::{Known, SealedIds},
            samples,
        },
    };
    use std::sync::Arc;

    /// A store with no sealed segments.
    struct Nothing;

    impl SealedIds for Nothing {
        fn find(&self, _: u64, _: u64) -> Known {
            Known::New
        }
    }

    fn event(id: u64, body: u64) -> NewEvent {
        NewEvent { id_hash: id, body_hash: body, ..samples::event("a", 10) }
    }

    fn row(offset: u64) -> NewRouted {
        samples::routed(&Arc::new(event(offset, 0).at(Partition(0), offset, Incarnation(1), false)), &["crm"])
    }

    type Told = Vec<Done<&'static str, &'static str>>;

    const FIRST: Appended = Appended { first_event: 1, first_routed: 1 };

    #[test]
    fn a_resend_of_a_committed_push_is_answered_at_once_and_one_in_the_batch_shares_its_fate() {
        let mut intake = Intake::new(Nothing);
        let mut told = Told::new();
        assert_eq!(intake.offer(event(1, 1), "first"), None);
        assert_eq!(intake.offer(event(1, 1), "again"), None);
        assert_eq!(intake.take_batch().events.len(), 1);
        intake.committed(FIRST, &mut told);
        assert_eq!(told, [Done::Answer("first", Answer::Stored), Done::Answer("again", Answer::Duplicate)]);
        assert_eq!(intake.offer(event(1, 1), "later"), Some(("later", Answer::Duplicate)));
    }

    #[test]
    fn the_same_id_with_another_body_is_a_new_event_and_flagged() {
        let mut intake = Intake::new(Nothing);
        assert_eq!(intake.offer(event(1, 1), "a"), None);
        assert_eq!(intake.offer(event(1, 2), "b"), None);
        assert_eq!(intake.take_batch().events.len(), 2);
        intake.committed(FIRST, &mut Told::new());
        assert_eq!(intake.offer(event(1, 3), "c"), None);
        assert_eq!(intake.offer(event(1, 2), "d"), Some(("d", Answer::Duplicate)));
        let flags: Vec<bool> = intake.take_batch().events.iter().map(|(_, conflict)| *conflict).collect();
        assert_eq!(flags, [true]);
    }

    #[test]
    fn a_batch_that_finds_no_room_forgets_its_ids_and_keeps_its_decisions() {
        let mut intake = Intake::new(Nothing);
        let mut told = Told::new();
        assert_eq!(intake.offer(event(1, 1), "a"), None);
        intake.add_rows(vec![row(7)], "rows");
        let batch = intake.take_batch();
        intake.no_room(batch, &mut told);
        assert!(matches!(told.as_slice(), [Done::Answer("a", Answer::Full { .. })]), "{told:?}");
        let batch = intake.take_batch();
        assert_eq!((batch.events.len(), batch.routed.as_slice()), (0, [row(7)].as_slice()));
        intake.no_room(batch, &mut told);
        assert_eq!(told.pop(), Some(Done::NoRoom("rows", vec![row(7)])));
        assert!(intake.is_empty());
        assert_eq!(intake.offer(event(1, 1), "a"), None, "a refused push is new when it comes again");
    }

    #[test]
    fn ids_of_the_batch_that_begins_a_segment_stay_when_the_one_before_is_sealed() {
        // The appender rolled before it wrote the batch, or after it: either way the intake hears of it first.
        for (rolled, kept) in [(1, true), (2, false)] {
            let mut intake = Intake::new(Nothing);
            assert_eq!(intake.offer(event(1, 1), "a"), None);
            intake.rolled(rolled);
            intake.committed(FIRST, &mut Told::new());
            intake.sealed(rolled);
            assert_eq!(intake.offer(event(1, 1), "b").is_some(), kept, "rolled at {rolled}");
        }
    }

    #[test]
    fn ids_stay_known_across_a_roll_and_go_to_the_sealed_file_with_their_segment() {
        let mut intake = Intake::new(Nothing);
        intake.offer(event(1, 1), "a");
        intake.committed(FIRST, &mut Told::new());
        intake.rolled(2);
        assert_eq!(intake.offer(event(1, 1), "b"), Some(("b", Answer::Duplicate)));
        intake.sealed(2);
        assert_eq!(intake.unsealed(), 1);
        assert_eq!(intake.offer(event(1, 1), "c"), None, "nothing sealed knows it here");
    }
}
