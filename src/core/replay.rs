//! A replay of dead letters: takes them from the shelf, publishes them again, and puts back those that die again.
//!
//! A job works on the shelf of one destination's lane in one partition. Taking is one settlement that marks the rows
//! [`ShelfState::Replaying`] ([`take`]); a row that another job has, or that is gone, is skipped, so that no dead letter is
//! published by two jobs. From then on the shelf itself says what is left of the job: a row leaves it when it was
//! delivered, and is a dead letter again when it was not. So a restart reads the rows that are still marked, and a crash
//! repeats at most the lane's window.
//!
//! Publishing is a [`Lane`] of its own over that selection, one of a key at a time, with its own outlet and rate. Its rows
//! are numbered as they are read; its progress counts deliveries that ended, over restarts.
//!
//! What it does not do: find the rows, keep the job's filter, or touch parked rows. Order is promised to nobody here.

use crate::{
    config::settings::{OnDead, Rate},
    core::lane::{Carried, Effect as LaneEffect, Input as LaneInput, Item, Lane, LaneConfig, Settling, Status},
    destinations::{Outcome, OutletState},
    domain::{Offset, OrderKey, ReplayJob, RouteName, Timestamp},
    journal::{Ending, LaneRecord, Progress, Receipt, ShelfChange, ShelfRow, ShelfState},
};
use std::{collections::BTreeMap, sync::Arc};

/// What identifies a row on the shelf.
pub type RowKey = (Offset, Option<RouteName>);

/// Marks rows as a job's own. Rows that are not dead letters, or not any more, are left alone.
#[must_use]
pub fn take(job: ReplayJob, rows: &[ShelfRow]) -> Vec<ShelfChange> {
    let dead = rows.iter().filter(|row| row.state == ShelfState::Dead);
    dead.map(|row| ShelfChange::Put(ShelfRow { state: ShelfState::Replaying(job), ..row.clone() })).collect()
}

/// Makes what a job still has dead letters again.
#[must_use]
pub fn give_back(job: ReplayJob, rows: &[ShelfRow]) -> Vec<ShelfChange> {
    let mine = rows.iter().filter(|row| row.state == ShelfState::Replaying(job));
    mine.map(|row| ShelfChange::Put(ShelfRow { state: ShelfState::Dead, ..row.clone() })).collect()
}

/// Takes dead letters off the shelf for good; those that a replay has stay. With the keys that were held by them.
#[must_use]
pub fn discard(rows: &[ShelfRow]) -> (Vec<ShelfChange>, Vec<OrderKey>) {
    let dead: Vec<_> = rows.iter().filter(|row| row.state == ShelfState::Dead).collect();
    let removed = dead.iter().map(|row| ShelfChange::Remove(row.offset, row.route.clone())).collect();
    (removed, dead.iter().filter(|row| row.holds).filter_map(|row| row.order).collect())
}

/// What a replay is told.
#[derive(Debug, Clone)]
pub enum Input<T> {
    /// The job's rows asked for by [`Effect::Read`], in order, each with what its outlet gets. None: there are no more.
    Rows(Vec<(ShelfRow, T)>),
    /// Reading failed; it is asked for again after a pause.
    ReadFailed,
    /// Ends of tries, by ticket.
    Outcomes(Vec<(u64, Outcome)>),
    /// The outlet's state.
    Outlet(OutletState),
    /// The outlet ended: what was out will not be answered.
    OutletGone,
    /// The settlement asked for last is durable.
    Settled,
    /// It is not, for want of room.
    SettleFailed,
    /// An operator stops it for a while, or lets it go on.
    Pause(bool),
    /// An operator ends it: what is out is waited for, the rest is given back.
    Cancel,
    /// The selection has brought more rows, all of them durable; and whether it is at its end.
    Fed {
        /// So many.
        more: u64,
        /// Whether no more will come.
        complete: bool,
    },
    /// Deliveries at most per time, from now on.
    Rate(Option<Rate>),
    /// Time has come.
    Tick,
}

/// What a replay asks for.
#[derive(Debug, Clone)]
pub enum Effect<T> {
    /// Read the job's rows after this one, in order; one [`Input::Rows`] or [`Input::ReadFailed`] comes back.
    Read {
        /// The last row that was read; `None`: from the first on.
        after: Option<RowKey>,
        /// At most so many.
        rows: usize,
    },
    /// Try a delivery; one outcome for the ticket comes back.
    Publish {
        /// Names the try.
        ticket: u64,
        /// What to publish.
        payload: T,
        /// Which try it is, from 1, since the job was taken up.
        number: u32,
    },
    /// Make this durable in one transaction.
    Settle(Arc<ReplaySettling>),
    /// The job is over. First what it still has is to be [given back](give_back); then its lane may be forgotten.
    Done,
}

