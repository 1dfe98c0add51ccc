//! The Kafka destination: records with `acks=all` from an idempotent producer, delivered when the report says so.
//!
//! One task owns the destination. It hands whole batches to librdkafka, which never blocks, and takes delivery
//! reports out of a [`client::Mailbox`] all at once. Everything that may block has a thread of its own, so that
//! neither the lane nor the end of the process waits for a broker.
//!
//! The task is in one of three places:
//!
//! - **Closed**: no producer. A new one is made and asked for the topic's metadata, after pauses that grow. What
//!   the lane hands over meanwhile comes back as [`FailureKind::Lane`]. A producer never outlives trouble:
//!   librdkafka burns processor time in long outages, and after a fatal error it takes nothing more.
//! - **Open**, reported as `Up`: orders are taken.
//! - **Faltering**, reported as `Stopped(Down)`: no broker can be reached, but records are out. librdkafka tries
//!   again by itself and without duplicates, so it may have [`Timing::silence`]; when all of them are reported,
//!   it is `Up` again.
//!
//! Any failed delivery that is not the record's own affair ends the session: the lane is stopped, what is in
//! flight is not known, the producer is purged and dropped. So a record that librdkafka may still hold is never
//! overtaken: the lane has at most one of a key out, and repeats it before the next. Duplicates come of it, at
//! most a window of them; a session that ends by itself or by `drop` leaves no other traces.
//!
//! A batch that the topic finds too large says nothing about one record in it. It comes back as refused for now,
//! the session lets what is out end, and goes on with batches half the size until the culprit is alone.

pub mod client;
pub mod gauges;
pub mod properties;
mod session;
pub mod verdict;

use crate::{
    config::settings::Kafka,
    destinations::{
        Common, Order, Outcome, Outlet, OutletState, OutletTask, Report, Socket, message::TypePrefixes, outlet,
    },
    domain::{Attempt, DestinationName, Failure, FailureKind, StopReason, Timestamp},
};
use client::{Client, Trouble};
use gauges::Gauges;
use session::{Ending, Session};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::mpsc::error::SendError,
    time::{self, Instant},
};
use tracing::{info, warn};

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Records are out and no report of any comes: the producer is given up.
    pub silence: Duration,
    /// One record is out, whatever becomes of others (a partition without a leader, too few replicas): likewise.
    pub record: Duration,
    /// For a new producer to know the topic.
    pub open: Duration,
    /// The longest pause before a new producer while the cluster cannot be reached.
    pub pause_down: Duration,
    /// The longest pause while someone must act; longer, so that a wrong password locks no account.
    pub pause_misconfigured: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(60),
            record: Duration::from_secs(180),
            open: Duration::from_secs(5),
            pause_down: Duration::from_secs(4),
            pause_misconfigured: Duration::from_secs(10),
        }
    }
}

/// The first pause; the longest that it may be doubles with each vain try.
const PAUSE_FIRST: Duration = Duration::from_millis(500);

/// No pause is shorter, so that a cluster that fails at once is not asked in a tight loop.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Starts a Kafka destination.
#[must_use]
pub fn start(common: Common, settings: &Kafka) -> (Outlet, OutletTask) {
    start_with(common, settings, Timing::default(), Arc::default())
}

/// Starts a Kafka destination with other times, and with gauges that the caller reads.
#[must_use]
pub fn start_with(common: Common, settings: &Kafka, timing: Timing, gauges: Arc<Gauges>) -> (Outlet, OutletTask) {
    let (mut outlet, socket) = outlet(common.window);
    outlet.vitals.kafka = Some(Arc::clone(&gauges));
    let sessions = Arc::clone(&outlet.vitals.sessions);
    let lane = LaneEnd { name: common.name, socket, state: None };
    let batch_bytes = properties::batch_bytes(settings).unwrap_or_default();
    let task = Task {
        lane,
        settings: settings.clone(),
        window: common.window,
        prefixes: common.prefixes,
        timing,
        gauges,
        sessions,
        batch_bytes,
        vain: 0,
    };
    (outlet, Box::pin(async move { task.run().await.unwrap_or_default() }))
}

/// The outlet ends: the lane is gone.
#[derive(Debug)]
struct Ended;

impl From<SendError<Report>> for Ended {
    fn from(_: SendError<Report>) -> Self {
        Self
    }
}

struct Task {
    lane: LaneEnd,
    settings: Kafka,
    window: usize,
    prefixes: TypePrefixes,
    timing: Timing,
    gauges: Arc<Gauges>,
    sessions: Arc<AtomicU64>,
    /// What a batch may hold; smaller after the topic found one too large.
    batch_bytes: usize,
    /// Tries since a record was last delivered.
    vain: u32,
}

impl Task {
    async fn run(mut self) -> Result<(), Ended> {
        loop {
            let trouble = match self.open().await? {
                Ok(client) => match self.serve(client).await? {
                    Ending::SmallerBatches => continue,
                    Ending::Trouble(trouble) => trouble,
                },
                Err(trouble) => trouble,
            };
            self.gauges.clear();
            self.lane.report(OutletState::Stopped(trouble.reason, trouble.detail)).await?;
            self.pause(trouble.reason).await?;
        }
    }

