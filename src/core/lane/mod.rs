//! The lane: reads a log from its progress, keeps a window of deliveries in flight, at most one of any key, judges
//! what comes back, and says what is to be made durable.
//!
//! One machine for everything that reads a log: the router (its outlet decides and appends to ROUTED), a
//! destination (its outlet publishes), the morgue (its outlet refuses), a replay (its log is a selection).
//!
//! Actors: the *shell* carries [`Effect`]s out and brings [`Input`]s; the *log* is read page by page; the *outlet*
//! takes tries and answers each once; the *state* makes settlements durable, in the order they are asked for.
//!
//! What holds between any two steps:
//! - Of one key at most one delivery is out, and it is the oldest that is not settled. So first copies keep their
//!   order, whatever fails.
//! - A place in the window is free only when the receipt of the delivery that had it is durable. So a crash repeats at
//!   most `window` deliveries.
//! - What is settled in memory goes into the next settlement as a whole: receipts, progress and shelf move together.
//! - When the trouble is not the delivery's own (outlet stopped, one cause failing everything), the lane stands still
//!   and keeps everything: nothing goes to the shelf for it.
//!
//! At a crash the lane takes up its stored progress: deliveries in flight, and those taken whose receipt was not yet
//! durable, are made again; nothing else is.

mod clock;
mod keys;
mod marks;
mod outcomes;
mod parked;
mod settle;
mod step;
#[cfg(test)]
mod tests;

pub use keys::AlreadyHashed;
pub use marks::{Marks, SPAN_MAX};

use crate::{
    config::settings::{OnDead, Rate, Retry},
    destinations::{Outcome, OutletState},
    domain::{EventId, Offset, OrderKey, RouteName, Timestamp},
    journal::{Progress, Receipt, ShelfChange},
};
use std::{sync::Arc, time::Duration};

/// What a lane hands to its outlet.
pub trait Carried: Clone {
    /// Bytes of memory that it keeps.
    fn bytes(&self) -> usize;
}

/// One delivery, as the lane needs to know it. `T` is what the outlet gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<T> {
    /// The row of the log that it was read from.
    pub offset: Offset,
    /// Which of the row's deliveries; `None` where a row is one delivery.
    pub route: Option<RouteName>,
    /// The event.
    pub event: EventId,
    /// What it keeps its order with; `None`: with nothing.
    pub order: Option<OrderKey>,
    /// When its event was accepted.
    pub received_at: Timestamp,
    /// Whether its death would hold its key.
    pub on_dead: OnDead,
    /// What the outlet gets.
    pub payload: T,
}

/// How a lane behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct LaneConfig {
    /// Deliveries that are out, or whose receipt is not durable yet: at most so many.
    pub window: usize,
    /// Deliveries read and held in memory: at most so many, plus one page. Large ones count for several, so that all of
    /// them keep [`HELD_BYTES_MAX`] at most, plus one page.
    pub read_ahead: usize,
    /// How failures are tried again.
    pub retry: Retry,
    /// Deliveries at most per time.
    pub rate: Option<Rate>,
    /// Whether a place in the window waits for a durable receipt. The router's receipts are its ROUTED rows.
    pub receipts: bool,
    /// Whether the lane lays deliveries on the shelf by itself. The router's does so only when told ([`Input::Park`]).
    pub shelf: bool,
    /// Whether one cause that fails many keys stops the lane. Not the morgue's, where everything fails by design.
    pub common_cause: bool,
    /// The shortest time between two settlements, so that many receipts share a sync.
    pub settle_every: Duration,
    /// Spreads the pauses of lanes that fail together.
    pub seed: u64,
}

/// Bytes that a lane's deliveries keep in memory: a broker that is away must not cost more the larger events are.
pub const HELD_BYTES_MAX: usize = 32 << 20;

/// More keys than this failing by one cause, with no success between, are no trouble of their own.
pub const COMMON_CAUSE_KEYS: usize = 100;

