//! Probes, metrics, destinations.

use crate::{admin::AdminState, journal::LaneName, lanes::view::LaneView};
use axum::{Json, extract::State, http::StatusCode, http::header, response::IntoResponse};
use serde::Serialize;
use std::sync::{Arc, atomic::Ordering};

/// The process is there.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Whether pushes are taken: says nothing of brokers, whose absence only lets the backlog grow.
pub async fn readyz(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    if state.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    }
}

/// All metrics as OpenMetrics text.
pub async fn metrics(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], state.metrics.render())
}

/// A list, as every endpoint gives it.
#[derive(Debug, Serialize)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; `null` at the end.
    pub next: Option<String>,
}

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
pub async fn destinations(State(state): State<Arc<AdminState>>) -> Json<List<DestinationBody>> {
    Json(List { items: state.fleet.views().into_iter().map(Into::into).collect(), next: None })
}
