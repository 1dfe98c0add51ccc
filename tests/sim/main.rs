//! The simulator: the machines of `core` under a seed, with every fault a disk, a broker and a crash can bring.
//!
//! `cargo test --test sim` runs 1,000 seeds; `cargo test --test sim -- --seeds 10000 --from 5000` others;
//! `cargo test --test sim -- --seed 42` one, again and exactly. A batch of a thousand seeds or more that misses one of the
//! situations it is there for is void, and fails.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod broker;
mod client;
mod oracle;
mod plan;
mod process;
mod routes;
mod world;

use std::{collections::BTreeMap, panic, process::ExitCode};
use world::World;

/// What a batch must have met.
const MUST_HAPPEN: [&str; 9] = [
    "crash",
    "crash between ROUTED and the router's progress",
    "late data",
    "reload adds a destination, then a crash",
    "reload removes a destination",
    "rollback",
    "roll",
    "sync error",
    "two routes to one destination, one stuck",
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut from, mut count) = (0_u64, 1_000_u64);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("a number follows");
        match argument.as_str() {
            "--seed" => (from, count) = (number(), 1),
            "--seeds" => count = number(),
            "--from" => from = number(),
            // What cargo passes to every test program.
            _ => {}
        }
    }
    let mut hits: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed = 0_u64;
    for seed in from..from + count {
        let run = panic::catch_unwind(|| {
            let mut world = World::new(seed);
            let end = world.run().and_then(|()| oracle::judge(&world));
            (end, world.hits)
        });
        let (end, seed_hits) = run.unwrap_or_else(|_| (Err("panicked".to_owned()), BTreeMap::new()));
        for (what, times) in seed_hits {
            *hits.entry(what).or_default() += times;
        }
        if let Err(why) = end {
            failed += 1;
            println!("seed {seed}: {why}\n  again: cargo test --test sim -- --seed {seed}");
        }
    }
    for (what, times) in &hits {
        println!("{times:>9}  {what}");
    }
    let missing: Vec<_> = MUST_HAPPEN.iter().filter(|what| !hits.contains_key(*what)).collect();
    let void = count >= 1_000 && !missing.is_empty();
    if void {
        println!("void: no seed met {missing:?}");
        failed += 1;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let passed = count.saturating_sub(failed);
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
