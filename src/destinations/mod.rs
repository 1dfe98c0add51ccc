//! The outlets of the lanes: RabbitMQ, Kafka, files.
//!
//! A lane never waits for a broker. It hands tries to an outlet and hears what became of them; the outlet owns
//! its connection, keeps it alive, and tells in which state it is. Who tries again, and when, is the lane's to
//! decide ([`crate::core::lane`], [`crate::core::retry`]): an outlet never repeats a publish by itself.
//!
//! What the lane promises an outlet: at most `window` tries are out at a time, at most one of any ordering key,
//! and nothing is handed over between a report of [`OutletState::Stopped`] and the next [`OutletState::Up`]
//! except single probes of what was handed over before.
//!
//! What an outlet promises the lane: exactly one [`Report::Outcomes`] for every ticket, within a deadline of its
//! own (at the latest when the connection is given up), and before it reports `Up` again.

pub mod file;
pub mod kafka;
pub mod message;
pub mod rabbitmq;
pub mod splice;
pub mod traceparent;

#[cfg(test)]
pub(crate) mod fixtures;

use crate::{
    config::settings::DestinationKind,
    domain::{Attempt, DestinationName, Failure, StopReason, Timestamp},
};
use std::{
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
};
use tokio::sync::mpsc;

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered, in the sense of the contract; the answer is short and goes into the receipt.
    Taken {
        /// Such as `ack` or `partition 3 offset 17`.
        answer: Box<str>,
    },
    /// Not delivered, or not known.
    Failed(Failure),
}

/// Whether an outlet can publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutletState {
    /// It can.
    Up,
    /// It cannot; the reason, and what the other side said.
    Stopped(StopReason, Box<str>),
}

/// What an outlet tells its lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The ends of some tries, by ticket.
    Outcomes(Vec<(u64, Outcome)>),
    /// Its state, at the start and whenever it changes, or its words do.
    State {
        /// The state.
        state: OutletState,
        /// Since when.
        since: Timestamp,
    },
}

/// What a lane tells its outlet.
#[derive(Debug)]
pub enum Order {
    /// Publish these, in this order.
    Publish(Vec<Attempt>),
    /// Try at once whether the destination takes things again (`resume`, reload): declares again what it may.
    Probe,
}

/// What every outlet is started with, beside the settings of its kind.
///
/// Each kind has a `start(common: Common, settings: &…) -> (Outlet, OutletTask)` that returns at once: what is
/// wrong with the destination is reported, not returned.
#[derive(Debug, Clone)]
pub struct Common {
    /// The destination, for log lines and names of connections.
    pub name: DestinationName,
    /// How many tries may be out at a time.
    pub window: usize,
    /// What stands before the types of events.
    pub prefixes: message::TypePrefixes,
}

/// What an outlet does, for the caller to spawn where someone waits for it. It ends soon after the lane's end of
/// the outlet is dropped, and not before.
pub type OutletTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts the outlet of a destination, whatever its kind.
#[must_use]
pub fn start(common: Common, kind: &DestinationKind) -> (Outlet, OutletTask) {
    match kind {
        DestinationKind::RabbitMq(settings) => rabbitmq::start(common, settings),
        DestinationKind::Kafka(settings) => kafka::start(common, settings),
        DestinationKind::File(settings) => file::start(common, settings),
    }
}

/// Starts a second outlet of a destination, for a replay: it declares nothing, and leaves files to the first.
#[must_use]
pub fn start_beside(common: Common, kind: &DestinationKind) -> (Outlet, OutletTask) {
    match kind {
        DestinationKind::RabbitMq(settings) => {
            let mut settings = settings.clone();
            settings.exchange.declare = false;
            rabbitmq::start(common, &settings)
        }
        DestinationKind::Kafka(settings) => kafka::start(common, settings),
        DestinationKind::File(settings) => file::start_beside(common, settings),
    }
}

/// The lane's end of an outlet. Dropping it ends the outlet's task, which may leave tries unanswered.
#[derive(Debug)]
pub struct Outlet {
    /// Orders; holds at most one order for each free place of the window, so that sending never waits long.
    pub orders: mpsc::Sender<Order>,
    /// Reports, in order.
    pub reports: mpsc::Receiver<Report>,
    /// How many tries may be out at a time.
    pub window: usize,
    /// What its client says of itself.
    pub vitals: Vitals,
}

/// What the client below an outlet says of itself, for the metrics.
#[derive(Debug, Clone, Default)]
pub struct Vitals {
    /// Connections, or producers, opened so far: 1 is a destination that never failed.
    pub sessions: Arc<AtomicU64>,
    /// librdkafka's own statistics.
    pub kafka: Option<Arc<kafka::gauges::Gauges>>,
}

/// The outlet's own end.
#[derive(Debug)]
pub struct Socket {
    /// Orders from the lane; closed when the lane is gone.
    pub orders: mpsc::Receiver<Order>,
    /// Reports to the lane.
    pub reports: mpsc::Sender<Report>,
}

/// Connects a lane and an outlet.
///
/// Both channels are bounded: a lane that is behind holds its outlet back, and the other way round. The lane
/// reads reports before it sends orders, so that the two cannot wait for each other.
#[must_use]
pub fn outlet(window: usize) -> (Outlet, Socket) {
    let (orders, orders_in) = mpsc::channel(window.max(1));
    let (reports, reports_in) = mpsc::channel(window.max(16));
    let vitals = Vitals::default();
    (Outlet { orders, reports: reports_in, window, vitals }, Socket { orders: orders_in, reports })
}
