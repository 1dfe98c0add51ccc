//! The simulator: the machines of `core` under a seed, with every fault a disk, a broker and a crash can bring.
//!
//! `cargo test --test sim` runs 1,000 seeds; `cargo test --test sim -- --seeds 10000 --from 5000` others;
//! `cargo test --test sim -- --seed 42` one, again and exactly. A batch of a thousand seeds or more that misses one of the
//! situations it is there for is void, and fails.

#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

mod broker;
mod client;
mod enrich;
mod fate;
mod feed;
mod keeper;
mod lanes;
mod operator;
mod oracle;
mod outlets;
mod plan;
mod process;
mod routes;
mod store;
mod targets;
mod watch;
mod world;
mod writer;

use std::{collections::BTreeMap, panic, process::ExitCode};
use world::World;

/// What a batch must have met.
const MUST_HAPPEN: &[&str] = &[
    "a common cause stops a lane",
    "a dead letter holds a key",
    "a discard releases a key",
    "a fatal error ends a producer",
    "a found record finds no room",
    "a found record had been found before",
    "a found record had been pushed",
    "a hot key goes by the shelf",
    "a channel error fails all in flight",
    "a lane goes on after a common cause",
    "a late outcome of an old try",
    "a list begins anew",
    "a list has another page",
    "a push comes after its record was sealed",
    "a push comes after its record went out",
    "a push comes after its record, and after a restart",
    "a push comes again after its segment was sealed",
    "a record goes out that no push had brought",
    "a record is missing",
    "a removed destination comes back",
    "a removed destination has a shelf",
    "a parked event is looked at again after a crash",
    "a required record comes after its key was parked",
    "a required record never comes",
    "a replay ends",
    "a replay is taken up again",
    "a replay releases a key",
    "a return overtakes acks",
    "a session repeats what another left unknown",
    "a settlement finds no room",
    "a storm of full disks",
    "an API answers what cannot be read",
    "an API does not have the record",
    "an API fails",
    "an API goes on showing an older record",
    "an API is dead",
    "an API is slow",
    "an API limits us",
    "an API refuses a request",
    "an API refuses the credentials",
    "an ack out of order",
    "an event is damaged",
    "an offset is given again to another event",
    "an operator cancels a replay",
    "an operator pauses a lane",
    "an outlet is replaced, and answers are lost",
    "crash between ROUTED and the router's progress",
    "crash between ROUTED and the router's progress, across a roll",
    "crash between a found record and the watermark",
    "crash between the decision on a parked event and its leaving the shelf",
    "crash in sealing: collect",
    "crash in sealing: load",
    "crash in sealing: rename",
    "crash in sealing: sync",
    "crash in sealing: sync folder",
    "crash in sealing: write",
    "delivery reports in a batch",
    "late data",
    "nacked, and taken by another queue",
    "one ack for many",
    "other credentials open a gate",
    "reload adds a destination, then a crash",
    "reload removes a destination",
    "retention takes segments",
    "retention waits for a late-routed event",
    "retention waits for a parked event",
    "rollback",
    "sync error",
    "a row comes from the shelf that has left it",
    "the time of what is given back is up",
    "the clock jumps forward",
    "two replays of one dead letter",
    "two routes to one destination, one stuck",
];

/// Seeds that once found something, and what; they run first.
const REGRESSIONS: &[(u64, &str)] =
    &[(1, "ids of the batch that began a segment were forgotten when the one before was sealed")];

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
    let regressions: &[(u64, &str)] = if count > 1 { REGRESSIONS } else { &[] };
    let seeds = regressions.iter().map(|(seed, _)| *seed).chain(from..from + count);
    for seed in seeds {
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
            if let Some((_, before)) = REGRESSIONS.iter().find(|(known, _)| *known == seed) {
                println!("seed {seed} once found: {before}");
            }
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
    let passed = (count + regressions.len() as u64).saturating_sub(failed);
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
