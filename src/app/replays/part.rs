//! A part of a replay at work: publishes the items of one destination through an outlet of its own.
//!
//! The machine decides ([`crate::core::replay`]); this carries out: reads items and their decisions, hands tries over,
//! makes ends durable. When it is told to stop it waits a little for answers, stores them, and ends; whoever starts it
//! again goes on with what the list has left.

use super::{
    Shared,
    live::Live,
    today::{addressed, readdressed},
};
use crate::{
    config::settings::Rate,
    core::{
        lane::LaneConfig,
        replay::{Effect, Input, Replay, ReplaySettling},
    },
    destinations::{self, Common, Order, Outcome, Outlet, OutletState, OutletTask, Report},
    domain::{Attempt, Chain, DeadCause, Delivery, Partition, RouteName, Routed, Timestamp},
    journal::{
        Entry, Log, ReadError, ShelfChange, ShelfRow, WriteError,
        sqlite::jobs::{
            read::{Item, PartRecord},
            settle::PartSettlement,
        },
    },
    lanes::{
        destination::Control,
        payload::{self, Payload},
    },
    metrics::Metrics,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio::{sync::mpsc, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// The longest that the task sleeps.
const LOOK: Duration = Duration::from_millis(200);
/// How long a stop waits for answers that are on their way, and then for the last settlement.
const LAST_ANSWERS: Duration = Duration::from_secs(3);
/// Ends that come within this time share a sync.
const SETTLE_EVERY: Duration = Duration::from_millis(20);
/// Orders that wait for a part at most.
pub const ORDERS: usize = 64;
/// Whoever replays wants to know soon: a delivery that still finds no queue is a dead letter again after this.
const UNROUTABLE_MAX: Duration = Duration::from_secs(10);
/// What has been chosen waits at least so long for a destination that is down, or for the job's rate.
const AGE_MIN: Duration = Duration::from_secs(86_400);
/// The window of a destination that is not in `routes.yaml`, from which nothing goes out.
const WINDOW_UNKNOWN: usize = 1_024;

/// What a part is told.
#[derive(Debug, Clone, Copy)]
pub enum PartOrder {
    /// Its list has more items, durably; and whether the job has chosen all.
    Fed(u64, bool),
    /// Deliveries at most per time, from now on.
    Rate(Option<Rate>),
}

/// What a part works with.
pub struct PartTask {
    /// The program.
    pub shared: Arc<Shared>,
    /// The part.
    pub part: PartRecord,
    /// Whether the job has chosen all.
    pub complete: bool,
    /// Deliveries at most per time.
    pub rate: Option<Rate>,
    /// What it is told.
    pub orders: mpsc::Receiver<PartOrder>,
    /// What is to be seen of the job.
    pub live: Arc<Live>,
}

type Coming = Pin<Box<dyn Future<Output = Input<Payload>> + Send>>;

struct Running {
    task: PartTask,
    replay: Replay<Payload>,
    outlet: Option<Outlet>,
    inputs: VecDeque<Input<Payload>>,
    coming: FuturesUnordered<Coming>,
    /// Items whose place on the list is behind this are still to be read.
    after: i64,
    /// Where a read that is on its way ends.
    read_to: Arc<std::sync::atomic::AtomicI64>,
    over: bool,
}

impl PartTask {
    /// Works until the list is done, or the token is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let config = self.config();
        let mut replay = Replay::new(self.part.part, config, &self.part.record, self.part.left);
        if !self.complete {
            replay = replay.to_be_fed();
        }
        let outlet = match self.outlet() {
            Some((outlet, task)) => {
                // The process is stopping if nobody spawns it.
                let _ = self.shared.spawn.send(task).await;
                Some(outlet)
            }
            None => {
                let name = &self.part.destination;
                self.live.trouble(name, Some(format!("destination `{name}` is not in routes.yaml")));
                None
            }
        };
        let mut running = Running {
            task: self,
            replay,
            outlet,
            inputs: VecDeque::from([Input::Tick]),
            coming: FuturesUnordered::new(),
            after: 0,
            read_to: Arc::default(),
            over: false,
        };
        while !stop.is_cancelled() {
            running.step();
            if running.over {
                return;
            }
            running.wait(&stop).await;
        }
        running.finish().await;
    }

    fn config(&self) -> LaneConfig {
        let generation = self.shared.generation.load();
        let settings = generation.settings.destinations.get(&self.part.destination);
        let window = settings.map_or(WINDOW_UNKNOWN, |settings| settings.window);
        let mut retry = generation.settings.retry;
        retry.unroutable = retry.unroutable.min(UNROUTABLE_MAX);
        retry.max_age = retry.max_age.max(AGE_MIN);
        LaneConfig {
            window,
            read_ahead: (window * 2).clamp(256, crate::core::lane::SPAN_MAX),
            retry,
            rate: self.rate,
            receipts: true,
            shelf: false,
            // Each was dead before: what still fails is dead again, one by one, and the job comes to its end.
            common_cause: false,
            settle_every: SETTLE_EVERY,
            seed: self.part.part.0,
        }
    }

    fn outlet(&self) -> Option<(Outlet, OutletTask)> {
        let generation = self.shared.generation.load();
        let settings = generation.settings.destinations.get(&self.part.destination)?;
        let (name, prefixes) = (self.part.destination.clone(), self.shared.prefixes.clone());
        let common = Common { name, window: settings.window, prefixes };
        Some(destinations::start_beside(common, &settings.kind))
    }
}

impl Running {
    fn step(&mut self) {
        let now = Timestamp::now();
        let mut effects = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            if let Input::Rows(_) = input {
                self.after = self.read_to.load(std::sync::atomic::Ordering::Relaxed);
            }
            self.replay.step(now, input, &mut effects);
            self.carry_out(now, &mut effects);
        }
    }

    async fn wait(&mut self, stop: &CancellationToken) {
        let wait = self.replay.wake_at().map_or(LOOK, |at| at.since(Timestamp::now()).min(LOOK));
        let outlet = &mut self.outlet;
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            report = next_report(outlet) => self.report(report),
            Some(input) = self.coming.next() => self.inputs.push_back(input),
            Some(order) = self.task.orders.recv() => self.inputs.push_back(match order {
                PartOrder::Fed(more, complete) => Input::Fed { more, complete },
                PartOrder::Rate(rate) => Input::Rate(rate),
            }),
            () = time::sleep(wait) => self.inputs.push_back(Input::Tick),
        }
    }

    fn report(&mut self, report: Option<Report>) {
        let name = &self.task.part.destination;
        match report {
            Some(Report::Outcomes(outcomes)) => self.inputs.push_back(Input::Outcomes(outcomes)),
            Some(Report::State { state, .. }) => {
                let trouble = match &state {
                    OutletState::Up => None,
                    OutletState::Stopped(reason, words) => Some(format!("{name} is {}: {words}", reason.as_str())),
                };
                self.task.live.trouble(name, trouble);
                self.inputs.push_back(Input::Outlet(state));
            }
            None => {
                self.outlet = None;
                self.task.live.trouble(name, Some(format!("the outlet of {name} ended")));
                self.inputs.push_back(Input::OutletGone);
            }
        }
    }

    fn carry_out(&mut self, now: Timestamp, effects: &mut Vec<Effect<Payload>>) {
        let mut attempts = Vec::new();
        let mut refused: Vec<(u64, Outcome)> = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Publish { ticket, payload: Payload::Delivery(delivery), number } => {
                    attempts.push(Attempt { ticket, delivery, number, at: now });
                }
                Effect::Publish { ticket, payload: Payload::Dead(cause, detail), .. } => {
                    refused.push((ticket, payload::refused(cause, detail)));
                }
                Effect::Read { rows, .. } => self.read(rows),
                Effect::Settle(settling) => self.settle(&settling),
                Effect::Done => self.over = true,
            }
        }
        if !refused.is_empty() {
            self.inputs.push_back(Input::Outcomes(refused));
        }
        if attempts.is_empty() {
            return;
        }
        let handed =
            self.outlet.as_ref().is_some_and(|outlet| outlet.orders.try_send(Order::Publish(attempts)).is_ok());
        if !handed {
            self.outlet = None;
            self.inputs.push_back(Input::OutletGone);
        }
    }

    /// Reads the next items with what they are about, off the runtime's threads.
    fn read(&mut self, rows: usize) {
        let (shared, after, read_to) = (Arc::clone(&self.task.shared), self.after, Arc::clone(&self.read_to));
        let part = self.task.part.clone();
        self.coming.push(Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || items(&shared, &part, after, rows));
            match read.await.map_err(|error| ReadError(error.to_string())).and_then(|result| result) {
                Ok((to, rows)) => {
                    read_to.store(to, std::sync::atomic::Ordering::Relaxed);
                    Input::Rows(rows)
                }
                Err(error) => {
                    error!(%error, "cannot read the list of a replay, trying again");
                    Input::ReadFailed
                }
            }
        }));
    }

    fn settle(&mut self, settling: &ReplaySettling) {
        let destination = self.task.part.destination.clone();
        let settlement = PartSettlement {
            part: self.task.part.part,
            destination: destination.clone(),
            progress: settling.progress.clone(),
            receipts: settling.receipts.clone(),
            shelf: settling.shelf.clone(),
        };
        let (shared, live) = (Arc::clone(&self.task.shared), Arc::clone(&self.task.live));
        self.coming.push(Box::pin(async move {
            let delivered = settlement.shelf.iter().filter(|change| matches!(change, ShelfChange::Remove(..))).count();
            let died: Vec<_> = settlement.shelf.iter().filter_map(cause_of).collect();
            match shared.keeper.with(move |state| state.settle_part(&settlement)).await {
                Ok(Ok((counts, released))) => {
                    shared.metrics.replayed.get_or_create(&Metrics::of(&destination)).inc_by(delivered as u64);
                    for (cause, event) in died {
                        shared.metrics.dead_letters.get_or_create(&Metrics::of_death(Some(&destination), cause)).inc();
                        warn!(%cause, event.id = %event, %destination, "dead letter, again");
                    }
                    live.counted(counts);
                    for (destination, order) in released {
                        if let Some(handle) = shared.fleet.handle(destination.as_str()) {
                            // A lane that is gone finds its key free when it starts again.
                            let _ = handle.controls.send(Control::Release(order)).await;
                        }
                    }
                    Input::Settled
                }
                Ok(Err(WriteError::Full(why))) => {
                    warn!(%why, "no room for what a replay delivered: it waits");
                    Input::SettleFailed
                }
                Ok(Err(error)) => {
                    error!(error = %Chain(&error), "the state cannot be kept");
                    shared.keeper.stop();
                    Input::SettleFailed
                }
                Err(_) => Input::SettleFailed,
            }
        }));
    }

    /// Publishes nothing more, takes the answers that come in time, and stores what there is.
    async fn finish(&mut self) {
        let never = CancellationToken::new();
        let deadline = time::Instant::now() + LAST_ANSWERS;
        self.inputs.push_back(Input::Pause(true));
        self.step();
        while self.replay.status().in_flight > 0 && time::Instant::now() < deadline {
            self.wait(&never).await;
            self.step();
        }
        let mut effects = Vec::new();
        self.replay.settle_now(Timestamp::now(), &mut effects);
        self.carry_out(Timestamp::now(), &mut effects);
        let deadline = time::Instant::now() + LAST_ANSWERS;
        while !self.replay.is_settled() && time::Instant::now() < deadline {
            self.wait(&never).await;
            self.step();
        }
        self.task.live.trouble(&self.task.part.destination, None);
    }
}

