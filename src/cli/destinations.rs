//! `destinations`: how they are, and holding one back.

use super::{
    Global, Status,
    client::Client,
    output::print,
    show::{cell, items, table},
};
use clap::{Args, Subcommand};
use serde_json::Value;

/// The arguments of `destinations`.
#[derive(Debug, Clone, Args)]
pub(super) struct DestinationsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// All of them, with state and lag
    List,
    /// Publish nothing there until `resume`; nothing is lost, the backlog grows
    Pause(Name),
    /// Go on; what the file says to declare is declared again
    Resume(Name),
}

#[derive(Debug, Clone, Args)]
struct Name {
    /// The destination
    name: String,
}

pub(super) async fn run(global: &Global, args: &DestinationsArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    let (name, verb, done) = match &args.verb {
        Verb::List => {
            let body = client.get(&["destinations"], &[]).await?;
            print(&if global.json { body + "\n" } else { listed(&serde_json::from_str(&body)?) })?;
            return Ok(Status::Done);
        }
        Verb::Pause(Name { name }) => (name, "pause", "is paused"),
        Verb::Resume(Name { name }) => (name, "resume", "goes on"),
    };
    let body = client.post(&["destinations", name, verb], None).await?;
    print(&if global.json { body + "\n" } else { format!("{name} {done}\n") })?;
    Ok(Status::Done)
}

fn listed(list: &Value) -> String {
    let row = |one: &Value| {
        let lag = one.get("lag_seconds").and_then(Value::as_f64).unwrap_or_default();
        [
            cell(one, "name"),
            cell(one, "type"),
            cell(one, "state"),
            cell(one, "lag_events"),
            format!("{lag:.1}s"),
            cell(one, "parked_keys"),
            cell(one, "since"),
            cell(one, "last_error"),
        ]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["name", "type", "state", "lag", "age", "parked", "since", "last error"], &rows)
}
