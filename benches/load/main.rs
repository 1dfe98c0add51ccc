//! The load program: pushes signed events at the frozen floor and at the real program, in one run, and prints what
//! each did and its ratio to the floor.
//!
//! `cargo bench --bench load -- --help` says how. `docs/benchmarks.md` says how to read it.
#![allow(clippy::indexing_slicing, reason = "offsets are our own; a panic ends a bench, not a service")]

mod client;
mod floor;
mod options;
mod push;
mod scenario;
mod server;

use options::Options;
use scenario::{Scenario, measure};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, port] = arguments.as_slice()
        && mode == scenario::FLOOR_MODE
    {
        return floor::serve(port.parse()?, push::SECRET);
    }
    let Some(options) = Options::parse(&arguments)? else {
        println!("{}", options::HELP);
        return Ok(());
    };
    println!(
        "{} s after {} s warm-up, {} keys, bodies of {} bytes, {} load thread(s), {}\n",
        options.duration.as_secs_f64(),
        options.warm_up.as_secs_f64(),
        options.keys,
        options.body_bytes,
        options.threads,
        options.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} pushes/s")),
    );
    println!(
        "| what | connections | req/s | of the floor | p50 ms | p99 ms | CPU µs/event | load's µs | written B/event | peak MiB | lag s | caught up s |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut lagging = false;
    for connections in &options.connections {
        let mut floor = None;
        for scenario in &options.scenarios {
            let measured = measure(*scenario, *connections, &options)?;
            if *scenario == Scenario::Floor {
                floor = Some(measured.per_second);
            }
            println!("{}", measured.row(*scenario, *connections, floor));
            lagging |= measured.is_lagging();
        }
    }
    if lagging {
        println!("\nA run whose lag grew says nothing about throughput: do not record it.");
        std::process::exit(1);
    }
    Ok(())
}
