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
    config::settings::OnDead,
    core::lane::{Effect as LaneEffect, Input as LaneInput, Item, Lane, LaneConfig, Settling, Status},
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
    /// The last row that was read.
    after: Option<RowKey>,
    /// The rows that are in hand, by their numbers in the lane.
    in_hand: BTreeMap<Offset, ShelfRow>,
    /// The settlement on its way.
    settling: Option<Arc<Settling>>,
    /// The number that the next row gets, and the one after the last.
    next: Offset,
    end: Offset,
    /// Whether the last row was read.
    read_all: bool,
    started: bool,
    cancelled: bool,
    done: bool,
    effects: Vec<LaneEffect<T>>,
}

impl<T: Clone> Replay<T> {
    /// Takes a job up, or up again, with so many rows left on the shelf. The outlet counts as down until it says
    /// otherwise.
    #[must_use]
    pub fn new(job: ReplayJob, config: LaneConfig, record: &LaneRecord, left: u64) -> Self {
        let beyond: u32 = record.progress.beyond.iter().map(|word| word.count_ones()).sum();
        let ended = record.progress.watermark.max(1) + u64::from(beyond);
        let progress = Progress { watermark: ended, ..Progress::default() };
        let record = LaneRecord { progress, parked: Vec::new(), ..record.clone() };
        Self {
            job,
            lane: Lane::new(LaneConfig { shelf: false, receipts: true, ..config }, &record),
            after: None,
            in_hand: BTreeMap::new(),
            settling: None,
            next: ended,
            end: ended + left,
            read_all: left == 0,
            started: false,
            cancelled: false,
            done: false,
            effects: Vec::new(),
        }
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
            Input::Tick => LaneInput::Tick,
        };
        let mut effects = std::mem::take(&mut self.effects);
        if !std::mem::replace(&mut self.started, true) {
            self.lane.step(now, LaneInput::Grown(self.end), &mut effects);
        }
        self.lane.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                LaneEffect::Read { .. } if self.read_all => {}
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
        self.effects = effects;
        if !self.done && self.is_over() {
            self.done = true;
            out.push(Effect::Done);
        }
    }

    /// Whether nothing is left to do: nothing is out, everything that ended is durable, and either all has ended or the
    /// job was cancelled.
    fn is_over(&self) -> bool {
        let status = self.lane.status();
        let all = self.read_all && status.buffered == 0;
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
mod tests {
    use super::{Effect, Input, Replay, discard, give_back, take};
    use crate::{
        config::settings::Retry,
        core::lane::LaneConfig,
        destinations::{Outcome, OutletState},
        domain::{
            DeadCause, EventId, Failure, FailureKind, Incarnation, OrderKey, Partition, Position, ReplayJob, RouteName,
            Timestamp,
        },
        journal::{LaneName, LaneRecord, Progress, ShelfChange, ShelfRow, ShelfState},
    };
    use std::time::Duration;

    const JOB: ReplayJob = ReplayJob(7);
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn row(offset: u64, state: ShelfState, holds: bool) -> ShelfRow {
        let position = Position { partition: Partition(0), offset };
        ShelfRow {
            offset,
            route: Some(RouteName::parse("leads").unwrap()),
            event: EventId { received_at: NOW, position, incarnation: Incarnation(1) },
            order: Some(OrderKey(offset)),
            state,
            cause: Some(DeadCause::Unroutable),
            detail: "nobody is bound".into(),
            attempts: 5,
            first_at: NOW,
            last_at: NOW,
            holds,
        }
    }

    fn mine(offset: u64, holds: bool) -> (ShelfRow, &'static str) {
        (row(offset, ShelfState::Replaying(JOB), holds), "payload")
    }

    fn replay(progress: Progress, left: u64) -> Replay<&'static str> {
        let config = LaneConfig {
            window: 10,
            read_ahead: 20,
            retry: Retry::default(),
            rate: None,
            receipts: true,
            shelf: true,
            common_cause: true,
            settle_every: Duration::ZERO,
            seed: 1,
        };
        let lane = LaneName::Replay(JOB);
        let record =
            LaneRecord { lane, partition: Partition(0), kind: "".into(), progress, parked: vec![], paused: false };
        Replay::new(JOB, config, &record, left)
    }

    fn step(replay: &mut Replay<&'static str>, input: Input<&'static str>) -> Vec<Effect<&'static str>> {
        let mut effects = Vec::new();
        replay.step(NOW, input, &mut effects);
        effects
    }

    #[test]
    fn of_two_jobs_only_one_gets_a_dead_letter() {
        let shelf = [
            row(1, ShelfState::Dead, false),
            row(2, ShelfState::Parked, false),
            row(3, ShelfState::Replaying(ReplayJob(8)), false),
        ];
        let taken = take(JOB, &shelf);
        assert_eq!(taken, [ShelfChange::Put(row(1, ShelfState::Replaying(JOB), false))]);
        assert_eq!(give_back(JOB, &[row(1, ShelfState::Replaying(JOB), true)]).len(), 1);
        assert!(give_back(JOB, &shelf).is_empty(), "what others have is not given back");
        let (removed, released) = discard(&[row(1, ShelfState::Dead, true), shelf[2].clone()]);
        assert_eq!((removed.len(), released.as_slice()), (1, [OrderKey(1)].as_slice()));
    }

    #[test]
    fn what_is_delivered_leaves_the_shelf_and_what_dies_again_is_a_dead_letter_again() {
        let mut replay = replay(Progress::default(), 2);
        step(&mut replay, Input::Outlet(OutletState::Up));
        let out = step(&mut replay, Input::Rows(vec![mine(4, true), mine(9, false)]));
        let published = out.iter().filter(|effect| matches!(effect, Effect::Publish { .. })).count();
        assert_eq!(published, 2);
        let failure = Failure { kind: FailureKind::Rejected(DeadCause::TooLarge), detail: "too large".into() };
        let ends = vec![(0, Outcome::Taken { answer: "ack".into() }), (1, Outcome::Failed(failure))];
        let out = step(&mut replay, Input::Outcomes(ends));
        let [Effect::Settle(settling)] = out.as_slice() else { panic!("{out:?}") };
        assert_eq!(settling.released, [OrderKey(4)]);
        assert_eq!(settling.progress.watermark, 3);
        let [ShelfChange::Remove(4, Some(_)), ShelfChange::Put(dead)] = settling.shelf.as_slice() else {
            panic!("{:?}", settling.shelf)
        };
        let expected = (9, ShelfState::Dead, Some(DeadCause::TooLarge), 6);
        assert_eq!((dead.offset, dead.state, dead.cause, dead.attempts), expected);
        let out = step(&mut replay, Input::Settled);
        assert!(matches!(out.as_slice(), [Effect::Done]), "{out:?}");
    }

    #[test]
    fn a_restart_counts_on_and_publishes_what_is_left() {
        let mut replay = replay(Progress { watermark: 3, beyond: vec![0b110], ..Progress::default() }, 1);
        let out = step(&mut replay, Input::Outlet(OutletState::Up));
        assert!(matches!(out.as_slice(), [Effect::Read { after: None, .. }]), "{out:?}");
        step(&mut replay, Input::Rows(vec![mine(9, false)]));
        let out = step(&mut replay, Input::Outcomes(vec![(0, Outcome::Taken { answer: "ack".into() })]));
        assert!(matches!(out.as_slice(), [Effect::Settle(settling)] if settling.progress.watermark == 6), "{out:?}");
    }

    #[test]
    fn a_cancelled_job_waits_for_what_is_out_and_for_nothing_else() {
        let mut replay = replay(Progress::default(), 30);
        step(&mut replay, Input::Outlet(OutletState::Up));
        step(&mut replay, Input::Rows((1..=20).map(|offset| mine(offset, false)).collect()));
        assert_eq!(replay.status().in_flight, 10);
        let out = step(&mut replay, Input::Cancel);
        assert!(!out.iter().any(|effect| matches!(effect, Effect::Done)));
        let unknown = |ticket| (ticket, Outcome::Failed(Failure { kind: FailureKind::Unknown, detail: "gone".into() }));
        let out = step(&mut replay, Input::Outcomes((0..10).map(unknown).collect()));
        assert!(matches!(out.as_slice(), [Effect::Done]), "{out:?}");
    }
}
