//! `/api/v1/destinations`: how they are, and holding one back.

use super::{
    AdminState,
    access::Who,
    lists::{List, NoParameters, parameters},
    problem::Problem,
};
use crate::{
    app::fleet::ONLY,
    domain::{DestinationName, Timestamp},
    journal::{LaneName, State as _},
    lanes::{destination::Control, view::LaneView},
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use serde::Serialize;
use std::sync::Arc;

/// A destination, as the API shows it.
#[derive(Debug, Serialize)]
pub struct DestinationBody {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    state: &'static str,
    lag_events: u64,
    lag_seconds: f64,
    last_error: Option<String>,
    since: String,
    in_flight: usize,
    parked_keys: usize,
}

impl From<LaneView> for DestinationBody {
    fn from(view: LaneView) -> Self {
        let state = view.state_word();
        let name = match view.name {
            LaneName::Destination(name) => name.to_string(),
            LaneName::Router | LaneName::Morgue | LaneName::Replay(_) => String::new(),
        };
        Self {
            name,
            kind: view.kind.into(),
            state,
            lag_events: view.lag_events,
            lag_seconds: view.lag.as_secs_f64(),
            last_error: view.last_error.map(Into::into),
            since: view.since.to_string(),
            in_flight: view.in_flight,
            parked_keys: view.parked_keys,
        }
    }
}

/// Every destination with its state.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<NoParameters>, QueryRejection>,
) -> Result<List<DestinationBody>, Problem> {
    parameters(query)?;
    Ok(List { items: state.fleet.views().into_iter().map(Into::into).collect(), next: None })
}

/// Holds a destination back, over restarts too.
pub async fn pause(
    State(state): State<Arc<AdminState>>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    steer(&state, &who, &name, true).await
}

/// Lets a destination go on, and looks at once whether it takes things.
pub async fn resume(
    State(state): State<Arc<AdminState>>,
    Extension(who): Extension<Who>,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, Problem> {
    steer(&state, &who, &name, false).await
}

async fn steer(
    state: &AdminState,
    Who(who): &Who,
    name: &str,
    paused: bool,
) -> Result<Json<serde_json::Value>, Problem> {
    let missing = || Problem::not_found(format!("there is no destination `{name}`; `/api/v1/destinations` lists them"));
    let handle = state.fleet.handle(name).ok_or_else(missing)?;
    let destination = DestinationName::parse(name).map_err(|_| missing())?;
    let audit = format!("{} destination {name}", if paused { "pause" } else { "resume" });
    let (lane, by) = (LaneName::Destination(destination), who.clone());
    // Durable before it takes effect: what was answered 200 holds after a crash.
    let noted = state
        .keeper
        .with(move |state| {
            state.audit(Timestamp::now(), &by, &audit)?;
            state.pause(&lane, ONLY, paused)
        })
        .await;
    noted.map_err(|error| Problem::unavailable(&error))?.map_err(|error| Problem::unavailable(&error))?;
    tracing::info!(destination = name, who, paused, "an operator steers a destination");
    let orders = [Some(Control::Pause(paused)), (!paused).then_some(Control::Probe)];
    for order in orders.into_iter().flatten() {
        handle.controls.send(order).await.map_err(|error| Problem::unavailable(&error))?;
    }
    Ok(Json(serde_json::json!({"name": name, "paused": paused})))
}
