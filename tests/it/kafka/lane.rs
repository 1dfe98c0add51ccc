//! A lane in small, so that the outlet is judged by what a lane sees of it.

use laigu_router::{
    config::settings::Kafka,
    destinations::{
        Common, Order, Outcome, Outlet, OutletState, Report,
        kafka::{self, Timing, gauges::Gauges},
        message::TypePrefixes,
    },
    domain::{Attempt, DestinationName, FailureKind, SourceName, StopReason},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{task::JoinHandle, time::timeout};

/// What a lane does, in small: one record of a key at a time, tried until it is taken or refused for good.
pub struct Lane {
    outlet: Option<Outlet>,
    task: JoinHandle<()>,
    pub states: Vec<OutletState>,
    pub gauges: Arc<Gauges>,
    ticket: u64,
    pub failures: Vec<FailureKind>,
}

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Lane {
    pub fn start(settings: &Kafka, window: usize, timing: Timing) -> Self {
        let common = Common {
            name: DestinationName::parse("lake").unwrap(),
            window,
            prefixes: TypePrefixes::new([(SourceName::parse("laigu").unwrap(), "com.laigu.".into())].into()),
        };
        let gauges = Arc::new(Gauges::default());
        let (outlet, task) = kafka::start_with(common, settings, timing, Arc::clone(&gauges));
        let task = tokio::spawn(task);
        Self { outlet: Some(outlet), task, states: Vec::new(), gauges, ticket: 0, failures: Vec::new() }
    }

    /// Drops the lane's end; the task must then end by itself, before any of its deadlines.
    pub async fn end(mut self) {
        drop(self.outlet.take());
        timeout(Duration::from_secs(3), self.task).await.expect("the task ends with its lane").unwrap();
    }

    pub fn producers(&self) -> u64 {
        self.gauges.producers_total.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.states.last() == Some(&OutletState::Up)
    }

    /// The next report; states are noted.
    pub async fn report(&mut self) -> Report {
        let reports = &mut self.outlet.as_mut().unwrap().reports;
        let report = timeout(PATIENCE, reports.recv()).await;
        let report = report.unwrap_or_else(|_| panic!("no report; states so far: {:?}", self.states)).unwrap();
        if let Report::State { state, .. } = &report {
            self.states.push(state.clone());
        }
        report
    }

    /// Waits for a state.
    pub async fn until(&mut self, wanted: impl Fn(&OutletState) -> bool) -> OutletState {
        if let Some(state) = self.states.last().filter(|state| wanted(state)) {
            return state.clone();
        }
        loop {
            if let Report::State { state, .. } = self.report().await
                && wanted(&state)
            {
                return state;
            }
        }
    }

    pub async fn until_up(&mut self) {
        self.until(|state| *state == OutletState::Up).await;
    }

    /// Waits until it stands still for a reason; gives back the words.
    pub async fn until_stopped(&mut self, wanted: StopReason) -> Box<str> {
        match self.until(|state| matches!(state, OutletState::Stopped(reason, _) if *reason == wanted)).await {
            OutletState::Stopped(_, words) => words,
            OutletState::Up => unreachable!("asked for a stop"),
        }
    }

    pub async fn order(&self, order: Order) {
        self.outlet.as_ref().unwrap().orders.send(order).await.unwrap();
    }

    /// Hands tries over as they are, and collects exactly one outcome of each.
    pub async fn publish(&mut self, attempts: Vec<Attempt>) -> HashMap<u64, Outcome> {
        let count = attempts.len();
        self.order(Order::Publish(attempts)).await;
        let mut outcomes = HashMap::new();
        while outcomes.len() < count {
            if let Report::Outcomes(some) = self.report().await {
                for (ticket, outcome) in some {
                    assert_eq!(outcomes.insert(ticket, outcome), None, "two outcomes of ticket {ticket}");
                }
            }
        }
        outcomes
    }

    /// Delivers all, keys in parallel and each in order, as a lane does; gives back what was refused for good, by
    /// number. `each` hears how many are done after each report.
    pub async fn deliver(&mut self, attempts: Vec<Attempt>, mut each: impl FnMut(usize)) -> HashMap<u64, FailureKind> {
        let count = attempts.len();
        let mut lines: BTreeMap<Option<Box<str>>, VecDeque<Attempt>> = BTreeMap::new();
        for attempt in attempts {
            lines.entry(attempt.delivery.event().key.clone()).or_default().push_back(attempt);
        }
        let mut out: HashMap<u64, Attempt> = HashMap::new();
        let (mut done, mut dead) = (0, HashMap::new());
        while done < count {
            self.hand_over(&mut lines, &mut out).await;
            let Report::Outcomes(outcomes) = self.report().await else { continue };
            for (ticket, outcome) in outcomes {
                let mut attempt = out.remove(&ticket).unwrap_or_else(|| panic!("two outcomes of ticket {ticket}"));
                match outcome {
                    Outcome::Taken { .. } => done += 1,
                    Outcome::Failed(failure) => {
                        self.failures.push(failure.kind);
                        if let FailureKind::Rejected(_) = failure.kind {
                            dead.insert(attempt.delivery.event().position().offset, failure.kind);
                            done += 1;
                        } else {
                            attempt.number += 1;
                            lines.get_mut(&attempt.delivery.event().key).unwrap().push_front(attempt);
                        }
                    }
                }
            }
            each(done);
        }
        dead
    }

    async fn hand_over(
        &mut self,
        lines: &mut BTreeMap<Option<Box<str>>, VecDeque<Attempt>>,
        out: &mut HashMap<u64, Attempt>,
    ) {
        if !self.is_up() {
            return;
        }
        let window = self.outlet.as_ref().unwrap().window;
        let busy: HashSet<_> = out.values().map(|attempt| attempt.delivery.event().key.clone()).collect();
        let mut batch = Vec::new();
        for (_, line) in lines.iter_mut().filter(|(key, _)| !busy.contains(key)) {
            if out.len() >= window {
                break;
            }
            let Some(mut attempt) = line.pop_front() else { continue };
            self.ticket += 1;
            attempt.ticket = self.ticket;
            out.insert(attempt.ticket, attempt.clone());
            batch.push(attempt);
        }
        if !batch.is_empty() {
            self.order(Order::Publish(batch)).await;
        }
    }
}