    /// Makes a producer that knows the topic.
    async fn open(&mut self) -> Result<Result<Client, Trouble>, Ended> {
        let config = match properties::producer_config(&self.lane.name, &self.settings, self.window, self.batch_bytes) {
            Ok(config) => config,
            Err(error) => return Ok(Err(Trouble::misconfigured(error.to_string()))),
        };
        let topic = self.settings.topic.clone();
        let mut client = Client::open(config, topic, self.timing.open, Arc::clone(&self.gauges));
        // Between two producers of a lane that is `Up`, orders wait: it would hear of no reason to stop.
        let refusing = self.lane.state != Some(OutletState::Up);
        loop {
            tokio::select! {
                opened = &mut client => {
                    return Ok(opened.unwrap_or_else(|_| Err(Trouble::down("cannot start a thread"))));
                }
                order = self.lane.order(refusing) => self.lane.refuse(order?).await?,
            }
        }
    }

    /// Publishes until the session ends, then answers whatever it left.
    async fn serve(&mut self, client: Client) -> Result<Ending, Ended> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.lane.report(OutletState::Up).await?;
        let batch_bytes = self.batch_bytes;
        let (topic, prefixes) = (self.settings.topic.clone(), self.prefixes.clone());
        let mut session = Session::new(client, topic, batch_bytes, self.timing, prefixes, self.vain > 0);
        let ending = session.run(&mut self.lane).await?;
        if session.delivered_any() {
            self.vain = 0;
        }
        match &ending {
            // Half of what it was, until the culprit is alone in its batch.
            Ending::SmallerBatches => self.batch_bytes = (batch_bytes / 2).max(1),
            Ending::Trouble(trouble) => {
                // The state first: what is answered below must not be handed over again before it is `Up`.
                self.lane.report(OutletState::Stopped(trouble.reason, trouble.detail.clone())).await?;
                self.lane.outcomes(session.abandon(trouble)).await?;
            }
        }
        Ok(ending)
    }

    /// Waits a random part of a time that doubles with each vain try, or until the lane wants to know.
    async fn pause(&mut self, reason: StopReason) -> Result<(), Ended> {
        let longest = match reason {
            StopReason::Misconfigured => self.timing.pause_misconfigured,
            StopReason::Down | StopReason::Blocked => self.timing.pause_down,
        };
        let longest = PAUSE_FIRST.saturating_mul(1 << self.vain.min(16)).min(longest);
        self.vain = self.vain.saturating_add(1);
        let until = Instant::now() + longest.mul_f64(fastrand::f64()).max(PAUSE_MIN);
        loop {
            tokio::select! {
                () = time::sleep_until(until) => return Ok(()),
                order = self.lane.order(true) => match order? {
                    Order::Probe => return Ok(()),
                    order @ Order::Publish(_) => self.lane.refuse(order).await?,
                },
            }
        }
    }
}

/// The lane, as the outlet sees it.
struct LaneEnd {
    name: DestinationName,
    socket: Socket,
    /// What was reported last; `None` before the first report.
    state: Option<OutletState>,
}

impl LaneEnd {
    /// The next order; while none is taken, no more than the news that the lane is gone. Cancel safe.
    async fn order(&mut self, taking: bool) -> Result<Order, Ended> {
        if taking {
            return self.socket.orders.recv().await.ok_or(Ended);
        }
        self.socket.reports.closed().await;
        Err(Ended)
    }

    /// Tells the lane what became of some tries.
    async fn outcomes(&self, outcomes: Vec<(u64, Outcome)>) -> Result<(), Ended> {
        if outcomes.is_empty() {
            return Ok(());
        }
        Ok(self.socket.reports.send(Report::Outcomes(outcomes)).await?)
    }

    /// Gives back what was handed over while nothing can be published.
    async fn refuse(&self, order: Order) -> Result<(), Ended> {
        let Order::Publish(attempts) = order else { return Ok(()) };
        let (reason, detail) = match &self.state {
            Some(OutletState::Stopped(reason, detail)) => (*reason, detail.clone()),
            Some(OutletState::Up) | None => (StopReason::Down, "not connected yet".into()),
        };
        self.outcomes(refused(attempts, reason, &detail)).await
    }

    /// Tells the lane if there is news.
    async fn report(&mut self, state: OutletState) -> Result<(), Ended> {
        if self.state.as_ref() == Some(&state) {
            return Ok(());
        }
        match &state {
            OutletState::Up => info!(destination = %self.name, "Kafka takes records"),
            OutletState::Stopped(reason, words) => {
                warn!(destination = %self.name, reason = reason.as_str(), "{words}; trying again");
            }
        }
        self.state = Some(state.clone());
        Ok(self.socket.reports.send(Report::State { state, since: Timestamp::now() }).await?)
    }
}

/// The ends of tries that were never sent, for a reason that is the lane's.
fn refused(attempts: Vec<Attempt>, reason: StopReason, detail: &str) -> Vec<(u64, Outcome)> {
    let failed = |ticket| (ticket, failed(FailureKind::Lane(reason), detail));
    attempts.into_iter().map(|attempt| failed(attempt.ticket)).collect()
}

fn failed(kind: FailureKind, detail: &str) -> Outcome {
    Outcome::Failed(Failure { kind, detail: detail.into() })
}
