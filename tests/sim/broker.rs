//! A simulated broker with its consumer: what arrived stays there, whatever happens to the process.

use fastrand::Rng;
use laigu_router::{
    destinations::{Outcome, OutletState},
    domain::{DeadCause, Delivery, Failure, FailureKind, RouteName, StopReason},
};
use std::collections::BTreeSet;

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
}

/// One destination, as the world has it.
#[derive(Debug, Default)]
pub struct Broker {
    pub stopped: Option<StopReason>,
    /// Keys whose deliveries nobody is bound for.
    pub unbound: BTreeSet<u64>,
    /// Everything is unbound.
    pub nothing_bound: bool,
    /// One route's deliveries are nacked.
    pub nacked: Option<RouteName>,
    pub refuses_kind_5: bool,
    /// Counts connections: answers of an older one are lost.
    pub connection: u32,
    pub consumed: Vec<Copy>,
    /// Deliveries of which a copy was taken without the process learning it.
    pub unsure: BTreeSet<String>,
    /// Tries that are out on the present connection: (partition, ticket).
    pub out: BTreeSet<(u16, u64)>,
}

/// What a try meets.
pub enum Meets {
    /// It is taken now, and answered later.
    Taken,
    /// It is taken now, and the answer is lost.
    TakenSilently,
    /// It is lost on the way.
    Lost,
    /// It is answered so.
    Answer(FailureKind),
}

impl Broker {
    pub fn state(&self) -> OutletState {
        match self.stopped {
            None => OutletState::Up,
            Some(reason) => OutletState::Stopped(reason, "planned".into()),
        }
    }

    pub fn meets(&self, rng: &mut Rng, delivery: &Delivery, faults: u32) -> Meets {
        if self.refuses_kind_5 && &*delivery.event().kind == "k5" {
            return Meets::Answer(FailureKind::Rejected(DeadCause::TooLarge));
        }
        if self.stopped.is_some() {
            return if rng.u32(..4) == 0 { Meets::TakenSilently } else { Meets::Lost };
        }
        let key = delivery.event().order.map_or(0, |order| order.0);
        if self.nothing_bound || self.unbound.contains(&key) {
            return Meets::Answer(FailureKind::Returned);
        }
        if self.nacked.as_ref() == Some(&delivery.target().route) {
            return Meets::Answer(FailureKind::Nacked);
        }
        match rng.u32(..1_000) {
            roll if roll < faults => Meets::Answer(FailureKind::Nacked),
            roll if roll < faults * 2 => Meets::Answer(FailureKind::Unknown),
            roll if roll < faults * 3 => Meets::TakenSilently,
            _ => Meets::Taken,
        }
    }

    pub fn consume(&mut self, delivery: &Delivery, epoch: u32) {
        let event = delivery.event();
        self.consumed.push(Copy {
            offset: delivery.routed.offset,
            partition: event.position().partition.0,
            route: delivery.target().route.clone(),
            delivery: delivery.id().as_str().to_owned(),
            event: event.id.to_string(),
            body: event.body.to_vec(),
            epoch,
        });
    }
}

pub fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure { kind, detail: "planned".into() })
}
