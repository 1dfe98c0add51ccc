//! `replay`: sends dead letters, or events that are kept, once more; `replay list` and the like look after what runs.

use super::{
    Global, Status,
    client::Client,
    output::print,
    selection::{Page, Words, selection},
    show::{cell, items, more, table, without_phones},
};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// How often a replay that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The arguments of `replay`.
#[derive(Debug, Clone, Args)]
pub(super) struct ReplayArgs {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// All replays, the newest first
    List(Page),
    /// One replay
    Show(Id),
    /// Hold one; it stays where it is, over restarts too
    Pause(Id),
    /// Let one go on
    Resume(Id),
    /// End one; what it has not sent is dead letters again
    Cancel(Id),
}

#[derive(Debug, Clone, Args)]
struct Id {
    /// The replay's id, rep_…
    id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Of {
    /// What could not be delivered
    DeadLetters,
    /// Everything that is kept
    Events,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Routes {
    /// Those that decided when the event came
    AsRouted,
    /// Those in force now
    Today,
}

#[derive(Debug, Clone, Args)]
struct Start {
    /// These: dl_…, or with --of events evt_…
    #[arg(value_name = "ID", value_parser = id)]
    ids: Vec<String>,
    /// What is sent once more
    #[arg(long, value_enum, default_value = "dead-letters")]
    of: Of,
    #[command(flatten)]
    words: Words,
    /// Dead letters of this cause, such as unroutable or unparsable
    #[arg(long)]
    cause: Option<String>,
    /// Events in this state, such as unrouted
    #[arg(long)]
    state: Option<String>,
    /// Only what was for this destination
    #[arg(long, value_name = "DESTINATION")]
    only_destination: Option<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Which routes decide
    #[arg(long, value_enum, default_value = "as-routed")]
    routes: Routes,
    /// Only events that went out without a record their route asks for: fetch it now, and send them with it
    #[arg(long, conflicts_with = "routes")]
    refresh: bool,
    /// Send it there instead; may be given several times
    #[arg(long = "destination", value_name = "DESTINATION")]
    destinations: Vec<String>,
    /// Deliveries at most per time, such as 500/s
    #[arg(long)]
    rate: Option<String>,
    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end; --json never does
    #[arg(long)]
    detach: bool,
}

/// A misspelt verb is no id.
fn id(text: &str) -> Result<String, &'static str> {
    let known = ["dl_", "evt_"].iter().any(|prefix| text.starts_with(prefix));
    if known { Ok(text.to_owned()) } else { Err("an id begins with `dl_`, or with --of events `evt_`") }
}

pub(super) async fn run(global: &Global, args: &ReplayArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    let (id, verb) = match &args.verb {
        None => return start(global, &client, &args.start).await,
        Some(Verb::List(page)) => {
            let query = page.query([]);
            print(&match global.json {
                true => client.get(&["replays"], &query).await? + "\n",
                false => listed(&client.list(&["replays"], &query, page.limit).await?),
            })?;
            return Ok(Status::Done);
        }
        Some(Verb::Show(Id { id })) => (id, None),
        Some(Verb::Pause(Id { id })) => (id, Some("pause")),
        Some(Verb::Resume(Id { id })) => (id, Some("resume")),
        Some(Verb::Cancel(Id { id })) => (id, Some("cancel")),
    };
    let body = match verb {
        None => client.get(&["replays", id], &[]).await?,
        Some(verb) => client.post(&["replays", id, verb], None).await?,
    };
    print(&if global.json { body + "\n" } else { shown(&serde_json::from_str(&body)?) })?;
    Ok(Status::Done)
}

impl Start {
    fn body(&self) -> anyhow::Result<Map<String, Value>> {
        let mut filters = self.words.pairs().to_vec();
        filters.push(("cause", self.cause.clone()));
        filters.push(("state", self.state.clone()));
        filters.push(("destination", self.only_destination.clone()));
        let mut body = selection(&self.ids, filters, self.all)?;
        let of = if self.refresh || self.of == Of::Events { "events" } else { "dead-letters" };
        let routes = if self.routes == Routes::Today { "today" } else { "as-routed" };
        body.extend([("of".to_owned(), json!(of)), ("routes".to_owned(), json!(routes))]);
        if self.refresh {
            body.insert("refresh".to_owned(), json!(true));
        }
        if !self.destinations.is_empty() {
            body.insert("destinations".to_owned(), json!(self.destinations));
        }
        if let Some(rate) = &self.rate {
            body.insert("rate".to_owned(), json!(rate));
        }
        if self.dry_run {
            body.insert("dry_run".to_owned(), json!(true));
        }
        Ok(body)
    }
}

async fn start(global: &Global, client: &Client, start: &Start) -> anyhow::Result<Status> {
    let body = Value::Object(start.body()?);
    let answer = client.post(&["replays"], Some(&body)).await?;
    if global.json {
        print(&(answer + "\n"))?;
        return Ok(Status::Done);
    }
    let mut job: Value = serde_json::from_str(&answer)?;
    if start.dry_run {
        print(&previewed(&job))?;
        return Ok(Status::Done);
    }
    let id = cell(&job, "id");
    let mut progress = Progress::default();
    while !start.detach && !is_over(&job) {
        if cell(&job, "state") == "paused" {
            break;
        }
        progress.show(&job);
        tokio::time::sleep(LOOK_EVERY).await;
        job = serde_json::from_str(&client.get(&["replays", &id], &[]).await?)?;
    }
    progress.end();
    print(&shown(&job))?;
    let went_well = !is_over(&job) || (cell(&job, "state") == "done" && number(&job, "failed") == 0);
    Ok(if went_well { Status::Done } else { Status::No })
}

/// The line that a terminal shows while a replay runs.
#[derive(Debug, Default)]
struct Progress {
    shown: bool,
}

impl Progress {
    fn show(&mut self, job: &Value) {
        let mut out = io::stderr();
        if !out.is_terminal() {
            return;
        }
        let (matched, left) = (number(job, "matched"), number(job, "remaining"));
        let (state, failed) = (cell(job, "state"), number(job, "failed"));
        let trouble = cell(job, "last_error");
        let trouble = if trouble == "-" { String::new() } else { format!(" · {}", without_phones(&trouble)) };
        let line = format!("{state}: {} of {matched} sent, {failed} failed{trouble}", matched.saturating_sub(left));
        let line: String = line.chars().filter(|c| !c.is_control()).take(150).collect();
        // Nobody looks: the replay goes on all the same.
        let _ = write!(out, "\r\x1b[K{line}").and_then(|()| out.flush());
        self.shown = true;
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn number(of: &Value, member: &str) -> u64 {
    of.get(member).and_then(Value::as_u64).unwrap_or_default()
}

fn is_over(job: &Value) -> bool {
    ["done", "cancelled", "failed"].contains(&cell(job, "state").as_str())
}

fn listed(list: &Value) -> String {
    let row = |one: &Value| {
        ["id", "state", "of", "matched", "delivered", "failed", "remaining", "created_at", "created_by"]
            .map(|member| cell(one, member))
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    let titles = ["id", "state", "of", "matched", "delivered", "failed", "remaining", "created at", "by"];
    table(titles, &rows) + &more(list)
}

fn shown(job: &Value) -> String {
    let members = [
        "id",
        "state",
        "since",
        "of",
        "routes",
        "rate",
        "matched",
        "delivered",
        "failed",
        "remaining",
        "kept",
        "gone",
        "created_at",
        "created_by",
        "last_error",
    ];
    let line = |member: &&str| format!("{member:<12} {}\n", without_phones(&cell(job, member)));
    super::show::escaped_lines(&members.iter().map(line).collect::<String>())
}

fn previewed(preview: &Value) -> String {
    let mut text = format!("{} deliveries would be made\n", number(preview, "matched"));
    let by_route = preview.get("by_route").and_then(Value::as_object);
    let rows: Vec<_> =
        by_route.into_iter().flatten().map(|(route, count)| [route.clone(), count.to_string()]).collect();
    if !rows.is_empty() {
        text += &table(["route", "deliveries"], &rows);
    }
    for (member, words) in [
        ("kept", "dead letters would stay: today's routes send them nowhere, or they die again"),
        ("gone", "rows are gone: retention has taken them"),
    ] {
        let count = number(preview, member);
        if count > 0 {
            text += &format!("{count} {words}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{listed, previewed, shown};
    use serde_json::json;

    #[test]
    fn a_preview_and_a_job_say_what_counts() {
        let text = previewed(&json!({"matched": 3, "by_route": {"leads": 2, "all": 1}, "kept": 1, "gone": 0}));
        assert!(
            text.starts_with("3 deliveries") && text.contains("leads") && text.contains("1 dead letters"),
            "{text}"
        );
        assert!(!text.contains("gone"), "{text}");
        let job = json!({"id": "rep_1", "state": "running", "matched": 3, "last_error": "to 13812345678"});
        assert!(shown(&job).contains("138****5678"), "{}", shown(&job));
        assert!(listed(&json!({"items": [job], "next": null})).contains("rep_1"));
    }
}
