//! `/api/v1/dead-letters`: what could not be delivered, and why.

use super::{
    AdminState,
    events::Payload,
    lists::{List, NoParameters, ask, limit, parameters, time, word},
    problem::Problem,
};
use crate::{
    domain::{DeadCause, DestinationName, Event, RouteName},
    journal::{
        LaneName, Log, ReadError,
        sqlite::queries::{
            Queries,
            letter::{DeadLetterId, EventWords},
            shelf::{DeadLetter, ShelfFilter, ShelfPlace},
        },
    },
};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use serde::{Deserialize, Serialize};
use std::{cmp::Reverse, sync::Arc, time::Duration, time::Instant};

/// How long one page may look for dead letters of a source or a key; then it ends with what it has.
const SEARCH_MAX: Duration = Duration::from_millis(1_500);

/// The parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    source: Option<String>,
    tenant: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    key: Option<String>,
    route: Option<String>,
    destination: Option<String>,
    cause: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A dead letter in a list.
#[derive(Debug, Serialize)]
pub struct DeadLetterBody {
    id: String,
    event_id: String,
    vendor_id: Option<String>,
    route: Option<String>,
    destination: String,
    cause: Option<&'static str>,
    detail: String,
    attempts: u32,
    first_at: String,
    last_at: String,
}

/// One with its push.
#[derive(Debug, Serialize)]
pub struct WholeBody {
    #[serde(flatten)]
    letter: DeadLetterBody,
    #[serde(flatten)]
    body: Option<Payload>,
}

/// Dead letters of one destination and cause.
#[derive(Debug, Serialize)]
pub struct GroupBody {
    destination: String,
    cause: Option<&'static str>,
    count: u64,
    first_at: String,
    last_at: String,
}

/// The newest rows first, without payloads.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<List<DeadLetterBody>, Problem> {
    let given = parameters(query)?;
    let limit = limit(given.limit)?;
    let after = given.cursor.as_deref().map(read_cursor).transpose()?;
    let name = |error: crate::domain::NameError| Problem::bad_request(error.to_string());
    let lane = match given.destination.as_deref() {
        None => None,
        // Dead on decision: by no destination.
        Some("") => Some(LaneName::Morgue),
        Some(text) => Some(LaneName::Destination(DestinationName::parse(text).map_err(name)?)),
    };
    let filter = ShelfFilter {
        lane,
        route: given.route.as_deref().map(RouteName::parse).transpose().map_err(name)?,
        cause: word("cause", given.cause.as_deref(), DeadCause::parse, &DeadCause::ALL.map(DeadCause::as_str))?,
        from: time("from", given.from.as_deref())?,
        to: time("to", given.to.as_deref())?,
    };
    let words = EventWords { source: given.source, tenant: given.tenant, kind: given.kind, key: given.key };
    ask(state.queries(), move |queries| page(queries, &filter, &words, after, limit)).await
}

fn page(
    queries: &Queries,
    filter: &ShelfFilter,
    words: &EventWords,
    mut after: Option<ShelfPlace>,
    limit: usize,
) -> Result<List<DeadLetterBody>, ReadError> {
    let started = Instant::now();
    let mut items = Vec::new();
    loop {
        let found = queries.dead_letters(filter, after.as_ref(), limit)?;
        let is_last = found.len() < limit;
        for letter in found {
            // A damaged event has no words; its dead letter is still one.
            let event = queries.log().event(letter.row.event).unwrap_or_default();
            after = Some(letter.place.clone());
            if words.matches(event.as_deref()) {
                items.push(body(&letter, event.as_deref()));
            }
            if items.len() == limit {
                return Ok(List { items, next: Some(cursor(&letter.place)) });
            }
        }
        if is_last {
            return Ok(List { items, next: None });
        }
        if started.elapsed() > SEARCH_MAX {
            return Ok(List { items, next: after.as_ref().map(cursor) });
        }
    }
}

/// How many of each destination and cause.
pub async fn groups(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<NoParameters>, QueryRejection>,
) -> Result<List<GroupBody>, Problem> {
    parameters(query)?;
    let groups = ask(state.queries(), Queries::dead_letter_groups).await?;
    let items = groups.into_iter().map(|group| GroupBody {
        destination: destination(&group.lane),
        cause: group.cause.map(DeadCause::as_str),
        count: group.count,
        first_at: group.first_at.to_string(),
        last_at: group.last_at.to_string(),
    });
    Ok(List { items: items.collect(), next: None })
}

/// One with its push.
pub async fn one(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<WholeBody>, Problem> {
    let wrong = || Problem::bad_request("a dead letter's id is `dl_` and what the list gave with it");
    let place = DeadLetterId::parse(&id).ok_or_else(wrong)?;
    let found = ask(state.queries(), move |queries| {
        let Some(letter) = queries.dead_letter(&place.lane, place.row, place.route.as_ref())? else { return Ok(None) };
        let event = queries.log().event(letter.row.event).unwrap_or_default();
        let whole = WholeBody { letter: body(&letter, event.as_deref()), body: event.as_deref().map(Payload::of) };
        Ok(Some(whole))
    });
    let gone = || Problem::not_found("there is no such dead letter: it was replayed, discarded, or retention took it");
    found.await?.map(Json).ok_or_else(gone)
}

fn body(letter: &DeadLetter, event: Option<&Event>) -> DeadLetterBody {
    let row = &letter.row;
    let id = DeadLetterId { lane: letter.lane.clone(), row: row.offset, route: row.route.clone() };
    DeadLetterBody {
        id: id.text(),
        event_id: row.event.to_string(),
        vendor_id: event.and_then(|event| event.vendor_id.as_deref()).map(ToOwned::to_owned),
        route: row.route.as_ref().map(ToString::to_string),
        destination: destination(&letter.lane),
        cause: row.cause.map(DeadCause::as_str),
        detail: row.detail.to_string(),
        attempts: row.attempts,
        first_at: row.first_at.to_string(),
        last_at: row.last_at.to_string(),
    }
}

/// A lane's destination; empty for what died on decision.
fn destination(lane: &LaneName) -> String {
    match lane {
        LaneName::Destination(name) => name.to_string(),
        LaneName::Router | LaneName::Morgue | LaneName::Replay(_) => String::new(),
    }
}

fn cursor(place: &ShelfPlace) -> String {
    format!("d{}.{}.{}", place.row.0, place.lane, place.route)
}

fn read_cursor(text: &str) -> Result<ShelfPlace, Problem> {
    let read = || {
        let (row, rest) = text.strip_prefix('d')?.split_once('.')?;
        let (lane, route) = rest.split_once('.')?;
        Some(ShelfPlace { row: Reverse(row.parse().ok()?), lane: lane.parse().ok()?, route: route.to_owned() })
    };
    read().ok_or_else(|| Problem::bad_request("cursor: give back `next` of the page before, as it came"))
}

#[cfg(test)]
mod tests {
    use super::{cursor, read_cursor};
    use crate::journal::sqlite::queries::shelf::ShelfPlace;
    use std::cmp::Reverse;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let place = ShelfPlace { row: Reverse(7), lane: 3, route: "a.b".to_owned() };
        assert_eq!(read_cursor(&cursor(&place)), Ok(place));
        for bad in ["", "7.3.a", "d7.3", "dx.3.a"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
