//! What the verbs about events and dead letters are asked with: filters, pages, and the body of a selection.

use clap::Args;
use serde_json::{Map, Value, json};

/// What an event must be, and when.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Words {
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
    /// By this route
    #[arg(long)]
    route: Option<String>,
    /// At or after this time, RFC 3339: received, or for a dead letter last tried
    #[arg(long)]
    from: Option<String>,
    /// Before this time, RFC 3339
    #[arg(long)]
    to: Option<String>,
}

/// A name and what it must be.
pub(super) type Pair = (&'static str, Option<String>);

impl Words {
    /// By the names of the API.
    pub(super) fn pairs(&self) -> [Pair; 7] {
        [
            ("source", self.source.clone()),
            ("tenant", self.tenant.clone()),
            ("type", self.kind.clone()),
            ("key", self.key.clone()),
            ("route", self.route.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
        ]
    }
}

/// How much of a list.
#[derive(Debug, Clone, Args)]
pub(super) struct Page {
    /// At most so many; with --json one page, at most 500
    #[arg(long, default_value_t = 50)]
    pub(super) limit: usize,
    /// Go on where an earlier list ended
    #[arg(long)]
    cursor: Option<String>,
}

impl Page {
    /// The query of a list: filters, and which page.
    pub(super) fn query(&self, filters: impl IntoIterator<Item = Pair>) -> Vec<(&'static str, String)> {
        let page = [("cursor", self.cursor.clone()), ("limit", Some(self.limit.to_string()))];
        filters.into_iter().chain(page).filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The selection of a request: by ids, or by a filter; everything only where that was said.
///
/// # Errors
/// When nothing is chosen, or both ways are.
pub(super) fn selection(ids: &[String], filters: Vec<Pair>, all: bool) -> anyhow::Result<Map<String, Value>> {
    let filter: Map<String, Value> =
        filters.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))).collect();
    let mut body = Map::new();
    match (ids.is_empty(), filter.is_empty()) {
        (false, false) => anyhow::bail!("say ids or filters, not both"),
        (false, true) => body.insert("ids".to_owned(), json!(ids)),
        (true, true) if !all => anyhow::bail!("say which: ids, filters such as --cause or --from, or --all"),
        (true, _) => body.insert("filter".to_owned(), Value::Object(filter)),
    };
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::selection;
    use serde_json::{Value, json};

    #[test]
    fn everything_is_chosen_only_when_that_is_said() {
        let cause = || vec![("cause", Some("expired".to_owned())), ("key", None)];
        let check = |ids: &[&str], filters, all| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            selection(&ids, filters, all).map(Value::Object).ok()
        };
        assert_eq!(check(&["dl_1"], Vec::new(), false), Some(json!({"ids": ["dl_1"]})));
        assert_eq!(check(&[], cause(), false), Some(json!({"filter": {"cause": "expired"}})));
        assert_eq!(check(&[], Vec::new(), true), Some(json!({"filter": {}})));
        assert_eq!(check(&[], Vec::new(), false), None);
        assert_eq!(check(&["dl_1"], cause(), false), None);
    }
}
