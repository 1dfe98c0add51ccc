//! `events`: what came in, and what became of it.

use super::{
    Global, Status,
    client::Client,
    output::print,
    show::{cell, escaped_lines, items, mask, table, without_phones},
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
    /// From this source
    #[arg(long)]
    source: Option<String>,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Of this type, such as cus.upsert
    #[arg(long = "type")]
    kind: Option<String>,
    /// About this: a track_id or conv_id
    #[arg(long)]
    key: Option<String>,
    /// With this id of the vendor's
    #[arg(long)]
    vendor_id: Option<String>,
    /// In this state: received, delivering, delivered, parked, dead, unrouted, discarded, superseded
    #[arg(long)]
    state: Option<String>,
    /// That came so: push, reconcile, poll, report
    #[arg(long)]
    origin: Option<String>,
    /// That this route took
    #[arg(long)]
    route: Option<String>,
    /// Received at or after this time, RFC 3339
    #[arg(long)]
    from: Option<String>,
    /// Received before this time, RFC 3339
    #[arg(long)]
    to: Option<String>,
    /// At most so many; with --json one page, at most 500
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
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
                false => listed(&client.list(&["events"], &query, filter.limit).await?),
            })?;
        }
        Verb::Show(show) => {
            let body = client.get(&["events", &show.id], &[]).await?;
            print(&if global.json { body + "\n" } else { shown(serde_json::from_str(&body)?, show.reveal) })?;
        }
    }
    Ok(Status::Done)
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, String)> {
        let limit = Some(self.limit.to_string());
        [
            ("source", &self.source),
            ("tenant", &self.tenant),
            ("type", &self.kind),
            ("key", &self.key),
            ("vendor_id", &self.vendor_id),
            ("state", &self.state),
            ("origin", &self.origin),
            ("route", &self.route),
            ("from", &self.from),
            ("to", &self.to),
            ("cursor", &self.cursor),
            ("limit", &limit),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}

/// What is said below a list that goes on.
pub(super) fn more(list: &Value) -> String {
    match list.get("next").and_then(Value::as_str) {
        Some(cursor) => format!("more with --cursor {cursor}\n"),
        None => String::new(),
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
            cell(event, "key"),
            cell(event, "state"),
        ]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["id", "received at", "from", "type", "key", "state"], &rows) + &more(list)
}

fn shown(mut event: Value, reveal: bool) -> String {
    let mut text = String::new();
    let members =
        ["id", "vendor_id", "source", "tenant", "type", "key", "origin", "state", "received_at", "sent_at", "conflict"];
    for member in members {
        text += &format!("{member:<12} {}\n", cell(&event, member));
    }
    text += &payload(&mut event, reveal);
    text += "\nTIMELINE\n";
    let steps = event.get("timeline").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let row = |step: &Value| {
        let words = cell(step, "detail");
        let words = if reveal { words } else { without_phones(&words) };
        [cell(step, "at"), cell(step, "what"), cell(step, "route"), cell(step, "destination"), words]
    };
    let rows: Vec<_> = steps.iter().map(row).collect();
    escaped_lines(&text) + &table(["at", "what", "route", "destination", "detail"], &rows)
}

/// The payload, masked unless it is to be revealed.
pub(super) fn payload(of: &mut Value, reveal: bool) -> String {
    let Some(body) = of.get("body").and_then(Value::as_str) else {
        return match of.get("body_base64") {
            Some(Value::String(text)) => format!("\nBODY (no text; base64)\n{text}\n"),
            _ => String::new(),
        };
    };
    let shown = match (reveal, serde_json::from_str::<Value>(body)) {
        (true, _) => body.to_owned(),
        (false, Ok(mut value)) => {
            mask(&mut value);
            serde_json::to_string_pretty(&value).unwrap_or_default()
        }
        (false, Err(_)) => without_phones(body),
    };
    format!("\nBODY\n{}\n", shown.trim_end())
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
            "timeline": [{"at": "t", "what": "received"}]});
        let hidden = shown(event.clone(), false);
        assert!(!hidden.contains("13812345678") && !hidden.contains("wxid_77"), "{hidden}");
        assert!(hidden.contains("138****5678") && hidden.contains("w***7"), "{hidden}");
        assert!(shown(event, true).contains("13812345678"));
    }
}
