//! `reconcile`: reads a stretch of a tenant's history for pushes that never came.

use super::{
    Global, Status,
    client::Client,
    output::print,
    show::{cell, items, table},
};
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

/// How often the server is asked how far it has come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "The server reads what the vendor's API shows of the stretch and takes what no push has brought \
     through the routes, each once. It goes on when this command ends; called again in the same words it shows how far it \
     is, or takes up what was interrupted.\n\nExample:\n  laigu-router reconcile --source laigu --tenant acme \
     --from 2024-09-01T00:00:00+08:00 --to 2024-09-08T00:00:00+08:00";

/// The arguments of `reconcile`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES, subcommand_negates_reqs = true)]
pub(super) struct ReconcileArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    stretch: Option<Stretch>,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// All that were asked for
    List,
    /// One, with each list that it reads
    Show(Id),
    /// Stop one; what it has found stays
    Cancel(Id),
}

#[derive(Debug, Clone, Args)]
struct Id {
    /// rcn_…
    id: String,
}

#[derive(Debug, Clone, Args)]
struct Stretch {
    /// The source
    #[arg(long)]
    source: String,
    /// Its tenant; it needs `api`, but no `reconcile` section
    #[arg(long)]
    tenant: String,
    /// The beginning, RFC 3339
    #[arg(long)]
    from: String,
    /// The end, RFC 3339 [default: now]
    #[arg(long)]
    to: Option<String>,
    /// Calls at most, such as 1/s; half of the tenant's own rate holds all the same
    #[arg(long)]
    rate: Option<String>,
    /// Begin it and do not wait for its end
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(global: &Global, args: &ReconcileArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    let text = match (&args.verb, &args.stretch) {
        (Some(Verb::List), _) => {
            let body = client.get(&["reconciles"], &[]).await?;
            print(&if global.json { body + "\n" } else { listed(&serde_json::from_str(&body)?) })?;
            return Ok(Status::Done);
        }
        (Some(Verb::Show(Id { id })), _) => client.get(&["reconciles", id], &[]).await?,
        (Some(Verb::Cancel(Id { id })), _) => client.post(&["reconciles", id, "cancel"], None).await?,
        (None, Some(stretch)) => begin(&client, global, stretch).await?,
        (None, None) => anyhow::bail!("say what to read: --source, --tenant and --from, or list, show, cancel"),
    };
    let job: Value = serde_json::from_str(&text)?;
    print(&if global.json { text + "\n" } else { shown(&job) })?;
    let ended_badly = matches!(job.get("state").and_then(Value::as_str), Some("failed"));
    Ok(if ended_badly { Status::No } else { Status::Done })
}

async fn begin(client: &Client, global: &Global, stretch: &Stretch) -> anyhow::Result<String> {
    let request = json!({
        "source": stretch.source,
        "tenant": stretch.tenant,
        "from": stretch.from,
        "to": stretch.to,
        "rate": stretch.rate,
    });
    let mut text = client.post(&["reconciles"], Some(&request)).await?;
    let shows = std::io::stderr().is_terminal() && !global.json;
    loop {
        let job: Value = serde_json::from_str(&text)?;
        let id = job.get("id").and_then(Value::as_str).context("the server's answer has no `id`")?.to_owned();
        let running = job.get("state").and_then(Value::as_str) == Some("running");
        if shows {
            let mut err = std::io::stderr();
            write!(err, "\r{}{}", progress(&job), if running { "" } else { "\n" })?;
            err.flush()?;
        }
        if !running || stretch.detach {
            return Ok(text);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        text = client.get(&["reconciles", &id], &[]).await?;
    }
}

/// `rcn_3  42 %  found 120, new 7, known 113`
fn progress(job: &Value) -> String {
    let share = job.get("progress").and_then(Value::as_f64).unwrap_or_default() * 100.0;
    let count = |member| cell(job, member);
    let (found, emitted, known) = (count("found"), count("emitted"), count("known"));
    format!("{}  {share:.0} %  found {found}, new {emitted}, known {known}   ", cell(job, "id"))
}

fn listed(list: &Value) -> String {
    let row = |one: &Value| {
        let share = one.get("progress").and_then(Value::as_f64).unwrap_or_default() * 100.0;
        [
            cell(one, "id"),
            cell(one, "state"),
            cell(one, "source"),
            cell(one, "tenant"),
            cell(one, "from"),
            cell(one, "to"),
            format!("{share:.0} %"),
            cell(one, "found"),
            cell(one, "emitted"),
            cell(one, "known"),
        ]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["id", "state", "source", "tenant", "from", "to", "read", "found", "new", "known"], &rows)
}

fn shown(job: &Value) -> String {
    let mut text = listed(&json!({"items": [job]})) + "\n";
    let lists = job.get("lists").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let row = |one: &Value| {
        ["list", "done", "read_up_to", "found", "emitted", "known", "passed_over", "last_error"]
            .map(|member| cell(one, member))
    };
    let rows: Vec<_> = lists.iter().map(row).collect();
    text += &table(["list", "done", "read up to", "found", "new", "known", "passed over", "last error"], &rows);
    text += "\nNo list shows these, so they are not looked for:\n";
    for unseen in job.get("unseen").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        text += &format!("- {unseen}\n");
    }
    let (from, since) = (cell(job, "from"), cell(job, "ids_since"));
    if from < since {
        text += &format!(
            "\nIds are kept since {since} only (`storage.retain.ids`): what was pushed before cannot be told from what \
             never came, and went out again.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{progress, shown};
    use serde_json::json;

    #[test]
    fn a_job_is_told_with_what_it_cannot_see() {
        let job = json!({"id": "rcn_3", "state": "done", "source": "laigu", "tenant": "acme", "progress": 0.421,
            "from": "2024-09-01T00:00:00.000Z", "to": "2024-09-02T00:00:00.000Z", "found": 120, "emitted": 7, "known": 113,
            "lists": [{"list": "clients", "done": true, "found": 120}], "unseen": ["calls and tickets"],
            "ids_since": "2024-09-01T12:00:00.000Z"});
        assert_eq!(progress(&job).trim_end(), "rcn_3  42 %  found 120, new 7, known 113");
        let text = shown(&job);
        assert!(text.contains("- calls and tickets") && text.contains("went out again"), "{text}");
        let mut recent = job;
        recent["ids_since"] = json!("2024-08-01T00:00:00.000Z");
        assert!(!shown(&recent).contains("went out again"));
    }
}
