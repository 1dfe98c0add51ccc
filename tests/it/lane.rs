//! A lane for tests: hands tries to an outlet as the contract allows, and repeats what was not taken.

use bytes::Bytes;
use laigu_router::{
    destinations::{Order, Outcome, Outlet, OutletState, OutletTask, Report},
    domain::{
        Attempt, Decision, Delivery, DestinationName, FailureKind, Fingerprint, Headers, Incarnation, NewEvent,
        OrderKey, Origin, Partition, RouteName, Routed, RoutedRow, SourceName, StopReason, Target, TenantName,
        Timestamp,
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a delivery may make no progress although reports come: longer than any trouble that a test makes.
const STANDS_MAX: Duration = Duration::from_secs(180);

/// The try numbered `ticket` at an event of this key.
pub fn attempt(ticket: u64, key: u64, address: &str, body: impl Into<Bytes>) -> Attempt {
    let event = NewEvent {
        source: SourceName::parse("laigu").unwrap(),
        tenant: TenantName::parse("acme").unwrap(),
        kind: "cus.upsert".into(),
        key: Some(format!("trk_{key}").into()),
        vendor_id: Some(format!("sub_{ticket}").into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::from_millis(1_726_824_222_989)),
        received_at: Timestamp::from_millis(1_726_824_223_000),
        headers: Headers::default(),
        body: body.into(),
        payload: None,
        order: Some(OrderKey(key)),
        id_hash: ticket,
        body_hash: ticket,
        fingerprint: Fingerprint::default(),
        superseded: false,
    };
    let event = event.at(Partition(0), ticket, Incarnation(7), false);
    let target = Target {
        route: RouteName::parse("leads").unwrap(),
        destination: DestinationName::parse("out").unwrap(),
        address: Some(address.into()),
        parts: Default::default(),
    };
    let decision = Decision { targets: vec![target], ..Decision::default() };
    let row = RoutedRow { event: event.position(), job: 0, generation: 1, decision, enrichment: Vec::new() };
    let routed = Arc::new(Routed { offset: ticket, row, event: Arc::new(event) });
    Attempt { ticket, delivery: Delivery::first(routed, 0), number: 1, at: Timestamp::now() }
}

/// What became of everything that a lane was given.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many tries it took, by ticket.
    pub tries: BTreeMap<u64, u32>,
    /// Those that were returned at least once.
    pub returned: Vec<u64>,
    /// States that were reported on the way.
    pub stops: Vec<(StopReason, String)>,
}

pub struct Lane {
    outlet: Outlet,
    pub state: Option<OutletState>,
    tasks: JoinSet<()>,
}

impl Lane {
    pub fn new((outlet, task): (Outlet, OutletTask)) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(task);
        Self { outlet, state: None, tasks }
    }

    /// The next outcomes; states are noted on the way.
    pub async fn report(&mut self) -> Vec<(u64, Outcome)> {
        let report = time::timeout(PATIENCE, self.outlet.reports.recv()).await;
        match report.unwrap_or_else(|_| panic!("no report, the state is {:?}", self.state)).expect("the outlet lives") {
            Report::Outcomes(outcomes) => outcomes,
            Report::State { state, .. } => {
                self.state = Some(state);
                Vec::new()
            }
        }
    }

    pub async fn until_up(&mut self) {
        while self.state != Some(OutletState::Up) {
            assert!(self.report().await.is_empty(), "an outcome that nobody asked for");
        }
    }

    /// Waits for a stop, and returns its words. Outcomes on the way are dropped.
    pub async fn until_stopped(&mut self, reason: StopReason) -> String {
        loop {
            if let Some(OutletState::Stopped(found, words)) = &self.state
                && *found == reason
            {
                return words.to_string();
            }
            self.report().await;
        }
    }

    pub async fn publish(&mut self, attempts: Vec<Attempt>) {
        self.outlet.orders.send(Order::Publish(attempts)).await.expect("the outlet lives");
    }

    /// Lets go of the outlet, and waits until its task has ended.
    pub async fn end(mut self) {
        drop(self.outlet);
        let ended = time::timeout(PATIENCE, self.tasks.join_next()).await.expect("the task ends with its lane");
        ended.expect("there is a task").expect("it does not panic");
    }

    pub async fn probe(&mut self) {
        self.outlet.orders.send(Order::Probe).await.expect("the outlet lives");
    }

    /// Waits until so many tries have ended.
    pub async fn outcomes(&mut self, count: usize) -> BTreeMap<u64, Outcome> {
        let mut outcomes = BTreeMap::new();
        while outcomes.len() < count {
            for (ticket, outcome) in self.report().await {
                assert!(outcomes.insert(ticket, outcome).is_none(), "two outcomes for {ticket}");
            }
        }
        outcomes
    }

    /// Publishes one and says what became of it.
    pub async fn try_one(&mut self, attempt: Attempt) -> Outcome {
        let ticket = attempt.ticket;
        self.publish(vec![attempt]).await;
        self.outcomes(1).await.remove(&ticket).expect("the outcome of what was published")
    }

    /// Delivers everything, in order for each key, as a lane does: at most a window out, one of each key, nothing
    /// while the outlet is stopped, and again what was not taken. `seen` is told how many were taken so far.
    pub async fn deliver(&mut self, attempts: Vec<Attempt>, mut seen: impl FnMut(usize)) -> Tally {
        let total = attempts.len();
        let mut keys: BTreeMap<OrderKey, VecDeque<Attempt>> = BTreeMap::new();
        for attempt in attempts {
            let key = attempt.delivery.event().order.expect("tests give keys");
            keys.entry(key).or_default().push_back(attempt);
        }
        let mut ready: VecDeque<OrderKey> = keys.keys().copied().collect();
        let mut out: BTreeMap<u64, OrderKey> = BTreeMap::new();
        let mut tally = Tally::default();
        let (mut taken, mut pause) = (0, false);
        let mut progress = (0, Instant::now());
        while taken < total {
            if taken > progress.0 {
                progress = (taken, Instant::now());
            }
            let (stood, state) = (progress.1.elapsed(), &self.state);
            assert!(stood < STANDS_MAX, "{taken} of {total} for {stood:?}, {} out, {state:?}: {tally:?}", out.len());
            if pause {
                time::sleep(Duration::from_millis(100)).await;
                pause = false;
            }
            let mut batch = Vec::new();
            while self.state == Some(OutletState::Up) && out.len() < self.outlet.window {
                let Some(key) = ready.pop_front() else { break };
                let mut attempt = keys[&key].front().expect("a ready key has a delivery").clone();
                let tries = tally.tries.entry(attempt.ticket).or_default();
                *tries += 1;
                attempt.number = *tries;
                assert!(out.insert(attempt.ticket, key).is_none());
                batch.push(attempt);
            }
            if !batch.is_empty() {
                self.publish(batch).await;
            }
            let before = self.state.clone();
            for (ticket, outcome) in self.report().await {
                let key = out.remove(&ticket).unwrap_or_else(|| panic!("an outcome for {ticket}, which is not out"));
                match outcome {
                    Outcome::Taken { .. } => {
                        keys.get_mut(&key).expect("a known key").pop_front();
                        taken += 1;
                        if keys[&key].is_empty() {
                            continue;
                        }
                    }
                    Outcome::Failed(failure) => {
                        assert!(!matches!(failure.kind, FailureKind::Rejected(_)), "{failure:?}");
                        pause |= matches!(failure.kind, FailureKind::Nacked | FailureKind::Returned);
                        if failure.kind == FailureKind::Returned {
                            tally.returned.push(ticket);
                        }
                    }
                }
                ready.push_back(key);
            }
            if self.state != before {
                match &self.state {
                    Some(OutletState::Stopped(reason, words)) => tally.stops.push((*reason, words.to_string())),
                    Some(OutletState::Up) => assert!(out.is_empty(), "up, and {} are not answered", out.len()),
                    None => {}
                }
            }
            seen(taken);
        }
        tally
    }
}
