//! Probes, metrics, and what the API says of itself.

use super::AdminState;
use crate::domain::Timestamp;
use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use std::sync::{Arc, atomic::Ordering};

/// The process is there.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Whether pushes are taken: says nothing of brokers, whose absence only lets the backlog grow.
pub async fn readyz(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    if !state.ready.load(Ordering::Acquire) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if state.refusing.is_now(Timestamp::now()) {
        (StatusCode::SERVICE_UNAVAILABLE, "the store takes nothing: pushes were answered 503\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// All metrics as OpenMetrics text.
pub async fn metrics(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    state.note_missing_fields();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], state.metrics.render())
}

/// The description of the API.
pub async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}
