//! What a replay, or a discard, is asked to do: as it is written, and checked.

use crate::{
    app::generation::Generation,
    config::{settings::Rate, units},
    domain::{DeadCause, DestinationName, EventId, RouteName, Timestamp},
    journal::{
        LaneName,
        sqlite::queries::{
            fates::Fate,
            letter::{DeadLetterId, EventWords},
            shelf::ShelfFilter,
        },
    },
};
use serde::{Deserialize, Serialize};

/// What is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// Dead letters.
    #[default]
    DeadLetters,
    /// Events that are kept.
    Events,
}

/// Which routes decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Routes {
    /// Those that decided when the event came. What failed on decision has none: today's count.
    #[default]
    AsRouted,
    /// Those in force when the event's turn comes.
    Today,
}

/// What a selection is written as: the body of a request, and what the state keeps of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Definition {
    /// What is replayed.
    pub of: Of,
    /// Dead letters, or events, by id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// Or by what they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Which routes decide.
    pub routes: Routes,
    /// Only what went out without a record that its route asks for, with the record, by today's routes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Where it goes instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Deliveries at most per time, such as `500/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
}

/// What dead letters or events must be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// From this source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Of this type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// About this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// By this route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// For this destination; empty for dead letters that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Dead for this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Events in this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Last tried, or received, at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// These dead letters.
    Letters(Vec<DeadLetterId>),
    /// Dead letters that are so.
    LettersThat(ShelfFilter, EventWords),
    /// These events.
    Events(Vec<EventId>),
    /// Events that are so.
    EventsThat(EventsThat),
}

/// What events must be, and which of their deliveries count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventsThat {
    /// By their words.
    pub words: EventWords,
    /// In this state.
    pub state: Option<Fate>,
    /// Deliveries by this route.
    pub route: Option<RouteName>,
    /// Deliveries to this destination.
    pub destination: Option<DestinationName>,
    /// Received at this time or later.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
}

/// A definition whose words are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What is chosen.
    pub choice: Choice,
    /// Which routes decide.
    pub routes: Routes,
    /// Whether only what lacked a record is sent, with the record.
    pub refresh: bool,
    /// Where it goes instead; empty: where it was to go.
    pub destinations: Vec<DestinationName>,
    /// Deliveries at most per time.
    pub rate: Option<Rate>,
}

impl Definition {
    /// Reads every word.
    ///
    /// # Errors
    /// What is wrong, in words for whoever asked.
    pub fn check(&self) -> Result<Checked, String> {
        let choice = match (&self.ids, &self.filter) {
            (Some(_), Some(_)) => return Err("say `ids` or `filter`, not both".to_owned()),
            (None, None) => return Err("say which: `ids`, or a `filter` (an empty one is everything)".to_owned()),
            (Some(ids), None) => self.by_ids(ids)?,
            (None, Some(filter)) => self.by_filter(filter)?,
        };
        if self.refresh && self.of != Of::Events {
            let way_out = "a dead letter fetches what it lacks with `routes: today`";
            return Err(format!("refresh: it goes with `of: events`; {way_out}"));
        }
        let routes = if self.refresh { Routes::Today } else { self.routes };
        let rate = match &self.rate {
            None => None,
            Some(text) => Some(units::rate(text).ok_or_else(|| format!("rate: `{text}` is not {}", units::RATE_FORM))?),
        };
        let mut destinations = Vec::new();
        for name in &self.destinations {
            let name = DestinationName::parse(name).map_err(|error| format!("destinations: {error}"))?;
            if !destinations.contains(&name) {
                destinations.push(name);
            }
        }
        Ok(Checked { choice, routes, refresh: self.refresh, destinations, rate })
    }

    fn by_ids(&self, ids: &[String]) -> Result<Choice, String> {
        match self.of {
            Of::DeadLetters => {
                let read = |id: &String| {
                    DeadLetterId::parse(id)
                        .ok_or_else(|| format!("ids: `{id}` is not the id of a dead letter (`dl_…`)"))
                };
                Ok(Choice::Letters(ids.iter().map(read).collect::<Result<_, _>>()?))
            }
            Of::Events => {
                let read = |id: &String| id.parse().map_err(|error| format!("ids: {error}"));
                Ok(Choice::Events(ids.iter().map(read).collect::<Result<_, _>>()?))
            }
        }
    }

