//! The lane's step: inputs in, effects out.

use crate::{
    config::settings::Retry,
    core::{
        lane::{
            COMMON_CAUSE_KEYS, Carried, Effect, HELD_BYTES_MAX, Input, Item, LaneConfig, LaneState, Marks,
            PARKED_KEYS_MAX, SPAN_MAX, Settling, Status, TOLD_PARKED_KEYS_MAX,
            keys::{ByKey, Pending, Queue, Stage, mix, own_key},
            outcomes::CommonCause,
            parked::{OffShelf, Parked},
        },
        retry,
    },
    destinations::OutletState,
    domain::{DeadCause, FailureKind, Offset, OrderKey, StopReason, Timestamp},
    journal::LaneRecord,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

/// The pause before the store is asked again after it could not read or write.
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// What an outlet's state says before the outlet has said anything.
pub const NOT_YET: &str = "not connected yet";

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The first delivery of a key is to be tried again.
    Key(OrderKey),
    /// A parked key is to be tried again.
    Parked(OrderKey),
}

/// A lane: see the [module](super).
#[derive(Debug)]
pub struct Lane<T> {
    pub(super) config: LaneConfig,
    pub(super) marks: Marks,
    pub(super) keys: ByKey<Queue<T>>,
    /// Keys whose first delivery may go out, each once.
    pub(super) ready: VecDeque<OrderKey>,
    /// Keys whose first delivery waits for its next try, by its row.
    pub(super) waiting: BTreeSet<(Offset, OrderKey)>,
    pub(super) timers: BTreeSet<(Timestamp, Timer)>,
    /// The keys of tries that are out, by ticket minus `first_ticket`.
    pub(super) flights: VecDeque<Option<OrderKey>>,
    pub(super) first_ticket: u64,
    pub(super) in_flight: usize,
    /// Deliveries in memory, and what they weigh.
    pub(super) buffered: usize,
    pub(super) held: usize,
    /// Rows asked for from the shelf that did not come yet.
    pub(super) loading: usize,
    pub(super) parked: BTreeMap<OrderKey, Parked>,
    pub(super) pending: Settling,
    /// Deliveries that ended in `pending`, or in the settlement that is on its way.
    pub(super) unsettled: (usize, usize),
    /// Shelf rows that `pending`, or the settlement that is on its way, takes off the lane's hands, with their keys.
    pub(super) off_shelf: (OffShelf, OffShelf),
    /// The settlement that is on its way, kept until it is durable.
    pub(super) settling: Option<Arc<Settling>>,
    pub(super) settle_again_at: Option<Timestamp>,
    pub(super) settled_at: Timestamp,
    pub(super) settled_watermark: Offset,
    head: Offset,
    reading: bool,
    pub(super) read_again_at: Option<Timestamp>,
    pub(super) outlet: OutletState,
    pub(super) common: Option<CommonCause>,
    /// Keys that failed since the last success, and the cause they share.
    pub(super) failing: (Option<FailureKind>, BTreeSet<OrderKey>),
    pub(super) paused: bool,
    /// How long the lane stood still for a common cause, in all, before `common`.
    pub(super) stood: Duration,
    /// When the rate lets the next delivery go.
    pub(super) rate_at_micros: i64,
    retried: u64,
    /// The time of the last step.
    pub(super) clock: Timestamp,
    /// The router's: the last ROUTED row that the marks reflect.
    pub(super) reflects: Offset,
}

impl<T: Carried> Lane<T> {
    /// Takes up where the stored record left off. The outlet counts as down until it says otherwise.
    #[must_use]
    pub fn new(config: LaneConfig, record: &LaneRecord) -> Self {
        let marks = Marks::restore(&record.progress);
        let mut lane = Self {
            config,
            keys: ByKey::default(),
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            timers: BTreeSet::new(),
            flights: VecDeque::new(),
            first_ticket: 0,
            in_flight: 0,
            buffered: 0,
            held: 0,
            loading: 0,
            parked: BTreeMap::new(),
            pending: Settling::default(),
            unsettled: (0, 0),
            off_shelf: Default::default(),
            settling: None,
            settle_again_at: None,
            settled_at: Timestamp::EPOCH,
            settled_watermark: marks.watermark(),
            head: marks.cursor(),
            marks,
            reading: false,
            read_again_at: None,
            outlet: OutletState::Stopped(StopReason::Down, NOT_YET.into()),
            common: None,
            failing: (None, BTreeSet::new()),
            paused: record.paused,
            stood: Duration::ZERO,
            rate_at_micros: 0,
            retried: 0,
            clock: Timestamp::EPOCH,
            reflects: record.progress.reflects,
        };
        for key in &record.parked {
            lane.parked.insert(key.order, Parked { rows: key.rows, held: key.held, ..Parked::default() });
            if !key.held {
                lane.timers.insert((Timestamp::EPOCH, Timer::Parked(key.order)));
            }
        }
        lane
    }

