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
    /// Whether there are so many keys, and such a window, that one cause can fail a hundred of them.
    pub wide: bool,
    pub events: usize,
    pub window: usize,
    pub routes: Vec<SimRoute>,
    /// Faults in thousandths of a step.
    pub crash: u32,
    pub commit_fault: u32,
    pub broker_fault: u32,
    pub reload: u32,
    pub operator: u32,
    /// Whether the disk is full for a while, again and again.
    pub full_storms: bool,
    /// Whether events of kind 5 are refused for good by the brokers.
    pub poison: bool,
    /// Whether some stored events are spoiled.
    pub damage: bool,
    /// Whether the clock jumps forward.
    pub jumps: bool,
    /// Whether the vendor has a list of what was pushed, and it is read.
    pub reconciles: bool,
    /// How long segments stay that nobody needs.
    pub keep: Duration,
    /// How many times longer everything takes that a machine waits for.
    pub slowness: u64,
    /// How old an event may become.
    pub max_age: Duration,
    /// How long one waits for a required record.
    pub patience: Duration,
    /// How often an API's mood changes, in thousandths.
    pub api_fault: u32,
}

pub const KINDS: u8 = 6;
// No route takes kind 4.
/// The routes' condition fails on this kind.
pub const BAD_KIND: u8 = 3;
/// Events of this kind need a record, which one route requires.
pub const REQUIRING_KIND: u8 = 2;
/// That route.
pub const REQUIRING_ROUTE: &str = "twice";
/// Destinations there may be.
pub const DESTINATIONS: usize = 3;
/// How long an unroutable delivery is tried.
pub const UNROUTABLE: Duration = Duration::from_secs(3);
/// A common cause needs a hundred keys; with these there are enough.
const WIDE_KEYS: usize = 220;

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
        let wide = rng.u32(..40) == 0;
        let patience = Duration::from_millis(rng.u64(1_000..20_000));
        let api_fault = fault(rng, 60);
        Self {
            patience,
            api_fault,
            partitions: if rng.bool() && !wide { 4 } else { 1 },
            keys: if wide { WIDE_KEYS } else { rng.usize(2..12) },
            hot: rng.u32(..4) == 0 && !wide,
            wide,
            events: if wide { 300 } else { rng.usize(40..140) },
            window: if wide { 120 } else { rng.usize(2..9) },
            routes: vec![
                route("all", 0, &[0, 1, 2, 5]),
                route("some", 1, &[0, 2, 5]),
                // Two routes to one destination.
                route("twice", 1, &[2, 1]),
            ],
            crash: fault(rng, 12),
            commit_fault: fault(rng, 40),
            broker_fault: fault(rng, 60),
            reload: fault(rng, 12),
            operator: fault(rng, 80),
            full_storms: !calm && rng.u32(..6) == 0,
            poison: rng.bool(),
            damage: !calm && rng.u32(..4) == 0,
            jumps: !calm && rng.u32(..6) == 0,
            reconciles: !wide && rng.bool(),
            keep: Duration::from_millis(rng.u64(50..1_500)),
            slowness: match rng.u32(..6) {
                0 => 10,
                1 => 40,
                _ => 1,
            },
            max_age: if !calm && rng.u32(..12) == 0 {
                Duration::from_millis(1_500)
            } else {
                Duration::from_secs(7_200)
            },
        }
    }

    pub fn lane(&self, seed: u64) -> LaneConfig {
        LaneConfig {
            window: self.window,
            read_ahead: self.window * 3,
            retry: Retry {
                max_age: self.max_age,
                backoff_min: Duration::from_millis(20),
                backoff_max: Duration::from_millis(400),
                unroutable: UNROUTABLE,
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
