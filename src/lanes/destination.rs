//! A destination's lane: reads ROUTED, hands tries to its outlet, receipts to the state keeper.
//!
//! The morgue, which lays what was dead on decision on the shelf, is the same task without an outlet. So is the lane of
//! a destination that is gone from `routes.yaml`: it keeps its shelf and its mark, and publishes nothing.

use crate::{
    core::lane::{Effect, Input, Lane, LaneConfig, LaneState, Settling},
    destinations::{Order, Outcome, Outlet, OutletState, Report},
    domain::{Attempt, DestinationName, OrderKey, Partition, StopReason, Timestamp},
    journal::{
        Ending, Heads, LaneName, LaneRecord, Log, Settlement, ShelfChange, ShelfRow, ShelfState, State, tail::Tail,
    },
    lanes::{
        keeper::{Keeper, Settled},
        lag::Lag,
        payload::{self, OnDeadOf, Part, Payload},
        reader,
        view::SharedView,
        vitals::Exported,
    },
    metrics::Metrics,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often the view is renewed while nothing else happens.
const LOOK: Duration = Duration::from_millis(200);
/// How long a stop waits for answers that are on their way, and then for the last settlement.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// Orders that wait for a lane at most.
pub const CONTROLS: usize = 64;

/// What an operator, or a reload, tells a lane.
#[derive(Debug)]
pub enum Control {
    /// Stop publishing, or go on.
    Pause(bool),
    /// Look at once whether the destination takes things again.
    Probe,
    /// Publish through this from now on; nothing: the destination is gone from `routes.yaml`.
    Replace(Option<Outlet>, LaneConfig),
    /// Behave like this from now on, over the same connection.
    Configure(LaneConfig),
    /// A dead letter that held this key is gone.
    Release(OrderKey),
}

type Coming = Pin<Box<dyn Future<Output = Input<Payload>> + Send>>;

/// Everything a destination's lane works with.
pub struct LaneTask<L: Log, S> {
    /// The lane's name in the state.
    pub name: LaneName,
    /// Its partition.
    pub partition: Partition,
    /// Which rows are its own.
    pub part: Part,
    /// Where it publishes; `None` for the morgue and for orphans.
    pub outlet: Option<Outlet>,
    /// How it behaves.
    pub config: LaneConfig,
    /// Where it stands.
    pub record: LaneRecord,
    /// What it reads.
    pub log: Arc<Tail<L>>,
    /// When there is more to read.
    pub heads: watch::Receiver<Heads>,
    /// Where its receipts go.
    pub keeper: Keeper<S>,
    /// Whether a route's dead letters hold their key.
    pub on_dead: OnDeadOf,
    /// What it is told.
    pub controls: mpsc::Receiver<Control>,
    /// What is to be seen of it.
    pub view: SharedView,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// A lane at work.
struct Running<L: Log, S> {
    task: LaneTask<L, S>,
    lane: Lane<Payload>,
    inputs: VecDeque<Input<Payload>>,
    coming: FuturesUnordered<Coming>,
    /// What is on its way to be durable: it counts when it is.
    settling: Option<Arc<Settling>>,
    lag: Lag,
    looked_at: Timestamp,
    retried: u64,
    /// When tries were handed over: the first ticket of each order that may have open ones.
    handed: VecDeque<(u64, Instant)>,
    vitals: Exported,
}

impl<L: Log + 'static, S: State + 'static> LaneTask<L, S> {
    /// Works until the token is cancelled; then waits a little for answers, and stores what it has.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut lane = Lane::new(self.config.clone(), &self.record);
        if matches!(self.part, Part::Dead) {
            lane = lane.always_up();
        }
        let head = self.heads.borrow_and_update().routed;
        let mut running = Running {
            lane,
            inputs: VecDeque::from([Input::Grown(head)]),
            coming: FuturesUnordered::new(),
            settling: None,
            lag: Lag::default(),
            looked_at: Timestamp::EPOCH,
            retried: 0,
            handed: VecDeque::new(),
            vitals: Exported::default(),
            task: self,
        };
        while !stop.is_cancelled() {
            running.step();
            running.wait(&stop).await;
        }
        running.finish().await;
    }
}

impl<L: Log + 'static, S: State + 'static> Running<L, S> {
    /// Steps the machine through all inputs and carries out what it asks for.
    fn step(&mut self) {
        let now = Timestamp::now();
        let mut effects = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            if matches!(input, Input::Settled)
                && let Some(settling) = self.settling.take()
            {
                self.count(&settling);
            }
            if let Input::Page { items, .. } = &input
                && let Some(first) = items.first()
            {
                self.lag.sample(first.offset, first.received_at.min(now));
            }
            self.lane.step(now, input, &mut effects);
            self.carry_out(now, &mut effects);
        }
        self.look(now);
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let now = Timestamp::now();
        let wait = self.lane.wake_at().map_or(LOOK, |at| at.since(now).min(LOOK));
        let outlet = &mut self.task.outlet;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            report = next_report(outlet) => self.report(report),
            Some(input) = self.coming.next() => self.inputs.push_back(input),
            Some(control) = self.task.controls.recv() => self.control(control),
            Ok(()) = self.task.heads.changed() => {
                let head = self.task.heads.borrow_and_update().routed;
                self.inputs.push_back(Input::Grown(head));
            }
            () = time::sleep(wait) => self.inputs.push_back(Input::Tick),
        }
    }

    fn report(&mut self, report: Option<Report>) {
        match report {
            Some(Report::Outcomes(outcomes)) => {
                self.time(&outcomes);
                self.inputs.push_back(Input::Outcomes(outcomes));
            }
            Some(Report::State { state, .. }) => self.inputs.push_back(Input::Outlet(state)),
            None => {
                self.task.outlet = None;
                self.inputs.push_back(Input::OutletGone);
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Pause(paused) => self.inputs.push_back(Input::Pause(paused)),
            Control::Probe => {
                if let Some(outlet) = &self.task.outlet {
                    // A full channel holds work already; the outlet will look when it comes to it.
                    let _ = outlet.orders.try_send(Order::Probe);
                }
            }
            Control::Replace(outlet, config) => {
                let orphaned = outlet.is_none();
                self.task.outlet = outlet;
                self.vitals = Exported::default();
                self.inputs.push_back(Input::OutletGone);
                self.inputs.push_back(Input::Configure(config));
                if orphaned {
                    let detail = "the destination is not in routes.yaml any more".into();
                    self.inputs.push_back(Input::Outlet(OutletState::Stopped(StopReason::Misconfigured, detail)));
                }
                self.task.view.orphan(orphaned);
            }
            Control::Configure(config) => self.inputs.push_back(Input::Configure(config)),
            Control::Release(order) => self.inputs.push_back(Input::Released(order)),
        }
    }

    fn carry_out(&mut self, now: Timestamp, effects: &mut Vec<Effect<Payload>>) {
        let mut attempts = Vec::new();
        let mut refused = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Publish { ticket, payload: Payload::Delivery(delivery), number } => {
                    attempts.push(Attempt { ticket, delivery, number, at: now });
                }
                Effect::Publish { ticket, payload: Payload::Dead(cause, detail), .. } => {
                    refused.push((ticket, payload::refused(cause, detail)));
                }
                Effect::Read { from, rows } => self.read(from, rows),
                Effect::Settle(settling) => self.settle(settling),
                Effect::LoadShelf { order, rows } => self.load(order, rows),
            }
        }
        if !refused.is_empty() {
            self.inputs.push_back(Input::Outcomes(refused));
        }
        self.hand_over(attempts);
    }

    fn hand_over(&mut self, attempts: Vec<Attempt>) {
        let Some(first) = attempts.first().map(|attempt| attempt.ticket) else { return };
        self.handed.push_back((first, Instant::now()));
        let Some(outlet) = &self.task.outlet else {
            self.inputs.push_back(Input::OutletGone);
            return;
        };
        // The channel holds an order for every place in the window: it is full only if the outlet is gone.
        if outlet.orders.try_send(Order::Publish(attempts)).is_err() {
            self.task.outlet = None;
            self.inputs.push_back(Input::OutletGone);
        }
    }

    fn read(&mut self, from: u64, rows: usize) {
        let (log, partition, wanted) = (Arc::clone(&self.task.log), self.task.partition, self.task.part.wanted());
        if let Some(page) = log.recent_routed(partition, from, &wanted, reader::limit(rows)) {
            let next = page.next;
            let items = self.task.part.items(partition, page, &self.task.on_dead);
            self.inputs.push_back(Input::Page { next, items });
            return;
        }
        let (part, on_dead) = (self.task.part.clone(), Arc::clone(&self.task.on_dead));
        self.coming.push(Box::pin(async move {
            match reader::routed(&log, partition, from, &wanted, rows).await {
                Ok(page) => Input::Page { next: page.next, items: part.items(partition, page, &on_dead) },
                Err(error) => {
                    tracing::error!(%error, "cannot read ROUTED, trying again");
                    Input::ReadFailed
                }
            }
        }));
    }

    fn settle(&mut self, settling: Arc<Settling>) {
        let settlement = Settlement {
            lane: self.task.name.clone(),
            partition: self.task.partition,
            progress: settling.progress.clone(),
            receipts: settling.receipts.clone(),
            shelf: settling.shelf.clone(),
        };
        self.settling = Some(settling);
        let ended = self.task.keeper.settle(settlement);
        self.coming.push(Box::pin(async move {
            match ended.await {
                Ok(Settled::Done) => Input::Settled,
                Ok(Settled::NoRoom) | Err(_) => Input::SettleFailed,
            }
        }));
    }

    fn load(&mut self, order: OrderKey, rows: usize) {
        let rows = self.task.keeper.load(self.task.name.clone(), self.task.partition, order, rows);
        let (part, log, partition) = (self.task.part.clone(), Arc::clone(&self.task.log), self.task.partition);
        let on_dead = Arc::clone(&self.task.on_dead);
        self.coming.push(Box::pin(async move {
            let rows = rows.await.ok().and_then(Result::ok).unwrap_or_default();
            Input::Shelf { order, items: part.shelved(&log, partition, rows, &on_dead).await }
        }));
    }

    fn destination(&self) -> Option<&DestinationName> {
        match &self.task.part {
            Part::Destination(name) => Some(name),
            Part::Dead => None,
        }
    }

    fn count(&self, settling: &Settling) {
        let delivered = settling.receipts.iter().filter(|receipt| receipt.ending == Ending::Delivered).count();
        if let Some(name) = self.destination() {
            self.task.metrics.delivered.get_or_create(&Metrics::of(name)).inc_by(delivered as u64);
        }
        for change in &settling.shelf {
            let ShelfChange::Put(ShelfRow {
                state: ShelfState::Dead, cause: Some(cause), route, detail, event, ..
            }) = change
            else {
                continue;
            };
            self.task.metrics.dead_letters.get_or_create(&Metrics::of_death(self.destination(), *cause)).inc();
            let route = route.as_ref().map(AsRef::<str>::as_ref);
            warn!(%cause, route, event.id = %event, %detail, "dead letter");
        }
    }

    /// Observes how long the tries took that an outlet answers now, order by order.
    fn time(&mut self, outcomes: &[(u64, Outcome)]) {
        let (Some(name), Some((ticket, _))) = (self.destination(), outcomes.first()) else { return };
        let at = self.handed.partition_point(|(first, _)| first <= ticket);
        if let Some((_, began)) = at.checked_sub(1).and_then(|at| self.handed.get(at)) {
            let histogram = self.task.metrics.publish_seconds.get_or_create(&Metrics::of(name));
            histogram.observe(began.elapsed().as_secs_f64());
        }
        // Orders are few, and answered mostly in order: what is far behind is answered.
        while self.handed.len() > crate::core::lane::COMMON_CAUSE_KEYS {
            self.handed.pop_front();
        }
    }

    fn look(&mut self, now: Timestamp) {
        let status = self.lane.status();
        let due = now.since(self.looked_at) >= LOOK;
        if !due && self.task.view.is_in(&status.state) {
            return;
        }
        self.looked_at = now;
        let behind = self.lag.of(status.watermark, self.task.heads.borrow().routed, now);
        let retried = status.retried - self.retried;
        self.retried = status.retried;
        let changed = self.task.view.update(status, behind, now);
        let Part::Destination(name) = &self.task.part else { return };
        self.task.metrics.retried.get_or_create(&Metrics::of(name)).inc_by(retried);
        self.task.view.export(name, &self.task.metrics);
        if let Some(outlet) = &self.task.outlet {
            self.vitals.export(name, &outlet.vitals, &self.task.metrics);
        }
        if changed {
            let view = self.task.view.get();
            let detail = view.last_error.as_deref().filter(|_| view.state != LaneState::Up);
            info!(destination = %name, state = view.state_word(), detail, "destination");
        }
    }

    /// Publishes nothing more, takes the answers that come in time, and stores what there is.
    async fn finish(&mut self) {
        let deadline = time::Instant::now() + LAST_ANSWERS;
        self.inputs.push_back(Input::Pause(true));
        self.step();
        let never = CancellationToken::new();
        while self.lane.status().in_flight > 0 && time::Instant::now() < deadline {
            self.wait(&never).await;
            self.step();
        }
        let mut effects = Vec::new();
        self.lane.settle_now(Timestamp::now(), &mut effects);
        self.carry_out(Timestamp::now(), &mut effects);
        let deadline = time::Instant::now() + LAST_ANSWERS;
        while !self.lane.is_settled() && time::Instant::now() < deadline {
            self.wait(&never).await;
            self.step();
        }
    }
}

async fn next_report(outlet: &mut Option<Outlet>) -> Option<Report> {
    match outlet {
        Some(outlet) => outlet.reports.recv().await,
        None => std::future::pending().await,
    }
}