    fn by_filter(&self, filter: &Filter) -> Result<Choice, String> {
        let words = EventWords {
            source: filter.source.clone(),
            tenant: filter.tenant.clone(),
            kind: filter.kind.clone(),
            key: filter.key.clone(),
        };
        let route = filter.route.as_deref().map(RouteName::parse).transpose();
        let route = route.map_err(|error| format!("filter.route: {error}"))?;
        let name = |name: &str| DestinationName::parse(name).map_err(|error| format!("filter.destination: {error}"));
        let from = time("filter.from", filter.from.as_deref())?;
        let to = time("filter.to", filter.to.as_deref())?;
        match self.of {
            Of::DeadLetters => {
                if filter.state.is_some() {
                    return Err("filter.state: dead letters have no state; it goes with `of: events`".to_owned());
                }
                let lane = match filter.destination.as_deref() {
                    None => None,
                    Some("") => Some(LaneName::Morgue),
                    Some(text) => Some(LaneName::Destination(name(text)?)),
                };
                let causes = DeadCause::ALL.map(DeadCause::as_str);
                let cause = word("filter.cause", filter.cause.as_deref(), DeadCause::parse, &causes)?;
                Ok(Choice::LettersThat(ShelfFilter { lane, route, cause, from, to }, words))
            }
            Of::Events => {
                if filter.cause.is_some() {
                    return Err("filter.cause: events have no cause; it goes with `of: dead-letters`".to_owned());
                }
                let states = Fate::ALL.map(Fate::as_str);
                let state = word("filter.state", filter.state.as_deref(), Fate::parse, &states)?;
                let destination = filter.destination.as_deref().map(name).transpose()?;
                Ok(Choice::EventsThat(EventsThat { words, state, route, destination, from, to }))
            }
        }
    }

    /// For the audit: JSON, with long lists of ids counted only.
    #[must_use]
    pub fn words(&self) -> String {
        const IDS_SHOWN: usize = 3;
        let mut shown = self.clone();
        if let Some(ids) = &mut shown.ids
            && ids.len() > IDS_SHOWN
        {
            let more = ids.len() - IDS_SHOWN;
            ids.truncate(IDS_SHOWN);
            ids.push(format!("and {more} more"));
        }
        serde_json::to_string(&shown).unwrap_or_default()
    }
}

impl Checked {
    /// Whether every destination that is named is there.
    ///
    /// # Errors
    /// The first that is not, in words.
    pub fn destinations_known(&self, generation: &Generation) -> Result<(), String> {
        let known = &generation.settings.destinations;
        match self.destinations.iter().find(|name| !known.contains_key(*name)) {
            Some(name) => Err(format!("destinations: there is no destination `{name}` in routes.yaml")),
            None => Ok(()),
        }
    }
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, String> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || format!("{name}: `{text}` is not RFC 3339, such as 2024-09-20T09:00:00Z");
    Timestamp::parse_rfc3339(text).map(Some).ok_or_else(wrong)
}

fn word<T>(
    name: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    all: &[&str],
) -> Result<Option<T>, String> {
    let Some(text) = text else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| format!("{name}: `{text}` is not one of {}", all.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::{Checked, Choice, Definition};

    fn check(text: &str) -> Result<Checked, String> {
        serde_json::from_str::<Definition>(text).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn a_selection_says_which_once() {
        assert!(matches!(check(r#"{"filter": {}}"#).unwrap().choice, Choice::LettersThat(..)));
        assert!(matches!(check(r#"{"of": "events", "filter": {}}"#).unwrap().choice, Choice::EventsThat(..)));
        for (bad, why) in [
            ("{}", "say which"),
            (r#"{"ids": [], "filter": {}}"#, "not both"),
            (r#"{"ids": ["evt_1"]}"#, "dl_"),
            (r#"{"of": "events", "ids": ["dl_1"]}"#, "ids: "),
            (r#"{"filter": {"caus": "expired"}}"#, "unknown field"),
            (r#"{"filter": {"cause": "old"}}"#, "unroutable"),
            (r#"{"of": "events", "filter": {"cause": "expired"}}"#, "no cause"),
            (r#"{"filter": {"state": "dead"}}"#, "no state"),
            (r#"{"filter": {"from": "today"}}"#, "RFC 3339"),
            (r#"{"filter": {}, "rate": "fast"}"#, "rate"),
            (r#"{"filter": {}, "routes": "tomorrow"}"#, "today"),
        ] {
            let error = check(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn the_audit_counts_long_lists() {
        let ids = (0..9).map(|number| format!("dl_{number}")).collect();
        let words = Definition { ids: Some(ids), ..Definition::default() }.words();
        assert!(words.contains("and 6 more") && !words.contains("dl_7"), "{words}");
    }
}
