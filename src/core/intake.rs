//! Intake: gathers what waits for the writer into batches, and tells re-sends from new events.
//!
//! One intake a partition, on the writer's own thread. It judges a push against what is committed and what is in the
//! open batch. A re-send of an event in the open batch shares that batch's fate; a re-send of a committed one is
//! answered at once. Only a commit makes ids known: a batch that failed leaves nothing behind, and its offsets are given
//! again.
//!
//! A push is held against reconciled records, and those against pushes, by the version of what they are about. A reconciled
//! record that was pushed is answered as a duplicate; a push whose reconciled copy came first is stored, and marked as
//! superseded. Two pushes are never held against each other by it.
//!
//! The rows of ROUTED go through the same batches. A batch that finds no room is tried again with its rows alone: they
//! are what frees room.

use crate::{
    core::lane::AlreadyHashed,
    domain::{NewEvent, Offset, Origin},
    ingress::Answer,
    journal::{
        Appended, Batch, NewRouted,
        ids::{IdPair, Known, SealedIds, pairs_of, rivals_of},
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

/// Where the same version of the same record was seen, that came in the other way.
enum Rival {
    InBatch,
    Committed,
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
    /// The same, each with the place of its event in the batch.
    pairs: Vec<(usize, IdPair)>,
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
    pub fn offer(&mut self, mut event: NewEvent, token: A) -> Option<(A, Answer)> {
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
        match self.rival(&event) {
            Some(_) if event.origin == Origin::Push => event.superseded = true,
            Some(Rival::InBatch) => {
                self.answers.push((token, Answer::Duplicate));
                return None;
            }
            Some(Rival::Committed) => return Some((token, Answer::Duplicate)),
            None => {}
        }
        for pair in pairs_of(&event) {
            self.open.insert(pair.id_hash, pair.body_hash);
            self.pairs.push((self.batch.events.len(), pair));
        }
        self.bytes += event.body.len();
        self.batch.events.push((event, in_batch == Known::Conflict || known == Known::Conflict));
        self.answers.push((token, Answer::Stored));
        None
    }

    /// What came in the other way and is the same version of the same record.
    fn rival(&self, event: &NewEvent) -> Option<Rival> {
        let came = |pair: &IdPair| known(&self.maps, &self.sealed, pair.id_hash, pair.body_hash) == Known::Duplicate;
        if rivals_of(event).any(|pair| self.open.find(pair.id_hash, pair.body_hash) == Known::Duplicate) {
            return Some(Rival::InBatch);
        }
        rivals_of(event).any(|pair| came(&pair)).then_some(Rival::Committed)
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
        // The next one is mostly as large.
        let room = Batch {
            events: Vec::with_capacity(self.batch.events.len()),
            routed: Vec::with_capacity(self.batch.routed.len()),
        };
        std::mem::replace(&mut self.batch, room)
    }

    /// The batch is committed: its ids are known, everyone is told.
    pub fn committed(&mut self, appended: Appended, done: &mut Vec<Done<A, R>>) {
        for (index, pair) in std::mem::take(&mut self.pairs) {
            self.remember(appended.first_event + index as u64, pair.id_hash, pair.body_hash);
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
mod tests;
