//! `/api/v1/events`: what came in, what became of it, and why.

use super::{
    AdminState,
    lists::{List, ask, limit, parameters, time, word},
    problem::Problem,
    timeline::{Step, timeline},
};
use crate::{
    domain::{Event, EventId, Origin, Partition},
    journal::{
        Entry, Log,
        sqlite::queries::{
            Queries,
            events::{EventFilter, EventRow},
            fates::{Fate, Told},
        },
    },
    routing::explain::Explanation,
};
use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration, time::Instant};

/// How long one page may look for events of a state or a route; then it ends with what it has.
const SEARCH_MAX: Duration = Duration::from_millis(1_500);

/// Events whose fate is looked up at once, where most will not be wanted: each look opens the state anew.
const BATCH: usize = 1_000;

/// The parameters of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    source: Option<String>,
    tenant: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    key: Option<String>,
    vendor_id: Option<String>,
    state: Option<String>,
    origin: Option<String>,
    route: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// An event in a list.
#[derive(Debug, Serialize)]
pub struct EventBody {
    id: String,
    vendor_id: Option<String>,
    source: String,
    tenant: String,
    #[serde(rename = "type")]
    kind: String,
    key: Option<String>,
    origin: &'static str,
    state: &'static str,
    received_at: String,
    conflict: bool,
}

/// One event with everything.
#[derive(Debug, Serialize)]
pub struct WholeBody {
    #[serde(flatten)]
    event: EventBody,
    sent_at: Option<String>,
    headers: Vec<(String, String)>,
    #[serde(flatten)]
    body: Payload,
    deliveries: Vec<DeliveryBody>,
    timeline: Vec<Step>,
}

/// A delivery of an event, where it is now.
#[derive(Debug, Serialize)]
pub struct DeliveryBody {
    route: Option<String>,
    destination: Option<String>,
    state: &'static str,
}

/// A push's bytes: as text where they are text.
#[derive(Debug, Serialize)]
pub struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

impl Payload {
    /// The bytes of an event.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        match std::str::from_utf8(&event.body) {
            Ok(text) => Self { body: Some(text.to_owned()), body_base64: None },
            Err(_) => Self { body: None, body_base64: Some(BASE64_STANDARD.encode(&event.body)) },
        }
    }
}

impl EventBody {
    fn of_row(row: &EventRow, fate: Fate) -> Self {
        Self {
            id: row.id.to_string(),
            vendor_id: row.vendor_id.clone(),
            source: row.source.to_string(),
            tenant: row.tenant.to_string(),
            kind: row.kind.clone(),
            key: row.key.clone(),
            origin: row.origin.as_str(),
            state: fate.as_str(),
            received_at: row.id.received_at.to_string(),
            conflict: row.conflict,
        }
    }

    fn of_event(event: &Event, fate: Fate) -> Self {
        let text = |text: &Option<Box<str>>| text.as_deref().map(ToOwned::to_owned);
        Self {
            id: event.id.to_string(),
            vendor_id: text(&event.vendor_id),
            source: event.source.to_string(),
            tenant: event.tenant.to_string(),
            kind: event.kind.to_string(),
            key: text(&event.key),
            origin: event.origin.as_str(),
            state: fate.as_str(),
            received_at: event.received_at.to_string(),
            conflict: event.conflict,
        }
    }
}

/// The newest first, without payloads.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<List<EventBody>, Problem> {
    let given = parameters(query)?;
    let limit = limit(given.limit)?;
    let before = given.cursor.as_deref().map(read_cursor).transpose()?;
    let fate = word("state", given.state.as_deref(), Fate::parse, &Fate::ALL.map(Fate::as_str))?;
    let origins = [Origin::Push, Origin::Reconcile, Origin::Poll, Origin::Report].map(Origin::as_str);
    let filter = EventFilter {
        origin: word("origin", given.origin.as_deref(), Origin::parse, &origins)?,
        from: time("from", given.from.as_deref())?,
        to: time("to", given.to.as_deref())?,
        source: given.source,
        tenant: given.tenant,
        kind: given.kind,
        key: given.key,
        vendor_id: given.vendor_id,
    };
    let route = given.route;
    ask(state.queries(), move |queries| {
        let wanted = |told: &Told| {
            fate.is_none_or(|fate| fate == told.fate) && route.as_deref().is_none_or(|route| is_by(told, route))
        };
        let batch = if fate.is_some() || route.is_some() { limit.max(BATCH) } else { limit };
        page(queries, &filter, (before, batch), limit, &wanted)
    })
    .await
}

