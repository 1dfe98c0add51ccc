//! A simulated broker with its consumer: what arrived stays there, whatever happens to the process.
//!
//! A RabbitMQ-like one answers tries of a connection one by one and out of order, or many with one ack; a return overtakes
//! the acks before it; a nack may mean that another queue took it; a channel error leaves everything that was out unknown.
//! A Kafka-like one appends what a producer's session sends in order and once, and reports in batches; a fatal error ends the
//! session, and what was out may have been appended, up to a point.

use crate::plan::UNROUTABLE;
use fastrand::Rng;
use laigu_router::{
    destinations::{Outcome, OutletState},
    domain::{DeadCause, Delivery, Failure, FailureKind, ReplayJob, RouteName, StopReason, Timestamp},
    journal::LaneName,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which broker's rules it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    #[default]
    Rabbit,
    Kafka,
}

/// One copy that the consumer saw.
#[derive(Debug, Clone)]
pub struct Copy {
    pub offset: u64,
    pub partition: u16,
    pub route: RouteName,
    pub delivery: String,
    pub event: String,
    pub body: Vec<u8>,
    pub epoch: u32,
    /// The connection, or producer session, that brought it.
    pub session: u32,
    pub replay: Option<ReplayJob>,
}

/// A try of some lane.
pub type Try = (LaneName, u16, u64);

/// A try that its lane has no end of yet.
#[derive(Debug)]
pub struct Open {
    pub delivery: String,
    pub taken: bool,
    /// Whether its end is on the way to the lane.
    pub answered: bool,
}

/// One destination, as the world has it.
#[derive(Debug, Default)]
pub struct Broker {
    pub kind: Kind,
    pub stopped: Option<StopReason>,
    /// Keys whose deliveries nobody is bound for.
    pub unbound: BTreeSet<u64>,
    /// A key that never gets a queue, whatever is made right.
    pub exiled: Option<u64>,
    /// Everything is unbound.
    pub nothing_bound: bool,
    /// One route's deliveries are nacked.
    pub nacked: Option<RouteName>,
    pub refuses_kind_5: bool,
    /// Counts connections: answers of an older one are lost.
    pub connection: u32,
    /// Older connections of which the rest is lost: of a stream, what follows a gap never comes.
    pub cut: BTreeSet<u32>,
    pub consumed: Vec<Copy>,
    /// Deliveries consumed, by what they are.
    pub seen: BTreeSet<(u16, u64, RouteName)>,
    /// Deliveries of which a copy was taken without the process learning it.
    pub unsure: BTreeSet<String>,
    /// Deliveries that were answered so that they had to die.
    pub doomed: BTreeSet<String>,
    /// When deliveries were first returned, in this run of the process.
    pub returned: BTreeMap<String, Timestamp>,
    /// Tries whose end no lane knows yet.
    pub open: BTreeMap<Try, Open>,
    /// Ends that are not told yet, in the order of arrival.
    pub waiting: VecDeque<(Try, Outcome)>,
    /// Things on one connection come in order: when the last one arrives, and when the last answer does.
    pub arrives_at: Timestamp,
    pub told_at: Timestamp,
}

/// What a try meets.
pub enum Meets {
    /// It is taken now, and answered later.
    Taken,
    /// It is taken now, and answered as if it were not.
    TakenBut(FailureKind),
    /// It is answered so.
    Answer(FailureKind),
    /// The channel ends, or the producer does, and with it all that is out.
    Ends,
    /// The destination turns out to be missing.
    Missing,
}

impl Broker {
    pub fn state(&self) -> OutletState {
        match self.stopped {
            None => OutletState::Up,
            Some(reason) => OutletState::Stopped(reason, "planned".into()),
        }
    }

    pub fn meets(&mut self, rng: &mut Rng, delivery: &Delivery, faults: u32) -> Meets {
        if self.refuses_kind_5 && &*delivery.event().kind == "k5" {
            self.doomed.insert(delivery.id().as_str().to_owned());
            return Meets::Answer(FailureKind::Rejected(DeadCause::TooLarge));
        }
        if self.stopped.is_some() {
            return if rng.u32(..4) == 0 { Meets::Missing } else { Meets::Answer(FailureKind::Unknown) };
        }
        let ends = rng.u32(..1_000) < faults / 2;
        if self.kind == Kind::Kafka {
            return if ends { Meets::Ends } else { Meets::Taken };
        }
        let key = delivery.event().order.map_or(0, |order| order.0);
        if self.nothing_bound || self.unbound.contains(&key) || self.exiled == Some(key) {
            return Meets::Answer(FailureKind::Returned);
        }
        if self.nacked.as_ref() == Some(&delivery.target().route) {
            return Meets::Answer(FailureKind::Nacked);
        }
        match rng.u32(..1_000) {
            _ if ends => Meets::Ends,
            roll if roll < faults => Meets::Answer(FailureKind::Nacked),
            roll if roll < faults * 3 / 2 => Meets::TakenBut(FailureKind::Nacked),
            roll if roll < faults * 2 => Meets::Answer(FailureKind::Unknown),
            roll if roll < faults * 3 => Meets::TakenBut(FailureKind::Unknown),
            _ => Meets::Taken,
        }
    }

    /// A lane hears that a delivery was given back: for so long, and it has to die.
    pub fn gave_back(&mut self, delivery: String, now: Timestamp) {
        let first = *self.returned.entry(delivery.clone()).or_insert(now);
        if now.since(first) >= UNROUTABLE {
            self.doomed.insert(delivery);
        }
    }

    pub fn consume(&mut self, delivery: &Delivery, epoch: u32, session: u32) {
        let event = delivery.event();
        let partition = event.position().partition.0;
        self.seen.insert((partition, delivery.routed.offset, delivery.target().route.clone()));
        self.consumed.push(Copy {
            offset: delivery.routed.offset,
            partition,
            route: delivery.target().route.clone(),
            delivery: delivery.id().as_str().to_owned(),
            event: event.id.to_string(),
            body: event.body.to_vec(),
            epoch,
            session,
            replay: delivery.replay,
        });
    }

    /// The process that spoke to it is gone.
    pub fn hung_up(&mut self) {
        self.connection += 1;
        self.open.clear();
        self.waiting.clear();
        self.returned.clear();
    }

    /// Everything is right again.
    pub fn heal(&mut self) {
        self.stopped = None;
        self.unbound.clear();
        self.nacked = None;
        self.nothing_bound = false;
    }
}

pub fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, detail: "planned".into() })
}
