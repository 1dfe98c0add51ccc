//! `dead-letters`: what could not be delivered, and why.

use super::{
    Global, Status,
    client::Client,
    output::print,
    selection::{Page, Pair, Words, selection},
    show::{cell, escaped_lines, items, more, payload, personal, table},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// The arguments of `dead-letters`.
#[derive(Debug, Clone, Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Subcommand)]
enum Verb {
    /// One a line; no payloads
    List(Box<List>),
    /// How many of each destination and cause
    Groups,
    /// One with its payload
    Show(Show),
    /// Take some off the shelf for good; nothing brings them back
    Discard(Box<Discard>),
}

/// Which dead letters.
#[derive(Debug, Clone, Args)]
struct Filter {
    #[command(flatten)]
    words: Words,
    /// For this destination
    #[arg(long)]
    destination: Option<String>,
    /// Of this cause, such as unroutable or unparsable
    #[arg(long)]
    cause: Option<String>,
}

#[derive(Debug, Clone, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, Clone, Args)]
struct Discard {
    /// These, dl_…
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Why; it is written to the audit
    #[arg(long, required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Only say how many
    #[arg(long)]
    dry_run: bool,
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
        Verb::List(list) => (&["dead-letters"], list.page.query(list.filter.pairs())),
        Verb::Groups => (&["dead-letters", "groups"], Vec::new()),
        Verb::Show(show) => (&["dead-letters", &show.id], Vec::new()),
        Verb::Discard(discard) => return discarded(global, &client, discard).await,
    };
    let text = match &args.verb {
        Verb::List(list) if !global.json => listed(&client.list(path, &query, list.page.limit).await?),
        verb => {
            let body = client.get(path, &query).await?;
            match verb {
                Verb::Groups if !global.json => grouped(&serde_json::from_str(&body)?),
                Verb::Show(show) if !global.json => one(&serde_json::from_str(&body)?, show.reveal),
                Verb::List(_) | Verb::Groups | Verb::Show(_) | Verb::Discard(_) => body + "\n",
            }
        }
    };
    print(&text)?;
    Ok(Status::Done)
}

async fn discarded(global: &Global, client: &Client, discard: &Discard) -> anyhow::Result<Status> {
    let mut body = selection(&discard.ids, discard.filter.pairs(), discard.all)?;
    if let Some(reason) = &discard.reason {
        body.insert("reason".to_owned(), json!(reason));
    }
    if discard.dry_run {
        body.insert("dry_run".to_owned(), json!(true));
    }
    let answer = client.post(&["dead-letters", "discard"], Some(&Value::Object(body))).await?;
    if global.json {
        print(&(answer + "\n"))?;
        return Ok(Status::Done);
    }
    let answer: Value = serde_json::from_str(&answer)?;
    print(&match discard.dry_run {
        true => format!("{} dead letters would be discarded\n", cell(&answer, "matched")),
        false => format!("{} dead letters are discarded\n", cell(&answer, "discarded")),
    })?;
    Ok(Status::Done)
}

impl Filter {
    fn pairs(&self) -> Vec<Pair> {
        let own = [("destination", self.destination.clone()), ("cause", self.cause.clone())];
        self.words.pairs().into_iter().chain(own).collect()
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
            personal(one, "detail", false),
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

fn one(letter: &Value, reveal: bool) -> String {
    let mut text = String::new();
    for member in
        ["id", "event_id", "vendor_id", "route", "destination", "cause", "detail", "attempts", "first_at", "last_at"]
    {
        let may_hold_a_number = ["vendor_id", "detail"].contains(&member);
        text += &format!("{member:<12} {}\n", personal(letter, member, reveal || !may_hold_a_number));
    }
    text += &payload(letter, reveal);
    escaped_lines(&text)
}

#[cfg(test)]
mod tests {
    use super::{grouped, listed, one};
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

    #[test]
    fn one_is_masked_until_it_is_revealed() {
        let letter =
            json!({"id": "dl_x", "vendor_id": "13812345678", "detail": "at 13812345678", "body": "weixin=wxid_7"});
        let (hidden, revealed) = (one(&letter, false), one(&letter, true));
        assert_eq!((hidden.matches("138****5678").count(), hidden.matches("13812345678").count()), (2, 0), "{hidden}");
        assert!(!hidden.contains("wxid_7") && hidden.contains("--reveal"), "{hidden}");
        assert_eq!((revealed.matches("13812345678").count(), revealed.matches("wxid_7").count()), (2, 1), "{revealed}");
    }
}