fn cause_of(change: &ShelfChange) -> Option<(DeadCause, crate::domain::EventId)> {
    match change {
        ShelfChange::Put(row) => Some((row.cause?, row.event)),
        ShelfChange::Remove(..) => None,
    }
}

type Read = (i64, Vec<(ShelfRow, Payload)>);

fn items(shared: &Shared, part: &PartRecord, after: i64, rows: usize) -> Result<Read, ReadError> {
    let mut read = Vec::with_capacity(rows);
    let mut to = after;
    for item in shared.queries.job_items(part.part, after, rows)? {
        let payload = match shared.log.routed_row(Partition(0), item.row.offset)? {
            Some(Entry::Row(routed)) => delivery(shared, part, &item, routed),
            Some(Entry::Damaged(damage)) => Payload::Dead(DeadCause::Damaged, damage.detail),
            None => Payload::Dead(DeadCause::Damaged, "its decision is gone".into()),
        };
        to = item.seq;
        read.push((item.row, payload));
    }
    Ok((to, read))
}

/// The delivery of an item: the row's target there, or its route's target sent there instead.
fn delivery(shared: &Shared, part: &PartRecord, item: &Item, mut routed: Arc<Routed>) -> Payload {
    let targets = &routed.row.decision.targets;
    let by = |route: &RouteName| item.row.route.as_ref() == Some(route);
    let own = targets.iter().position(|target| by(&target.route) && target.destination == part.destination);
    let index = own.or_else(|| targets.iter().position(|target| by(&target.route)));
    let Some((index, stored)) = index.and_then(|index| Some((index, targets.get(index)?))) else {
        return Payload::Dead(DeadCause::Damaged, "its decision has no such route".into());
    };
    let generation = shared.generation.load();
    let target = match own {
        Some(_) => stored.clone(),
        None => readdressed(&generation, stored, &part.destination),
    };
    let target = match addressed(&generation, &routed.event, target) {
        Ok(target) => target,
        Err(words) => return Payload::Dead(DeadCause::Template, words),
    };
    if target != *stored
        && let Some(stored) = Arc::make_mut(&mut routed).row.decision.targets.get_mut(index)
    {
        *stored = target;
    }
    let elsewhere = own.is_none().then(|| part.destination.clone());
    let replay = Some(part.part.whole());
    Payload::Delivery(Delivery { routed, target: index, elsewhere, replay, again: item.again })
}

async fn next_report(outlet: &mut Option<Outlet>) -> Option<Report> {
    match outlet {
        Some(outlet) => outlet.reports.recv().await,
        None => std::future::pending().await,
    }
}
