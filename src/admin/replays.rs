//! `/api/v1/replays`: sending dead letters or events once more; `/api/v1/dead-letters/discard` and the audit.

use super::{
    AdminState,
    access::Who,
    lists::{List, ask, limit, parameters},
    problem::Problem,
};
use crate::{
    app::replays::{
        OrderError, Seen, Steer,
        definition::{Definition, Filter},
        survey::Preview,
    },
    domain::ReplayJob,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::JsonRejection, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// What a replay is asked for with: a [`Definition`], and whether only to say what it would do.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    #[serde(default)]
    of: crate::app::replays::definition::Of,
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    #[serde(default)]
    routes: crate::app::replays::definition::Routes,
    #[serde(default)]
    refresh: bool,
    #[serde(default)]
    destinations: Vec<String>,
    rate: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// What is discarded, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardBody {
    ids: Option<Vec<String>>,
    filter: Option<Filter>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    dry_run: bool,
}

/// A job, as the API shows it.
#[derive(Debug, Serialize)]
pub struct ReplayBody {
    id: String,
    state: &'static str,
    since: String,
    created_at: String,
    created_by: String,
    #[serde(flatten)]
    definition: serde_json::Value,
    matched: u64,
    delivered: u64,
    failed: u64,
    kept: u64,
    gone: u64,
    remaining: u64,
    all_matched: bool,
    last_error: Option<String>,
}

/// What a preview says.
#[derive(Debug, Serialize)]
pub struct PreviewBody {
    matched: u64,
    by_route: BTreeMap<String, u64>,
    kept: u64,
    gone: u64,
}

/// A line of the audit.
#[derive(Debug, Serialize)]
pub struct AuditBody {
    at: String,
    who: String,
    what: String,
}

/// The parameters of a list that has no filters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl From<Seen> for ReplayBody {
    fn from(seen: Seen) -> Self {
        let record = seen.record;
        let counts = record.counts;
        Self {
            id: record.job.to_string(),
            state: if seen.queued { "queued" } else { record.state.as_str() },
            since: record.since.to_string(),
            created_at: record.at.to_string(),
            created_by: record.who,
            definition: serde_json::from_str(&record.definition).unwrap_or_default(),
            matched: counts.matched,
            delivered: counts.delivered,
            failed: counts.failed,
            kept: counts.kept,
            gone: counts.gone,
            remaining: if record.state.is_over() { 0 } else { counts.remaining() },
            all_matched: record.complete,
            last_error: seen.trouble.or(record.last_error),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match &error {
            OrderError::Wrong(detail) => Self::bad_request(detail.clone()),
            OrderError::Unknown(_) => Self::not_found(error.to_string()),
            OrderError::Over(..) => Self { status: StatusCode::CONFLICT, detail: error.to_string() },
            OrderError::Read(_) | OrderError::Write(_) | OrderError::Stopping => Self::unavailable(&error),
        }
    }
}

fn given<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    body.map(|Json(body)| body).map_err(|error| Problem::bad_request(error.body_text()))
}

/// Begins a replay, or says what it would do.
pub async fn create(
    State(state): State<Arc<AdminState>>,
    Extension(Who(who)): Extension<Who>,
    body: Result<Json<CreateBody>, JsonRejection>,
) -> Result<Response, Problem> {
    let body = given(body)?;
    let CreateBody { of, ids, filter, routes, refresh, destinations, rate, dry_run } = body;
    let definition = Definition { of, ids, filter, routes, refresh, destinations, rate };
    if dry_run {
        let Preview { matched, by_route, kept, gone } = state.replays.preview(&definition).await?;
        return Ok(Json(PreviewBody { matched, by_route, kept, gone }).into_response());
    }
    let seen = state.replays.create(&who, &definition).await?;
    Ok((StatusCode::CREATED, Json(ReplayBody::from(seen))).into_response())
}

/// All replays, the newest first.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<List<ReplayBody>, Problem> {
    let given = parameters(query)?;
    let limit = limit(given.limit)?;
    let below = match given.cursor.as_deref() {
        None => None,
        Some(text) => Some(ReplayJob::parse(text).ok_or_else(wrong_cursor)?),
    };
    let all = state.replays.all().await?;
    let mut rest = all.into_iter().filter(|seen| below.is_none_or(|below| seen.record.job < below)).peekable();
    let items: Vec<ReplayBody> = rest.by_ref().take(limit).map(Into::into).collect();
    let next = rest.peek().and(items.last()).map(|last| last.id.clone());
    Ok(List { items, next })
}

fn wrong_cursor() -> Problem {
    Problem::bad_request("cursor: give back `next` of the page before, as it came")
}

fn read_id(text: &str) -> Result<ReplayJob, Problem> {
    ReplayJob::parse(text).ok_or_else(|| Problem::not_found(format!("there is no replay `{text}`")))
}

/// One replay.
pub async fn one(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(state.replays.seen(read_id(&id)?).await?.into()))
}

/// Holds one.
pub async fn pause(
    state: State<Arc<AdminState>>,
    who: Extension<Who>,
    id: Path<String>,
) -> Result<Json<ReplayBody>, Problem> {
    steer(state, who, id, Steer::Pause).await
}

/// Lets one go on.
pub async fn resume(
    state: State<Arc<AdminState>>,
    who: Extension<Who>,
    id: Path<String>,
) -> Result<Json<ReplayBody>, Problem> {
    steer(state, who, id, Steer::Resume).await
}

/// Ends one; what it still has is dead letters again.
pub async fn cancel(
    state: State<Arc<AdminState>>,
    who: Extension<Who>,
    id: Path<String>,
) -> Result<Json<ReplayBody>, Problem> {
    steer(state, who, id, Steer::Cancel).await
}

async fn steer(
    State(state): State<Arc<AdminState>>,
    Extension(Who(who)): Extension<Who>,
    Path(id): Path<String>,
    steer: Steer,
) -> Result<Json<ReplayBody>, Problem> {
    Ok(Json(state.replays.steer(&who, read_id(&id)?, steer).await?.into()))
}

/// Discards dead letters, or says how many it would.
pub async fn discard(
    State(state): State<Arc<AdminState>>,
    Extension(Who(who)): Extension<Who>,
    body: Result<Json<DiscardBody>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let DiscardBody { ids, filter, reason, dry_run } = given(body)?;
    let definition = Definition { ids, filter, ..Definition::default() };
    if dry_run {
        let matched = state.replays.discardable(&definition).await?;
        return Ok(Json(serde_json::json!({"matched": matched})));
    }
    if reason.trim().is_empty() {
        return Err(Problem::bad_request("reason: say why; it is written to the audit"));
    }
    let discarded = state.replays.discard(&who, &definition, reason.trim()).await?;
    Ok(Json(serde_json::json!({"discarded": discarded})))
}

/// Who did what, the newest first.
pub async fn audit(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Result<List<AuditBody>, Problem> {
    let given = parameters(query)?;
    let limit = limit(given.limit)?;
    let below = match given.cursor.as_deref() {
        None => None,
        Some(text) => Some(text.strip_prefix('a').and_then(|id| id.parse().ok()).ok_or_else(wrong_cursor)?),
    };
    let lines = ask(state.queries(), move |queries| queries.audit(below, limit + 1)).await?;
    let next = (lines.len() > limit).then(|| lines.get(limit - 1)).flatten().map(|line| format!("a{}", line.id));
    let lines = lines.into_iter().take(limit);
    let items = lines.map(|line| AuditBody { at: line.at.to_string(), who: line.who, what: line.what });
    Ok(List { items: items.collect(), next })
}
