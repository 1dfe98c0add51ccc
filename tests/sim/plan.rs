//! What a seed decides before the first step: sizes, faults, routes.

use fastrand::Rng;
use laigu_router::{
    config::settings::Retry,
    core::lane::LaneConfig,
    domain::{DestinationName, RouteName},
};
use std::time::Duration;

/// One generation's routes: a route takes the kinds it names to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimRoute {
    pub name: RouteName,
    pub destination: DestinationName,
    pub kinds: Vec<u8>,
}

/// Everything a seed decides beforehand.
#[derive(Debug)]
pub struct Plan {
    pub partitions: u16,
    pub keys: usize,
    /// Whether one key has nine tenths of the events.
    pub hot: bool,
    pub events: usize,
    pub window: usize,
    pub routes: Vec<SimRoute>,
    /// Faults in thousandths of a step.
    pub crash: u32,
    pub commit_fault: u32,
    pub broker_fault: u32,
    pub reload: u32,
    /// Whether events of kind 5 are refused for good by the brokers.
    pub poison: bool,
}

pub const KINDS: u8 = 6;
// No route takes kind 4.
/// The routes' condition fails on this kind.
pub const BAD_KIND: u8 = 3;

pub fn destination(number: usize) -> DestinationName {
    DestinationName::parse(&format!("d{number}")).expect("a good name")
}

pub fn route(name: &str, number: usize, kinds: &[u8]) -> SimRoute {
    let name = RouteName::parse(name).expect("a good name");
    SimRoute { name, destination: destination(number), kinds: kinds.to_vec() }
}

impl Plan {
    pub fn draw(rng: &mut Rng) -> Self {
        let calm = rng.u32(..10) == 0;
        let fault = |rng: &mut Rng, up_to| if calm { 0 } else { rng.u32(..up_to) };
        Self {
            partitions: if rng.bool() { 1 } else { 4 },
            keys: rng.usize(2..12),
            hot: rng.u32(..4) == 0,
            events: rng.usize(40..160),
            window: rng.usize(2..9),
            routes: vec![
                route("all", 0, &[0, 1, 2, 5]),
                route("some", 1, &[0, 2]),
                // Two routes to one destination.
                route("twice", 1, &[2, 1]),
            ],
            crash: fault(rng, 12),
            commit_fault: fault(rng, 40),
            broker_fault: fault(rng, 60),
            reload: fault(rng, 12),
            poison: rng.bool(),
        }
    }

    pub fn lane(&self, seed: u64) -> LaneConfig {
        LaneConfig {
            window: self.window,
            read_ahead: self.window * 3,
            retry: Retry {
                max_age: Duration::from_secs(3_600),
                backoff_min: Duration::from_millis(20),
                backoff_max: Duration::from_millis(400),
                unroutable: Duration::from_secs(3),
            },
            rate: None,
            receipts: true,
            shelf: true,
            common_cause: true,
            settle_every: Duration::from_millis(seed % 6),
            seed,
        }
    }
}
