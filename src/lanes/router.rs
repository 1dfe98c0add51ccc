//! The router's task: reads EVENTS, lets the machine decide, hands its rows to the writer.

use crate::{
    core::router::{Decide, Effect, Input, Router},
    domain::{EnrichmentPart, Event, OrderKey, Partition, RouteName, Timestamp},
    enrich::Enricher,
    journal::{Damage, Entry, LaneName, Log, NewRouted, Settlement, State, tail::Tail},
    lanes::{
        keeper::{Keeper, Settled},
        lag::Lag,
        reader,
        view::SharedView,
        writer::{RowsEnd, Writer},
    },
    metrics::Metrics,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;

/// How often the view is renewed while nothing else happens.
const LOOK: Duration = Duration::from_millis(200);

/// How long a stop waits for the last settlement.
const FINAL_SETTLE: Duration = Duration::from_secs(2);

/// Fetches the records that an event needs, within its budget.
pub trait Fetch: Send + Sync + 'static {
    /// A part for each need; never fails, but says how it failed.
    fn fetch(
        &self,
        event: Arc<Event>,
        needs: Vec<crate::core::router::Need>,
    ) -> Pin<Box<dyn Future<Output = Vec<EnrichmentPart>> + Send>>;

    /// An event has come that waits behind another one of its key, whose records are being fetched.
    fn coming(&self, event: Arc<Event>);
}

impl Fetch for Enricher {
    fn fetch(
        &self,
        event: Arc<Event>,
        needs: Vec<crate::core::router::Need>,
    ) -> Pin<Box<dyn Future<Output = Vec<EnrichmentPart>> + Send>> {
        Self::fetch(self, event, needs)
    }

    fn coming(&self, event: Arc<Event>) {
        Self::coming(self, event);
    }
}

/// The keys whose events' records are being fetched: of a key one event is in hand, and more may come behind it.
#[derive(Debug, Default)]
struct Fetching {
    tickets: BTreeMap<u64, OrderKey>,
    keys: BTreeSet<OrderKey>,
}

impl Fetching {
    fn carries_out(&mut self, effect: &Effect) {
        if let Effect::Fetch(ticket, event, _) = effect
            && let Some(order) = event.order
        {
            self.tickets.insert(*ticket, order);
            self.keys.insert(order);
        }
    }

    /// Tells who fetches of events that come behind others.
    fn hears(&mut self, input: &Input, fetch: &dyn Fetch) {
        match input {
            Input::Fetched(ticket, _) => {
                if let Some(order) = self.tickets.remove(ticket) {
                    self.keys.remove(&order);
                }
            }
            Input::Page { rows, .. } if !self.keys.is_empty() => {
                for row in rows {
                    if let Entry::Row(event) = row
                        && event.order.is_some_and(|order| self.keys.contains(&order))
                    {
                        fetch.coming(Arc::clone(event));
                    }
                }
            }
            _ => {}
        }
    }
}

type Coming = Pin<Box<dyn Future<Output = Input> + Send>>;