    /// Marks a row that is settled by what stands elsewhere: an event whose decision is in ROUTED. Before the first step.
    pub fn settled_before(&mut self, offset: Offset) {
        self.marks.settled_before(offset);
    }

    /// The outlet of a lane whose outlet is always there.
    #[must_use]
    pub fn always_up(mut self) -> Self {
        self.outlet = OutletState::Up;
        self
    }

    /// Notes the last ROUTED row whose event is settled, or is settled by the next step.
    pub fn reflect(&mut self, routed: Offset) {
        self.reflects = self.reflects.max(routed);
    }

    /// Takes an input at a time and appends what follows from it to `effects`.
    pub fn step(&mut self, now: Timestamp, input: Input<T>, effects: &mut Vec<Effect<T>>) {
        self.set_clock(now);
        match input {
            Input::Grown(head) => self.head = self.head.max(head),
            Input::Page { next, items } => self.page(now, next, items),
            Input::ReadFailed => {
                self.reading = false;
                self.read_again_at = Some(now.plus(STORE_PAUSE));
            }
            Input::Outcomes(outcomes) => {
                for (ticket, outcome) in outcomes {
                    self.outcome(now, ticket, outcome);
                }
            }
            Input::Park(ticket, detail) => self.park_try(now, ticket, detail),
            Input::Outlet(state) => self.outlet = state,
            Input::OutletGone => self.outlet_gone(now),
            Input::Settled => self.settled(),
            Input::SettleFailed => self.settle_again_at = Some(now.plus(STORE_PAUSE)),
            Input::Shelf { order, items } => self.shelf_loaded(now, order, items),
            Input::Released(order) => self.released(now, order),
            Input::Pause(paused) => self.pause(now, paused),
            Input::Configure(config) => self.configure(now, config),
            Input::Tick => {}
        }
        self.run_timers(now, effects);
        self.pump(now, effects);
        self.park_the_blocker(now);
        self.read_on(now, effects);
        self.settle(now, effects);
    }