/// More parked keys than this stop the lane.
pub const PARKED_KEYS_MAX: usize = 10_000;

/// The same for a lane that is told whom to park: each of its keys waits for reasons of its own, not the lane's.
pub const TOLD_PARKED_KEYS_MAX: usize = 100_000;

/// A lane that has nothing of its own to do still stores how far it has come, this often.
pub const IDLE_SETTLE: Duration = Duration::from_secs(1);

/// What a lane is told.
#[derive(Debug, Clone)]
pub enum Input<T> {
    /// The log has rows up to (not including) this one.
    Grown(Offset),
    /// The page asked for by [`Effect::Read`]: the rows up to `next`, of which these deliveries are the lane's, by row.
    Page {
        /// The first row not covered.
        next: Offset,
        /// The lane's deliveries in it.
        items: Vec<Item<T>>,
    },
    /// Reading failed; it is asked for again after a pause.
    ReadFailed,
    /// Ends of tries, by ticket.
    Outcomes(Vec<(u64, Outcome)>),
    /// A try cannot go on now, for reasons of its own: its key goes to the shelf, out of everybody's way, and is tried
    /// again from there. The ticket, and the words for it.
    Park(u64, Box<str>),
    /// The outlet's state.
    Outlet(OutletState),
    /// The outlet ended: what was out may or may not have been taken, and will not be answered.
    OutletGone,
    /// The settlement asked for last is durable.
    Settled,
    /// It is not, for want of room; the lane asks again after a pause.
    SettleFailed,
    /// The rows asked for by [`Effect::LoadShelf`], oldest first.
    Shelf {
        /// The parked key.
        order: OrderKey,
        /// Its first rows.
        items: Vec<Item<T>>,
    },
    /// The dead letter that held a key was replayed or discarded.
    Released(OrderKey),
    /// An operator stops the lane, or lets it go on.
    Pause(bool),
    /// New settings.
    Configure(LaneConfig),
    /// Time has come: see [`Lane::wake_at`].
    Tick,
}

/// What a lane asks for. Effects are carried out in order; those that concern the state must reach it in order.
#[derive(Debug, Clone)]
pub enum Effect<T> {
    /// Read the log from a row on; one [`Input::Page`] or [`Input::ReadFailed`] comes back.
    Read {
        /// The first row.
        from: Offset,
        /// At most so many rows that are the lane's.
        rows: usize,
    },
    /// Try a delivery; one outcome for the ticket comes back.
    Publish {
        /// Names the try.
        ticket: u64,
        /// What to publish.
        payload: T,
        /// Which try it is, from 1, since the process started.
        number: u32,
    },
    /// Make this durable; [`Input::Settled`] or [`Input::SettleFailed`] comes back before another is asked for.
    Settle(Arc<Settling>),
    /// Read the first rows of a parked key; one [`Input::Shelf`] comes back.
    LoadShelf {
        /// The key.
        order: OrderKey,
        /// At most so many rows.
        rows: usize,
    },
}

/// The part of a [`crate::journal::Settlement`] that the lane knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settling {
    /// Where the lane stands afterwards.
    pub progress: Progress,
    /// What ended.
    pub receipts: Vec<Receipt>,
    /// What went to the shelf, or left it.
    pub shelf: Vec<ShelfChange>,
}

/// What is to be seen of a lane from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether it publishes, and if not why.
    pub state: LaneState,
    /// The first row that is not settled.
    pub watermark: Offset,
    /// Deliveries that are out.
    pub in_flight: usize,
    /// Deliveries held in memory, out or not.
    pub buffered: usize,
    /// Keys on the shelf.
    pub parked_keys: usize,
    /// Tries that were made again, since the start.
    pub retried: u64,
}

/// Whether a lane publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneState {
    /// It does.
    Up,
    /// An operator paused it.
    Paused,
    /// It cannot; why, and what the other side said.
    Stopped(crate::domain::StopReason, Box<str>),
}

pub use step::{Lane, NOT_YET};
