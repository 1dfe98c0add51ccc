//! The load program: pushes signed events at the frozen floor and at the real program, in one run, and prints what
//! each did and its ratio to the floor.
//!
//! `cargo bench --bench load -- --help` says how. `docs/benchmarks.md` says how to read it.
#![allow(clippy::indexing_slicing, reason = "offsets are our own; a panic ends a bench, not a service")]

mod bare;
mod case;
mod client;
mod floor;
mod measure;
mod options;
mod push;
mod server;
mod table;

use options::Options;
use table::Table;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, port] = arguments.as_slice()
        && mode == measure::FLOOR_MODE
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
    let mut lagging = false;
    for connections in &options.connections {
        let mut table = Table::begin();
        for case in &options.cases {
            let measured = measure::measure(*case, *connections, &options)?;
            table.row(*case, *connections, &measured);
        }
        println!();
        lagging |= table.is_lagging();
    }
    if lagging {
        println!("What fell behind says nothing about throughput: do not record it.");
        std::process::exit(1);
    }
    Ok(())
}
