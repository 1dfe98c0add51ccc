//! `audit`: who did what to a running server.

use super::{
    Global, Status,
    client::Client,
    output::print,
    selection::Page,
    show::{cell, items, more, table, without_phones},
};
use clap::Args;
use serde_json::Value;

/// The arguments of `audit`.
#[derive(Debug, Clone, Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    page: Page,
}

pub(super) async fn run(global: &Global, args: &AuditArgs) -> anyhow::Result<Status> {
    let client = Client::new(global)?;
    let query = args.page.query([]);
    print(&match global.json {
        true => client.get(&["audit"], &query).await? + "\n",
        false => listed(&client.list(&["audit"], &query, args.page.limit).await?),
    })?;
    Ok(Status::Done)
}

/// A reason is what somebody wrote: it may name a person.
fn listed(list: &Value) -> String {
    let row = |one: &Value| [cell(one, "at"), cell(one, "who"), without_phones(&cell(one, "what"))];
    let rows: Vec<_> = items(list).iter().map(row).collect();
    table(["at", "who", "what"], &rows) + &more(list)
}

#[cfg(test)]
mod tests {
    use super::listed;
    use serde_json::json;

    #[test]
    fn a_line_says_when_who_and_what_without_telephones() {
        let line =
            json!({"at": "2024-09-20T09:00:00Z", "who": "hand", "what": "discard done: of 13812345678\u{1b}[2J"});
        let text = listed(&json!({"items": [line], "next": "a7"}));
        assert_eq!(
            text,
            "AT                    WHO   WHAT\n\
             2024-09-20T09:00:00Z  hand  discard done: of 138****5678\\u{1b}[2J\n\
             more with --cursor a7\n"
        );
    }
}
