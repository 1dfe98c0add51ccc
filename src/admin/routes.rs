//! `/api/v1/routes`: the routes in force, with what they took since the start.

use super::{
    AdminState,
    lists::{List, NoParameters, parameters},
    problem::Problem,
};
use crate::{app::reload::Reloaded, metrics::Metrics};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::Serialize;
use std::sync::Arc;

/// A route, as the API shows it.
#[derive(Debug, Serialize)]
pub struct RouteBody {
    name: String,
    when: Option<String>,
    when_enriched: Option<String>,
    enrich: Vec<String>,
    required: bool,
    stop: bool,
    to: Vec<String>,
    /// Deliveries decided since the start.
    routed: u64,
    /// Conditions that did not match because a field was not there.
    missing_fields: u64,
    generation: u32,
}

/// All of them, in the file's order.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<NoParameters>, QueryRejection>,
) -> Result<List<RouteBody>, Problem> {
    parameters(query)?;
    state.note_missing_fields();
    let generation = state.generation.load();
    let items = generation.settings.routes.iter().map(|route| {
        let label = Metrics::of_route(&route.name);
        RouteBody {
            name: route.name.to_string(),
            when: route.when.as_ref().map(|when| when.text.clone()),
            when_enriched: route.when_enriched.as_ref().map(|when| when.text.clone()),
            enrich: route.enrich.clone(),
            required: route.required,
            stop: route.stop,
            to: route.to.iter().map(|to| to.destination.to_string()).collect(),
            routed: state.metrics.routed.get_or_create(&label).get(),
            missing_fields: state.metrics.missing_fields.get_or_create(&label).get(),
            generation: generation.number,
        }
    });
    Ok(List { items: items.collect(), next: None })
}

/// What a reload came to.
#[derive(Debug, Serialize)]
pub struct ReloadBody {
    generation: u32,
    changed: bool,
}

/// Reads `routes.yaml` again; 422 with every mistake when it is not taken, and then nothing has changed.
pub async fn reload(State(state): State<Arc<AdminState>>) -> Result<Json<ReloadBody>, Problem> {
    match state.reloads.reload().await {
        Ok(Reloaded::Now(generation)) => Ok(Json(ReloadBody { generation, changed: true })),
        Ok(Reloaded::Unchanged(generation)) => Ok(Json(ReloadBody { generation, changed: false })),
        Err(error) => Err(Problem { status: StatusCode::UNPROCESSABLE_ENTITY, detail: error.to_string() }),
    }
}
