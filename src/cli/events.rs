//! `events`: what came in, and what became of it.

use super::{
    Global, Status,
    client::Client,
    output::print,
    selection::{Page, Words},
    show::{cell, escaped_lines, items, more, payload, personal, table},
};
use clap::{Args, Subcommand};
use serde_json::Value;

/// The arguments of `events`.
#[derive(Debug, Clone, Args)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// The newest first; no payloads
    List(Box<Filter>),
    /// One event: its payload and everything that happened to it
    Show(Show),
}

/// Which events.
#[derive(Debug, Clone, Args)]
struct Filter {
    #[command(flatten)]
    words: Words,
    /// With this id of the vendor's
    #[arg(long)]
    vendor_id: Option<String>,
    /// In this state: received, delivering, delivered, parked, dead, unrouted, discarded, superseded
    #[arg(long)]
    state: Option<String>,
    /// That came so: push, reconcile, poll, report
    #[arg(long)]
    origin: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Clone, Args)]
struct Show {
    /// The event's id, evt_…
    id: String,
    /// Show phone numbers and the like as they are
    #[arg(long)]
    reveal: bool,
}

pub(super) async fn run(global: &Global, args: &EventsArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    match &args.verb {
        Verb::List(filter) => {
            let query = filter.query();
            print(&match global.json {
                true => client.get(&["events"], &query).await? + "\n",
                false => listed(&client.list(&["events"], &query, filter.page.limit).await?),
            })?;
        }
        Verb::Show(show) => {
            let body = client.get(&["events", &show.id], &[]).await?;
            print(&if global.json { body + "\n" } else { shown(&serde_json::from_str(&body)?, show.reveal) })?;
        }
    }
    Ok(Status::Done)
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let own =
            [("vendor_id", self.vendor_id.clone()), ("state", self.state.clone()), ("origin", self.origin.clone())];
        self.page.query(self.words.pairs().into_iter().chain(own))
    }
}

fn listed(list: &Value) -> String {
    let row = |event: &Value| {
        let from = format!("{}/{}", cell(event, "source"), cell(event, "tenant"));
        [
            cell(event, "id"),
            cell(event, "received_at"),
            from,
            cell(event, "type"),
            personal(event, "key", false),
            cell(event, "state"),
        ]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["id", "received at", "from", "type", "key", "state"], &rows) + &more(list)
}

fn shown(event: &Value, reveal: bool) -> String {
    let mut text = String::new();
    let members =
        ["id", "vendor_id", "source", "tenant", "type", "key", "origin", "state", "received_at", "sent_at", "conflict"];
    for member in members {
        let may_be_a_number = ["key", "vendor_id"].contains(&member);
        text += &format!("{member:<12} {}\n", personal(event, member, reveal || !may_be_a_number));
    }
    text += &payload(event, reveal);
    text += "\nTIMELINE\n";
    let steps = event.get("timeline").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let row = |step: &Value| {
        let words = personal(step, "detail", reveal);
        [cell(step, "at"), cell(step, "what"), cell(step, "route"), cell(step, "destination"), words]
    };
    let rows: Vec<_> = steps.iter().map(row).collect();
    escaped_lines(&text) + &table(["at", "what", "route", "destination", "detail"], &rows)
}

#[cfg(test)]
mod tests {
    use super::{listed, shown};
    use serde_json::json;

    #[test]
    fn a_list_says_how_it_goes_on() {
        let event = json!({"id": "evt_1", "received_at": "t", "source": "laigu", "tenant": "acme", "type": "cus.upsert",
            "key": null, "state": "delivered"});
        let text = listed(&json!({"items": [event], "next": "e12"}));
        assert!(text.contains("laigu/acme") && text.contains("cus.upsert"), "{text}");
        assert!(text.ends_with("more with --cursor e12\n"), "{text}");
    }

    #[test]
    fn an_event_is_masked_until_it_is_revealed() {
        let event = json!({"id": "evt_1", "body": "{\"body\":{\"tel\":\"13812345678\",\"weixin\":\"wxid_77\"}}",
            "key": "13812345678", "vendor_id": "13812345678", "timeline": [{"at": "t", "what": "received"}]});
        let hidden = shown(&event, false);
        assert!(!hidden.contains("13812345678") && !hidden.contains("wxid_77"), "{hidden}");
        assert!(hidden.contains("138****5678") && hidden.contains("w***7"), "{hidden}");
        assert_eq!(shown(&event, true).matches("13812345678").count(), 3);
        assert!(listed(&json!({"items": [event]})).contains("138****5678"));
    }
}