/// Everything the router's task works with.
pub struct RouterTask<D: Decide, L: Log, S> {
    /// Its partition.
    pub partition: Partition,
    /// The machine, with what stands in ROUTED already told.
    pub machine: Router<D>,
    /// The routes in force; a change counts from the next event looked at.
    pub routes: watch::Receiver<Arc<D>>,
    /// What it reads.
    pub log: Arc<Tail<L>>,
    /// Where its rows go.
    pub writer: Writer,
    /// Where its progress goes.
    pub keeper: Keeper<S>,
    /// Where records come from.
    pub fetch: Arc<dyn Fetch>,
    /// What is to be seen of it.
    pub view: SharedView,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl<D: Decide + 'static, L: Log + 'static, S: State + 'static> RouterTask<D, L, S> {
    /// Works until the token is cancelled, then stores how far it came.
    pub async fn run(mut self, stop: CancellationToken) {
        let (ends_out, mut ends) = mpsc::channel(crate::core::router::WINDOW);
        let mut heads = self.writer.heads();
        let mut coming: FuturesUnordered<Coming> = FuturesUnordered::new();
        let mut inputs = VecDeque::from([Input::Grown(heads.borrow_and_update().events)]);
        let mut lag = Lag::default();
        let mut looked_at = Timestamp::EPOCH;
        let mut effects = Vec::new();
        let mut tallies: BTreeMap<u64, Tally> = BTreeMap::new();
        let mut fetching = Fetching::default();
        loop {
            let now = Timestamp::now();
            while let Some(input) = inputs.pop_front() {
                fetching.hears(&input, &*self.fetch);
                if let Input::Page { rows, .. } = &input
                    && let Some(Entry::Row(event)) = rows.first()
                {
                    lag.sample(event.position().offset, event.received_at);
                }
                match &input {
                    Input::Appended(tickets, _) => {
                        let tally = tickets.first().and_then(|ticket| tallies.remove(ticket));
                        tally.unwrap_or_default().count(&self.metrics);
                    }
                    Input::NoRoom(tickets, _) => drop(tickets.first().and_then(|ticket| tallies.remove(ticket))),
                    _ => {}
                }
                self.machine.step(now, input, &mut effects);
                for effect in effects.drain(..) {
                    if let Effect::Append(tickets, rows) = &effect
                        && let Some(ticket) = tickets.first()
                    {
                        tallies.insert(*ticket, Tally::of(rows));
                    }
                    fetching.carries_out(&effect);
                    self.carry_out(effect, &ends_out, &mut coming, &mut inputs);
                }
            }
            if now.since(looked_at) >= LOOK {
                looked_at = now;
                let status = self.machine.status();
                let behind = lag.of(status.watermark, heads.borrow().events, now);
                let parked = i64::try_from(status.parked_keys).unwrap_or(i64::MAX);
                self.metrics.enrichment_parked_keys.set(parked);
                self.metrics.undecided.set(i64::try_from(behind.0).unwrap_or(i64::MAX));
                self.view.update(status, behind, now);
            }
            let wait = self.machine.wake_at().map_or(LOOK, |at| at.since(now).min(LOOK));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(end) = ends.recv() => inputs.push_back(appended(end)),
                Some(input) = coming.next() => inputs.push_back(input),
                Ok(()) = self.routes.changed() => {
                    let routes = Arc::clone(&self.routes.borrow_and_update());
                    self.machine.use_routes(routes);
                }
                Ok(()) = heads.changed() => inputs.push_back(Input::Grown(heads.borrow_and_update().events)),
                () = time::sleep(wait) => inputs.push_back(Input::Tick),
            }
            while let Ok(end) = ends.try_recv() {
                inputs.push_back(appended(end));
            }
        }
        // What is not stored now is found again at the next start; this only makes it shorter.
        self.machine.settle_now(Timestamp::now(), &mut effects);
        for effect in effects {
            if let Effect::Settle(_) = effect {
                self.carry_out(effect, &ends_out, &mut coming, &mut inputs);
            }
        }
        let stored = async { while coming.next().await.is_some_and(|input| !matches!(input, Input::Settled)) {} };
        let _ = time::timeout(FINAL_SETTLE, stored).await;
    }

    fn carry_out(
        &self,
        effect: Effect,
        ends: &mpsc::Sender<RowsEnd>,
        coming: &mut FuturesUnordered<Coming>,
        inputs: &mut VecDeque<Input>,
    ) {
        match effect {
            Effect::Read { from, rows } => {
                let (log, partition) = (Arc::clone(&self.log), self.partition);
                let limit = reader::limit(rows);
                if let Some(page) = log.recent_events(partition, from, limit) {
                    inputs.push_back(Input::Page { next: page.next, rows: page.rows });
                    return;
                }
                coming.push(Box::pin(async move {
                    match reader::events(&log, partition, from, rows).await {
                        Ok(page) => Input::Page { next: page.next, rows: page.rows },
                        Err(error) => {
                            tracing::error!(%error, "cannot read EVENTS, trying again");
                            Input::ReadFailed
                        }
                    }
                }));
            }
            Effect::Append(tickets, rows) => {
                if let Err((tickets, rows)) = self.writer.append(tickets, rows, ends) {
                    inputs.push_back(Input::NoRoom(tickets, rows));
                }
            }
            Effect::Fetch(ticket, event, needs) => {
                let parts = self.fetch.fetch(event, needs);
                coming.push(Box::pin(async move { Input::Fetched(ticket, parts.await) }));
            }
            Effect::Settle(settling) => {
                let settlement = Settlement {
                    lane: LaneName::Router,
                    partition: self.partition,
                    progress: settling.progress.clone(),
                    receipts: Vec::new(),
                    shelf: settling.shelf.clone(),
                };
                let ended = self.keeper.settle(settlement);
                coming.push(Box::pin(async move {
                    match ended.await {
                        Ok(Settled::Done) => Input::Settled,
                        Ok(Settled::NoRoom) | Err(_) => Input::SettleFailed,
                    }
                }));
            }
            Effect::LoadShelf(order, rows) => {
                let loaded = self.keeper.load(LaneName::Router, self.partition, order, rows);
                let (log, partition) = (Arc::clone(&self.log), self.partition);
                coming.push(Box::pin(async move {
                    let rows = loaded.await.ok().and_then(Result::ok).unwrap_or_default();
                    let mut found = Vec::with_capacity(rows.len());
                    for row in rows {
                        // What cannot be read now is asked for again.
                        let Ok(event) = reader::event(&log, partition, row.event).await else { break };
                        let gone = || Damage {
                            offset: row.offset,
                            event: None,
                            detail: "its event is not there any more".into(),
                        };
                        let event = event.unwrap_or_else(|| Entry::Damaged(gone()));
                        found.push((row, event));
                    }
                    Input::Shelf(order, found)
                }));
            }
        }
    }
}

/// What rows on their way to ROUTED add to the metrics once they are there.
#[derive(Debug, Default)]
struct Tally {
    unrouted: u64,
    superseded: u64,
    by_route: BTreeMap<RouteName, u64>,
}

impl Tally {
    fn of(rows: &[NewRouted]) -> Self {
        let mut tally = Self::default();
        for NewRouted { row, .. } in rows {
            let decision = &row.decision;
            tally.unrouted += u64::from(decision.is_unrouted() || decision.discarded);
            tally.superseded += u64::from(decision.superseded);
            for target in &decision.targets {
                match tally.by_route.get_mut(&target.route) {
                    Some(count) => *count += 1,
                    None => drop(tally.by_route.insert(target.route.clone(), 1)),
                }
            }
        }
        tally
    }

    fn count(self, metrics: &Metrics) {
        metrics.unrouted.inc_by(self.unrouted);
        metrics.superseded.inc_by(self.superseded);
        for (route, count) in &self.by_route {
            metrics.routed.get_or_create(&Metrics::of_route(route)).inc_by(*count);
        }
    }
}

fn appended(end: RowsEnd) -> Input {
    match end {
        RowsEnd::Appended(tickets, first) => Input::Appended(tickets, first),
        RowsEnd::NoRoom(tickets, rows) => Input::NoRoom(tickets, rows),
    }
}