/// What a replay makes durable at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplaySettling {
    /// Where the replay's own lane stands: how many deliveries have ended.
    pub progress: Progress,
    /// What ended, under the replay's own lane.
    pub receipts: Vec<Receipt>,
    /// What becomes of the rows on the shelf of the destination's lane.
    pub shelf: Vec<ShelfChange>,
    /// Keys that this lets go: the destination's lane is told so when it is durable.
    pub released: Vec<OrderKey>,
}

/// One job at work: see the [module](self).
#[derive(Debug)]
pub struct Replay<T> {
    job: ReplayJob,
    lane: Lane<T>,
    config: LaneConfig,
    /// The last row that was read.
    after: Option<RowKey>,
    /// The rows that are in hand, by their numbers in the lane.
    in_hand: BTreeMap<Offset, ShelfRow>,
    /// The settlement on its way.
    settling: Option<Arc<Settling>>,
    /// The number that the next row gets, and the one after the last.
    next: Offset,
    end: Offset,
    /// Whether the last row was read, as far as it is known.
    read_all: bool,
    /// Whether the lane waits for a page that there was nothing to read for.
    unread: bool,
    /// Whether the selection is at its end.
    complete: bool,
    started: bool,
    cancelled: bool,
    done: bool,
    effects: Vec<LaneEffect<T>>,
}

impl<T: Carried> Replay<T> {
    /// Takes a job up, or up again, with so many rows left on the shelf. The outlet counts as down until it says
    /// otherwise.
    #[must_use]
    pub fn new(job: ReplayJob, config: LaneConfig, record: &LaneRecord, left: u64) -> Self {
        let beyond: u32 = record.progress.beyond.iter().map(|word| word.count_ones()).sum();
        let ended = record.progress.watermark.max(1) + u64::from(beyond);
        let progress = Progress { watermark: ended, ..Progress::default() };
        let record = LaneRecord { progress, parked: Vec::new(), ..record.clone() };
        let config = LaneConfig { shelf: false, receipts: true, ..config };
        Self {
            job,
            lane: Lane::new(config.clone(), &record),
            config,
            after: None,
            in_hand: BTreeMap::new(),
            settling: None,
            next: ended,
            end: ended + left,
            read_all: left == 0,
            unread: false,
            complete: true,
            started: false,
            cancelled: false,
            done: false,
            effects: Vec::new(),
        }
    }

    /// Lets the selection bring more rows: the job is not over before [`Input::Fed`] says that it is complete.
    #[must_use]
    pub fn to_be_fed(mut self) -> Self {
        self.complete = false;
        self
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> ReplayJob {
        self.job
    }

    /// What is to be seen of it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.lane.status()
    }

