//! The load program: pushes signed events at the frozen floor and at the real program, in one run, and prints what
//! each did and its ratio to the floor.
//!
//! `cargo bench --bench load -- --help` says how. `docs/benchmarks.md` says how to read it.
#![allow(clippy::indexing_slicing, reason = "offsets are our own; a panic ends a bench, not a service")]

mod bare;
mod bare_file;
mod case;
mod client;
mod floor;
mod measure;
mod options;
mod plan;
mod push;
mod server;
mod table;

use anyhow::Context;
use case::Case;
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
        "{} s after {} s warm-up, {} keys, bodies of {} bytes, {} load thread(s), {}; {}\n",
        options.duration.as_secs_f64(),
        options.warm_up.as_secs_f64(),
        options.keys,
        options.body_bytes,
        options.threads,
        options.rate.map_or("closed loop".to_owned(), |rate| format!("{rate} pushes/s")),
        plan::machine(),
    );
    let mut lagging = false;
    for part in plan::parts(&options) {
        let mut table = Table::begin();
        for case in part.cases {
            for stored in &part.stored {
                let mut options = options.clone();
                if matches!(case, Case::Half | Case::Draining) {
                    let whole = table.rate(Case::Cel).or(table.rate(Case::File));
                    options.rate = Some(whole.context("`half` and `draining` come after `file` or `cel`")? / 2.0);
                }
                let measured = measure::measure(case, part.connections, *stored, &options)?;
                table.row(case, part.connections, &measured);
            }
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
