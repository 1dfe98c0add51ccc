//! Keys whose deliveries wait on the shelf: how they get there, and how they come back in order.
//!
//! A key is parked when its failing delivery keeps the lane from reading on, when a dead letter holds it
//! (`on_dead: park`), or when it has so many deliveries that they would fill the buffer. While it is parked, later
//! deliveries join it on the shelf; what is left of it in memory goes first. Coming back, its rows are loaded a few at
//! a time; when none is left, the key is as any other.

use crate::{
    core::lane::{
        Carried, Effect, Item,
        keys::{Past, Pending},
        step::{Lane, Timer},
    },
    domain::{DeadCause, Offset, OrderKey, RouteName, Timestamp},
    journal::{Ending, ShelfChange, ShelfRow, ShelfState},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// At most so many rows of one key are loaded at a time.
const LOAD_ROWS: usize = 64;

/// The pause before rows that are not durable yet are asked for again.
const LOAD_PAUSE: Duration = Duration::from_millis(20);

/// What identifies a row of a lane's shelf.
pub type ShelfKey = (Offset, Option<RouteName>);

/// Rows that left a lane's shelf, with the keys that keep order.
pub type OffShelf = BTreeMap<ShelfKey, Option<OrderKey>>;

/// A parked key.
#[derive(Debug, Default)]
pub struct Parked {
    /// Its parked rows on the shelf, those loaded included.
    pub rows: u64,
    /// Whether a dead letter holds it.
    pub held: bool,
    /// Its rows that are being loaded.
    pub loading: Option<Loading>,
    /// What happened to its first row so far.
    pub past: Past,
    /// Rows laid there that are not durable yet: those to be settled next, and those in the settlement on its way.
    pub fresh: (BTreeSet<ShelfKey>, BTreeSet<ShelfKey>),
}

/// Rows on their way from the shelf. They show the shelf as it was at some moment after they were asked for: what has
/// become durable since may be missing among them, or be there still.
#[derive(Debug, Default)]
pub struct Loading {
    /// How many at most.
    rows: usize,
    /// How far the log had been read when they were asked for.
    cursor: Offset,
    /// The oldest row whose way to the shelf ended since.
    laid: Option<Offset>,
    /// Rows that were taken off the shelf since.
    taken: BTreeSet<ShelfKey>,
}

impl Parked {
    /// The oldest row that may be missing among what is loaded: it is, or was a moment ago, on its way to the shelf.
    fn oldest_on_its_way(&self, loading: &Loading) -> Option<Offset> {
        let fresh = self.fresh.0.first().into_iter().chain(self.fresh.1.first());
        fresh.map(|(fresh, _)| *fresh).chain(loading.laid).min()
    }
}

impl<T: Carried> Lane<T> {
    /// Lays all of a key's deliveries on the shelf and tries them again from there.
    pub(super) fn park(&mut self, now: Timestamp, order: OrderKey) {
        self.stop_waiting(order);
        let Some(queue) = self.keys.remove(&order) else { return };
        self.let_go(queue.len(), queue.weight);
        let past = queue.first.past();
        self.parked.entry(order).or_default().past = past;
        for pending in std::iter::once(queue.first).chain(queue.rest) {
            self.put_aside(now, pending);
        }
        let pause = crate::core::retry::pause(past.attempts, &self.config.retry, u32::MAX);
        self.timers.insert((now.plus(pause), Timer::Parked(order)));
    }

    /// Marks a key as held by its first delivery, which dies, and lays the others on the shelf.
    pub(super) fn hold(&mut self, now: Timestamp, order: OrderKey) {
        self.parked.entry(order).or_default().held = true;
        let Some(queue) = self.keys.get_mut(&order) else { return };
        let rest = std::mem::take(&mut queue.rest);
        let others = queue.weight - queue.first.weight;
        queue.weight = queue.first.weight;
        self.let_go(rest.len(), others);
        for pending in rest {
            self.put_aside(now, pending);
        }
    }

    /// Lays one delivery of a parked key on the shelf; one that came from there stays where it is.
    pub(super) fn put_aside(&mut self, now: Timestamp, pending: Pending<T>) {
        if pending.shelved {
            return;
        }
        if let Some(parked) = pending.item.order.and_then(|order| self.parked.get_mut(&order)) {
            parked.rows += 1;
            parked.fresh.0.insert((pending.item.offset, pending.item.route.clone()));
        }
        let row = shelf_row(&pending, ShelfState::Parked, None, pending.detail.clone(), false);
        self.pending.shelf.push(ShelfChange::Put(row));
        self.record(now, pending, Ending::Parked, "".into());
    }

    /// Lets go of what was loaded of a parked key, to load it again at `until`.
    pub(super) fn put_back(&mut self, order: OrderKey, until: Timestamp) {
        self.stop_waiting(order);
        if let Some(queue) = self.keys.remove(&order) {
            self.let_go(queue.len(), queue.weight);
            if let Some(parked) = self.parked.get_mut(&order) {
                parked.past = queue.first.past();
            }
        }
        self.timers.insert((until, Timer::Parked(order)));
    }

    /// Lays a dead delivery on the shelf.
    pub(super) fn lay_out(
        &mut self,
        now: Timestamp,
        mut pending: Pending<T>,
        cause: DeadCause,
        detail: Box<str>,
        holds: bool,
    ) {
        if pending.attempts == 0 {
            // Retention counts from here: what was never tried must not look as old as the epoch.
            (pending.first_at, pending.last_at) = (now, now);
        }
        let row = shelf_row(&pending, ShelfState::Dead, Some(cause), detail.clone(), holds);
        if pending.shelved {
            self.left_the_shelf(&pending.item);
        }
        self.pending.shelf.push(ShelfChange::Put(row));
        self.record(now, pending, Ending::Dead(cause), detail);
    }

    /// A parked row was delivered, or died: it is not this lane's to publish any more.
    pub(super) fn left_the_shelf(&mut self, item: &Item<T>) {
        self.off_shelf.0.insert((item.offset, item.route.clone()), item.order);
        let Some(parked) = item.order.and_then(|order| self.parked.get_mut(&order)) else { return };
        parked.rows = parked.rows.saturating_sub(1);
        parked.past = Past::default();
    }

    /// Nothing of a key is left in memory: if it is parked, its shelf is next.
    pub(super) fn key_is_empty(&mut self, now: Timestamp, order: OrderKey) {
        if self.parked.get(&order).is_some_and(|parked| !parked.held && parked.loading.is_none()) {
            self.timers.insert((now, Timer::Parked(order)));
        }
    }

    /// Asks for a parked key's first rows, or lets the key go when there are none.
    pub(super) fn load_parked(&mut self, now: Timestamp, order: OrderKey, effects: &mut Vec<Effect<T>>) {
        let in_memory = self.keys.contains_key(&order);
        let idle = |parked: &&mut Parked| !parked.held && parked.loading.is_none();
        let Some(parked) = self.parked.get_mut(&order).filter(idle) else { return };
        if in_memory {
            return;
        }
        if parked.rows == 0 {
            self.parked.remove(&order);
            return;
        }
        // What other keys asked for is on its way: many keys coming back at once must not fill the memory.
        let room = self.config.read_ahead.saturating_sub(self.held + self.loading);
        if room == 0 {
            self.timers.insert((now.plus(LOAD_PAUSE), Timer::Parked(order)));
            return;
        }
        let rows = room.min(LOAD_ROWS);
        parked.loading = Some(Loading { rows, cursor: self.marks.cursor(), ..Loading::default() });
        self.loading += rows;
        effects.push(Effect::LoadShelf { order, rows });
    }

    /// Takes a parked key's rows up again.
    pub(super) fn shelf_loaded(&mut self, now: Timestamp, order: OrderKey, items: Vec<Item<T>>) {
        let Some(parked) = self.parked.get_mut(&order) else { return };
        let Some(loading) = parked.loading.take() else { return };
        self.loading -= loading.rows;
        if parked.held {
            return;
        }
        let oldest = parked.oldest_on_its_way(&loading);
        let mut next = Vec::with_capacity(items.len());
        for item in items {
            // Nothing older may be on its way to the shelf or, after a restart, in what of the log was not read yet.
            if item.offset >= loading.cursor || oldest.is_some_and(|oldest| item.offset > oldest) {
                break;
            }
            let key = (item.offset, item.route.clone());
            let taken = [&self.off_shelf.0, &self.off_shelf.1].iter().any(|taken| taken.contains_key(&key));
            if !taken && !loading.taken.contains(&key) {
                next.push(item);
            }
        }
        let mut past = Some(parked.past);
        for item in next {
            let mut pending = Pending::new(item, true);
            // It is the first row's: what was remembered goes when that row does.
            past.take().into_iter().for_each(|past| pending.resume(past));
            self.enqueue(order, pending);
        }
        if !self.keys.contains_key(&order) {
            self.timers.insert((now.plus(LOAD_PAUSE), Timer::Parked(order)));
        }
    }

    /// The rows laid on the shelf go into a settlement.
    pub(super) fn fresh_rows_settle(&mut self, shelf: &[ShelfChange]) {
        for order in parked_orders(shelf) {
            if let Some(parked) = self.parked.get_mut(&order) {
                parked.fresh.1.append(&mut parked.fresh.0);
            }
        }
    }

    /// That settlement is durable. What is being loaded may have been read before.
    pub(super) fn shelf_settled(&mut self, shelf: &[ShelfChange]) {
        for order in parked_orders(shelf) {
            let Some(parked) = self.parked.get_mut(&order) else { continue };
            let laid = std::mem::take(&mut parked.fresh.1);
            if let (Some(loading), Some((oldest, _))) = (&mut parked.loading, laid.first()) {
                loading.laid = Some(loading.laid.map_or(*oldest, |laid| laid.min(*oldest)));
            }
        }
        for (row, order) in std::mem::take(&mut self.off_shelf.1) {
            let parked = order.and_then(|order| self.parked.get_mut(&order));
            if let Some(loading) = parked.and_then(|parked| parked.loading.as_mut()) {
                loading.taken.insert(row);
            }
        }
    }

    /// The dead letter that held a key is gone.
    pub(super) fn released(&mut self, now: Timestamp, order: OrderKey) {
        if let Some(parked) = self.parked.get_mut(&order) {
            parked.held = false;
            self.timers.insert((now, Timer::Parked(order)));
        }
    }
}

fn parked_orders(shelf: &[ShelfChange]) -> impl Iterator<Item = OrderKey> {
    shelf.iter().filter_map(|change| match change {
        ShelfChange::Put(row) if row.state == ShelfState::Parked => row.order,
        ShelfChange::Put(_) | ShelfChange::Remove(..) => None,
    })
}

fn shelf_row<T>(
    pending: &Pending<T>,
    state: ShelfState,
    cause: Option<DeadCause>,
    detail: Box<str>,
    holds: bool,
) -> ShelfRow {
    let item = &pending.item;
    ShelfRow {
        offset: item.offset,
        route: item.route.clone(),
        event: item.event,
        order: item.order,
        state,
        cause,
        detail,
        attempts: pending.attempts,
        first_at: pending.first_at,
        last_at: pending.last_at,
        holds,
    }
}