    /// When [`Input::Tick`] is wanted at the latest.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.lane.wake_at()
    }

    /// Whether everything that ended is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lane.is_settled()
    }

    /// Asks for everything to be settled at once: before the process stops.
    pub fn settle_now(&mut self, now: Timestamp, out: &mut Vec<Effect<T>>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.lane.settle_now(now, &mut effects);
        self.translate(&mut effects, out);
        self.effects = effects;
    }

    /// Takes an input at a time and appends what follows from it to `out`.
    pub fn step(&mut self, now: Timestamp, input: Input<T>, out: &mut Vec<Effect<T>>) {
        let input = match input {
            Input::Rows(rows) => self.rows(now, rows),
            Input::ReadFailed => LaneInput::ReadFailed,
            Input::Outcomes(outcomes) => LaneInput::Outcomes(outcomes),
            Input::Outlet(state) => LaneInput::Outlet(state),
            Input::OutletGone => LaneInput::OutletGone,
            Input::Settled => {
                self.settled();
                LaneInput::Settled
            }
            Input::SettleFailed => LaneInput::SettleFailed,
            Input::Pause(paused) => LaneInput::Pause(paused || self.cancelled),
            Input::Cancel => {
                self.cancelled = true;
                LaneInput::Pause(true)
            }
            Input::Fed { more, complete } => {
                self.end += more;
                self.complete |= complete;
                self.read_all &= more == 0;
                LaneInput::Grown(self.end)
            }
            Input::Rate(rate) => {
                self.config.rate = rate;
                LaneInput::Configure(self.config.clone())
            }
            Input::Tick => LaneInput::Tick,
        };
        let mut effects = std::mem::take(&mut self.effects);
        if !self.read_all && std::mem::take(&mut self.unread) {
            self.lane.step(now, LaneInput::ReadFailed, &mut effects);
        }
        if !std::mem::replace(&mut self.started, true) {
            self.lane.step(now, LaneInput::Grown(self.end), &mut effects);
        }
        self.lane.step(now, input, &mut effects);
        self.translate(&mut effects, out);
        self.effects = effects;
        if !self.done && self.is_over() {
            self.done = true;
            out.push(Effect::Done);
        }
    }

    /// What the lane asks for, in terms of the shelf.
    fn translate(&mut self, effects: &mut Vec<LaneEffect<T>>, out: &mut Vec<Effect<T>>) {
        for effect in effects.drain(..) {
            match effect {
                LaneEffect::Read { .. } if self.read_all => self.unread = true,
                LaneEffect::Read { rows, .. } => out.push(Effect::Read { after: self.after.clone(), rows }),
                LaneEffect::Publish { ticket, payload, number } => {
                    out.push(Effect::Publish { ticket, payload, number });
                }
                LaneEffect::Settle(settling) => {
                    out.push(Effect::Settle(Arc::new(self.translated(&settling))));
                    self.settling = Some(settling);
                }
                // Nothing of a replay is parked.
                LaneEffect::LoadShelf { .. } => {}
            }
        }
    }

    /// Whether nothing is left to do: nothing is out, everything that ended is durable, and either all has ended or the
    /// job was cancelled.
    fn is_over(&self) -> bool {
        let status = self.lane.status();
        let all = self.complete && self.read_all && status.buffered == 0;
        status.in_flight == 0 && self.lane.is_settled() && (all || self.cancelled)
    }

    fn rows(&mut self, now: Timestamp, rows: Vec<(ShelfRow, T)>) -> LaneInput<T> {
        let none = rows.is_empty();
        let mut items = Vec::with_capacity(rows.len());
        for (row, payload) in rows {
            self.after = Some((row.offset, row.route.clone()));
            items.push(Item {
                offset: self.next,
                route: row.route.clone(),
                event: row.event,
                order: row.order,
                // It is old; what counts here is how long the replay tries.
                received_at: now,
                on_dead: OnDead::Continue,
                payload,
            });
            self.in_hand.insert(self.next, row);
            self.next += 1;
        }
        self.read_all |= none || self.next >= self.end;
        LaneInput::Page { next: self.next, items }
    }

    /// What ended is durable: its rows are not needed any more.
    fn settled(&mut self) {
        let Some(settling) = self.settling.take() else { return };
        for receipt in &settling.receipts {
            self.in_hand.remove(&receipt.offset);
        }
        for change in &settling.shelf {
            if let ShelfChange::Put(row) = change {
                self.in_hand.remove(&row.offset);
            }
        }
    }

    /// What the lane settles, in terms of the shelf that the rows lie on. The same settlement may be asked for again.
    fn translated(&self, settling: &Settling) -> ReplaySettling {
        let mut out = ReplaySettling { progress: settling.progress.clone(), ..ReplaySettling::default() };
        for receipt in &settling.receipts {
            let Some(row) = self.in_hand.get(&receipt.offset) else { continue };
            out.receipts.push(Receipt { offset: row.offset, ..receipt.clone() });
            if receipt.ending == Ending::Delivered {
                out.shelf.push(ShelfChange::Remove(row.offset, row.route.clone()));
                out.released.extend(row.order.filter(|_| row.holds));
            }
        }
        for change in &settling.shelf {
            let ShelfChange::Put(died) = change else { continue };
            let Some(row) = self.in_hand.get(&died.offset) else { continue };
            out.shelf.push(ShelfChange::Put(ShelfRow {
                state: ShelfState::Dead,
                cause: died.cause,
                detail: died.detail.clone(),
                attempts: row.attempts.saturating_add(died.attempts),
                last_at: died.last_at,
                ..row.clone()
            }));
        }
        out
    }
}

#[cfg(test)]
#[path = "replay_tests.rs"]
mod tests;