fn is_by(told: &Told, route: &str) -> bool {
    told.deliveries.iter().any(|delivery| delivery.route.as_ref().is_some_and(|name| name.as_str() == route))
}

fn page(
    queries: &Queries,
    filter: &EventFilter,
    (mut before, batch): (Option<u64>, usize),
    limit: usize,
    wanted: &dyn Fn(&Told) -> bool,
) -> Result<List<EventBody>, crate::journal::ReadError> {
    let started = Instant::now();
    let mut items = Vec::new();
    loop {
        let found = queries.events(filter, before, batch)?;
        let offsets: Vec<u64> = found.rows.iter().map(|row| row.id.position.offset).collect();
        let told = queries.fates(&offsets)?;
        for (index, row) in found.rows.iter().enumerate() {
            let Some(told) = told.get(&row.id.position.offset).filter(|told| wanted(told)) else { continue };
            items.push(EventBody::of_row(row, told.fate));
            if items.len() == limit {
                let is_last = index + 1 == found.rows.len() && found.before.is_none();
                return Ok(List { items, next: (!is_last).then(|| cursor(row.id.position.offset)) });
            }
        }
        match found.before {
            None => return Ok(List { items, next: None }),
            Some(next) if started.elapsed() > SEARCH_MAX => return Ok(List { items, next: Some(cursor(next)) }),
            Some(next) => before = Some(next),
        }
    }
}

fn cursor(before: u64) -> String {
    format!("e{before}")
}

fn read_cursor(text: &str) -> Result<u64, Problem> {
    let before = text.strip_prefix('e').and_then(|number| number.parse().ok());
    before.ok_or_else(|| Problem::bad_request("cursor: give back `next` of the page before, as it came"))
}

async fn find(state: &AdminState, id: &str) -> Result<Arc<Event>, Problem> {
    let id: EventId = id.parse().map_err(|error| Problem::bad_request(format!("{error}")))?;
    let event = ask(state.queries(), move |queries| queries.log().event(id)).await?;
    event.ok_or_else(|| Problem::not_found(format!("there is no event {id}: it never was, or retention took it")))
}

/// One with its payload, its deliveries and its timeline.
pub async fn one(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<WholeBody>, Problem> {
    let event = find(&state, &id).await?;
    let whole = ask(state.queries(), move |queries| {
        let offset = event.position().offset;
        let told = queries.fates(&[offset])?.remove(&offset);
        let told = told.unwrap_or(Told { fate: Fate::Received, decided: None, deliveries: Vec::new() });
        let timeline = timeline(queries, &event, &told)?;
        let deliveries = told.deliveries.iter().map(|delivery| DeliveryBody {
            route: delivery.route.as_ref().map(ToString::to_string),
            destination: delivery.destination.as_ref().map(ToString::to_string),
            state: delivery.fate.as_str(),
        });
        Ok(WholeBody {
            event: EventBody::of_event(&event, told.fate),
            sent_at: event.sent_at.map(|at| at.to_string()),
            headers: event.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: Payload::of(&event),
            deliveries: deliveries.collect(),
            timeline,
        })
    });
    whole.await.map(Json)
}

/// Why it goes where it goes, by the routes in force; with the records it was enriched with, if it was.
pub async fn explain(
    State(state): State<Arc<AdminState>>,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, Problem> {
    let event = find(&state, &id).await?;
    let generation = state.generation.load_full();
    let explanation = ask(state.queries(), move |queries| {
        let offset = event.position().offset;
        let decided = queries.decisions(&[offset])?.remove(&offset);
        let row = decided.map(|decided| queries.log().routed_row(Partition(0), decided.offset)).transpose()?;
        let enrichment = match row.flatten() {
            Some(Entry::Row(routed)) if !routed.row.enrichment.is_empty() => Some(routed.row.enrichment.clone()),
            _ => None,
        };
        Ok(generation.table.explain(&event, enrichment.as_deref()))
    });
    explanation.await.map(Json)
}

#[cfg(test)]
mod tests {
    use super::{cursor, read_cursor};

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        assert_eq!(read_cursor(&cursor(42)), Ok(42));
        for bad in ["", "42", "e", "e-1", "x42"] {
            assert!(read_cursor(bad).is_err(), "{bad}");
        }
    }
}
