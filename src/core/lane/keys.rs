//! The deliveries a lane holds in memory, by key: one queue a key, its first the only one that may be out.

use crate::{
    core::lane::Item,
    domain::{OrderKey, Timestamp},
};
use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
    time::Duration,
};

/// A delivery with what happened to it so far.
#[derive(Debug, Clone)]
pub struct Pending<T> {
    /// The delivery.
    pub item: Item<T>,
    /// Whether it lies on the shelf: then its row in the log is settled already.
    pub shelved: bool,
    /// Tries so far.
    pub attempts: u32,
    /// The first try.
    pub first_at: Timestamp,
    /// The last try.
    pub last_at: Timestamp,
    /// When it was first returned as unroutable, and how long the lane had stood still by then.
    pub returned: Option<(Timestamp, Duration)>,
    /// What the last try ended with.
    pub detail: Box<str>,
    /// The share of the buffer that it takes, in deliveries of a usual size; set when it joins its key's queue.
    pub weight: usize,
}

impl<T> Pending<T> {
    /// A delivery that was not tried yet.
    pub fn new(item: Item<T>, shelved: bool) -> Self {
        let never = Timestamp::EPOCH;
        Self {
            item,
            shelved,
            attempts: 0,
            first_at: never,
            last_at: never,
            returned: None,
            detail: "".into(),
            weight: 1,
        }
    }

    /// What is remembered of it while it lies on the shelf.
    pub fn past(&self) -> Past {
        Past { attempts: self.attempts, first_at: self.first_at, returned: self.returned }
    }

    /// Takes up what was remembered.
    pub fn resume(&mut self, past: Past) {
        Past { attempts: self.attempts, first_at: self.first_at, returned: self.returned } = past;
    }
}

/// What is remembered of a parked key's first delivery while it lies on the shelf.
#[derive(Debug, Clone, Copy, Default)]
pub struct Past {
    /// Tries so far.
    pub attempts: u32,
    /// The first try.
    pub first_at: Timestamp,
    /// When it was first returned as unroutable, and how long the lane had stood still by then.
    pub returned: Option<(Timestamp, Duration)>,
}

/// What the first delivery of a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Waits for a place in the window.
    Ready,
    /// Is out.
    Out,
    /// Waits for its next try.
    Waiting(Timestamp),
}

/// One key's deliveries; there is always a first.
#[derive(Debug)]
pub struct Queue<T> {
    /// What the first does.
    pub stage: Stage,
    /// The first.
    pub first: Pending<T>,
    /// The others, in order.
    pub rest: VecDeque<Pending<T>>,
    /// What all of them weigh.
    pub weight: usize,
}

impl<T> Queue<T> {
    /// How many deliveries it holds.
    pub fn len(&self) -> usize {
        1 + self.rest.len()
    }
}

/// Order keys are keyed hashes already; hashing them again would buy nothing.
#[derive(Default)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// A map by order key. Never iterated: what a machine does must not depend on a map's order.
pub type ByKey<V> = HashMap<OrderKey, V, BuildHasherDefault<AlreadyHashed>>;

/// The key of a delivery that keeps order with nothing: its own row, spread over the keys' range.
pub fn own_key(offset: u64, sibling: u64) -> OrderKey {
    OrderKey(mix(offset.wrapping_mul(31).wrapping_add(sibling).wrapping_add(0x9e37_79b9_7f4a_7c15)))
}

/// SplitMix64's finishing step: spreads close numbers over all 64 bits.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
