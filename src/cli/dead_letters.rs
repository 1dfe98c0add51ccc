//! `dead-letters`: what could not be delivered, and why.

use super::{
    Global, Status,
    client::Client,
    events::{more, payload},
    output::print,
    show::{cell, escaped_lines, items, table, without_phones},
};
use clap::{Args, Subcommand};
use serde_json::Value;

/// The arguments of `dead-letters`.
#[derive(Debug, Clone, Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// One a line; no payloads
    List(Box<Filter>),
    /// How many of each destination and cause
    Groups,
    /// One with its payload
    Show(Show),
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
struct Filter {
    /// From this source
    #[arg(long)]
    source: Option<String>,
    /// Of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Of this type
    #[arg(long = "type")]
    kind: Option<String>,
    /// About this
    #[arg(long)]
    key: Option<String>,
    /// By this route
    #[arg(long)]
    route: Option<String>,
    /// For this destination
    #[arg(long)]
    destination: Option<String>,
    /// Of this cause, such as unroutable or unparsable
    #[arg(long)]
    cause: Option<String>,
    /// Dead at or after this time, RFC 3339
    #[arg(long)]
    from: Option<String>,
    /// Dead before this time, RFC 3339
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
    /// The dead letter's id, dl_…
    id: String,
    /// Show phone numbers and the like as they are
    #[arg(long)]
    reveal: bool,
}

pub(super) async fn run(global: &Global, args: &DeadLettersArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    let (path, query): (&[&str], _) = match &args.verb {
        Verb::List(filter) => (&["dead-letters"], filter.query()),
        Verb::Groups => (&["dead-letters", "groups"], Vec::new()),
        Verb::Show(show) => (&["dead-letters", &show.id], Vec::new()),
    };
    let text = if global.json {
        client.get(path, &query).await? + "\n"
    } else {
        match &args.verb {
            Verb::List(filter) => listed(&client.list(path, &query, filter.limit).await?),
            Verb::Groups => grouped(&serde_json::from_str(&client.get(path, &query).await?)?),
            Verb::Show(show) => one(serde_json::from_str(&client.get(path, &query).await?)?, show.reveal),
        }
    };
    print(&text)?;
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
            ("route", &self.route),
            ("destination", &self.destination),
            ("cause", &self.cause),
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

fn listed(list: &Value) -> String {
    let row = |one: &Value| {
        [
            cell(one, "id"),
            cell(one, "last_at"),
            cell(one, "route"),
            cell(one, "destination"),
            cell(one, "cause"),
            without_phones(&cell(one, "detail")),
        ]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["id", "last at", "route", "destination", "cause", "detail"], &rows) + &more(list)
}

fn grouped(list: &Value) -> String {
    let row = |one: &Value| {
        [cell(one, "destination"), cell(one, "cause"), cell(one, "count"), cell(one, "first_at"), cell(one, "last_at")]
    };
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["destination", "cause", "count", "first at", "last at"], &rows)
}

fn one(mut letter: Value, reveal: bool) -> String {
    let mut text = String::new();
    for member in
        ["id", "event_id", "vendor_id", "route", "destination", "cause", "detail", "attempts", "first_at", "last_at"]
    {
        let words = cell(&letter, member);
        let words = if reveal || member != "detail" { words } else { without_phones(&words) };
        text += &format!("{member:<12} {words}\n");
    }
    text += &payload(&mut letter, reveal);
    escaped_lines(&text)
}

#[cfg(test)]
mod tests {
    use super::{grouped, listed};
    use serde_json::json;

    #[test]
    fn groups_and_lists_are_tables() {
        let group = json!({"destination": "", "cause": "unparsable", "count": 3, "first_at": "a", "last_at": "b"});
        assert_eq!(
            grouped(&json!({"items": [group]})),
            "DESTINATION  CAUSE       COUNT  FIRST AT  LAST AT\n-            unparsable  3      a         b\n"
        );
        let letter = json!({"id": "dl_x", "last_at": "t", "route": null, "destination": "", "cause": "unparsable",
            "detail": "unexpected 13812345678"});
        let text = listed(&json!({"items": [letter], "next": null}));
        assert!(text.contains("dl_x") && text.contains("138****5678") && !text.contains("more with"), "{text}");
    }
}