    /// When [`Input::Tick`] is wanted at the latest, if nothing else comes.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let may_go_out = !self.paused && self.outlet == OutletState::Up;
        let timer = self.timers.first().map(|(at, _)| *at).filter(|_| may_go_out && self.common.is_none());
        let probe = self.common.as_ref().map(|common| common.probe_at).filter(|_| may_go_out && self.in_flight == 0);
        let waits_for_rate = self.config.rate.is_some() && !self.ready.is_empty() && self.has_room();
        let rate = (waits_for_rate && may_go_out && self.common.is_none())
            .then(|| Timestamp::from_millis(self.rate_at_micros / 1_000 + 1));
        [timer, probe, rate, self.read_again_at, self.settle_at()].into_iter().flatten().min()
    }

    fn pause(&mut self, now: Timestamp, paused: bool) {
        self.paused = paused;
        if !paused {
            // Whoever lets it go on has looked at the cause.
            self.end_common_cause(now);
        }
    }

    /// What is to be seen of it.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            state: self.state(),
            watermark: self.marks.watermark(),
            in_flight: self.in_flight,
            buffered: self.buffered,
            parked_keys: self.parked.len(),
            retried: self.retried,
        }
    }

    fn state(&self) -> LaneState {
        if self.paused {
            return LaneState::Paused;
        }
        if let OutletState::Stopped(reason, detail) = &self.outlet {
            return LaneState::Stopped(*reason, detail.clone());
        }
        if let Some(common) = &self.common {
            let detail = format!("{COMMON_CAUSE_KEYS} keys failed alike: {}", common.detail);
            return LaneState::Stopped(StopReason::Misconfigured, detail.into());
        }
        if self.too_many_parked() {
            let detail = format!("more than {} keys are parked", self.parked_keys_max());
            return LaneState::Stopped(StopReason::Misconfigured, detail.into());
        }
        LaneState::Up
    }

    /// Then nothing new is read; what is parked goes on, for that is the way out.
    fn too_many_parked(&self) -> bool {
        self.parked.len() > self.parked_keys_max()
    }

    fn parked_keys_max(&self) -> usize {
        if self.config.shelf { PARKED_KEYS_MAX } else { TOLD_PARKED_KEYS_MAX }
    }

    /// Whether there is more to read, and no room for it until something that is held has ended.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let room = self.room();
        self.marks.cursor() < self.head && self.ready.is_empty() && (room == 0 || room < self.config.read_ahead / 4)
    }

    /// How many deliveries may be read.
    fn room(&self) -> usize {
        let held = self.held + self.loading;
        self.config.read_ahead.saturating_sub(held).min(SPAN_MAX - self.marks.span().min(SPAN_MAX))
    }

    /// Lets failures be tried again by other rules from now on.
    pub fn retry_by(&mut self, retry: Retry) {
        self.config.retry = retry;
    }

    /// Whether nothing may go out now, but for one probe of a lane that a common cause stopped.
    fn stands_still(&self, now: Timestamp) -> bool {
        if self.paused || self.outlet != OutletState::Up {
            return true;
        }
        self.common.as_ref().is_some_and(|common| now < common.probe_at || self.in_flight > 0)
    }

    fn page(&mut self, now: Timestamp, next: Offset, items: Vec<Item<T>>) {
        self.reading = false;
        let mut wanted = Vec::with_capacity(items.len());
        let mut deliveries: Vec<(Offset, u16)> = Vec::with_capacity(items.len());
        for item in items {
            if !self.marks.wants(item.offset, item.route.as_ref()) {
                continue;
            }
            match deliveries.last_mut() {
                Some((row, count)) if *row == item.offset => *count += 1,
                _ => deliveries.push((item.offset, 1)),
            }
            wanted.push(item);
        }
        self.marks.enter(next.max(self.marks.cursor()), &deliveries);
        let mut sibling = (0, 0);
        for mut item in wanted {
            sibling = if sibling.0 == item.offset { (item.offset, sibling.1 + 1) } else { (item.offset, 0) };
            let order = *item.order.get_or_insert_with(|| own_key(item.offset, sibling.1));
            if self.parked.contains_key(&order) {
                self.put_aside(now, Pending::new(item, false));
            } else {
                self.enqueue(order, Pending::new(item, false));
            }
        }
    }

    /// Adds a delivery behind the others of its key.
    pub(super) fn enqueue(&mut self, order: OrderKey, mut pending: Pending<T>) {
        let weight = (pending.item.payload.bytes() * self.config.read_ahead / HELD_BYTES_MAX).max(1);
        pending.weight = weight;
        self.buffered += 1;
        self.held += weight;
        if let Some(queue) = self.keys.get_mut(&order) {
            queue.weight += weight;
            queue.rest.push_back(pending);
            // A key that fills the buffer would keep all others from being read: its later deliveries go by the shelf.
            let spills = self.config.shelf && queue.weight > self.config.read_ahead / 4;
            if spills && !self.parked.contains_key(&order) {
                self.parked.insert(order, Parked::default());
            }
            return;
        }
        self.keys.insert(order, Queue { stage: Stage::Ready, first: pending, rest: VecDeque::new(), weight });
        self.ready.push_back(order);
    }

    /// Takes away a key's first delivery, and makes the next one ready.
    pub(super) fn drop_first(&mut self, now: Timestamp, order: OrderKey) -> Option<Pending<T>> {
        let queue = self.keys.get_mut(&order)?;
        let weight = queue.first.weight;
        if let Some(next) = queue.rest.pop_front() {
            let first = std::mem::replace(&mut queue.first, next);
            queue.stage = Stage::Ready;
            queue.weight -= weight;
            self.ready.push_back(order);
            self.let_go(1, weight);
            return Some(first);
        }
        let queue = self.keys.remove(&order)?;
        self.let_go(1, weight);
        self.key_is_empty(now, order);
        Some(queue.first)
    }

    /// So many deliveries, which weigh so much, are not in memory any more.
    pub(super) fn let_go(&mut self, deliveries: usize, weight: usize) {
        self.buffered -= deliveries;
        self.held -= weight;
    }

    fn has_room(&self) -> bool {
        let receipts = if self.config.receipts { self.unsettled.0 + self.unsettled.1 } else { 0 };
        self.in_flight + receipts < self.config.window
    }

    fn pump(&mut self, now: Timestamp, effects: &mut Vec<Effect<T>>) {
        if self.stands_still(now) {
            return;
        }
        while self.has_room() && self.rate_allows(now) {
            let Some(order) = self.ready.pop_front() else { break };
            let Some(queue) = self.keys.get_mut(&order).filter(|queue| queue.stage == Stage::Ready) else { continue };
            if now.since(queue.first.item.received_at) >= self.config.retry.max_age {
                self.bury(now, order, DeadCause::Expired, "older than `retry.max_age`".into());
                continue;
            }
            queue.stage = Stage::Out;
            queue.first.attempts += 1;
            queue.first.last_at = now;
            if queue.first.attempts == 1 {
                queue.first.first_at = now;
            } else {
                self.retried += 1;
            }
            let ticket = self.first_ticket + self.flights.len() as u64;
            let (payload, number) = (queue.first.item.payload.clone(), queue.first.attempts);
            effects.push(Effect::Publish { ticket, payload, number });
            self.flights.push_back(Some(order));
            self.in_flight += 1;
            if let Some(common) = &mut self.common {
                common.probes = common.probes.saturating_add(1);
                let jitter = u32::try_from(mix(self.config.seed ^ ticket) >> 32).unwrap_or(u32::MAX);
                common.probe_at = now.plus(retry::pause(common.probes, &self.config.retry, jitter));
                break;
            }
        }
    }

    fn run_timers(&mut self, now: Timestamp, effects: &mut Vec<Effect<T>>) {
        // While the lane stands still its keys wait with it.
        if self.stands_still(now) {
            return;
        }
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Key(order) => {
                    let Some(queue) = self.keys.get_mut(&order) else { continue };
                    if matches!(queue.stage, Stage::Waiting(_)) {
                        self.waiting.remove(&(queue.first.item.offset, order));
                        queue.stage = Stage::Ready;
                        self.ready.push_back(order);
                    }
                }
                Timer::Parked(order) => self.load_parked(now, order, effects),
            }
        }
    }

    /// When nothing more can be read because keys wait, the one that waits longest goes to the shelf.
    fn park_the_blocker(&mut self, now: Timestamp) {
        if !self.config.shelf || !self.is_stuck() || !matches!(self.state(), LaneState::Up) {
            return;
        }
        let Some((_, order)) = self.waiting.first().copied() else { return };
        self.park(now, order);
    }

    fn read_on(&mut self, now: Timestamp, effects: &mut Vec<Effect<T>>) {
        if self.read_again_at.is_some_and(|at| at > now) || self.reading {
            return;
        }
        self.read_again_at = None;
        let (held, room) = (self.held + self.loading, self.room());
        // Small pages cost as much as large ones: wait for a quarter of the buffer, unless it is empty.
        if self.too_many_parked()
            || self.marks.cursor() >= self.head
            || room == 0
            || (held > 0 && room < self.config.read_ahead / 4)
        {
            return;
        }
        self.reading = true;
        effects.push(Effect::Read { from: self.marks.cursor(), rows: room });
    }

    pub(super) fn stop_waiting(&mut self, order: OrderKey) {
        let Some(queue) = self.keys.get(&order) else { return };
        if let Stage::Waiting(at) = queue.stage {
            self.waiting.remove(&(queue.first.item.offset, order));
            self.timers.remove(&(at, Timer::Key(order)));
        }
        self.ready.retain(|ready| *ready != order);
    }
}
