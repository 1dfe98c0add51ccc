//! `/api/v1/reconciles`: back-fills, which read a stretch of a tenant's history through the routes.

use super::{
    AdminState,
    access::Who,
    lists::{List, NoParameters, parameters},
    problem::Problem,
};
use crate::{
    config::{settings::SourceKind, units},
    domain::Timestamp,
    reconcile::{
        Class,
        feed::Counts,
        jobs::{Job, JobError, ListProgress, Request},
    },
};
use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a back-fill is asked for with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestBody {
    source: String,
    tenant: String,
    from: String,
    to: Option<String>,
    rate: Option<String>,
}

/// A back-fill, as the API shows it.
#[derive(Debug, Serialize)]
pub struct JobBody {
    id: String,
    state: &'static str,
    source: String,
    tenant: String,
    from: String,
    to: String,
    by: String,
    created_at: String,
    ended_at: Option<String>,
    progress: f64,
    #[serde(flatten)]
    counts: Counts,
    lists: Vec<ListBody>,
    unseen: &'static [&'static str],
    ids_since: String,
}

/// How far one list is read.
#[derive(Debug, Serialize)]
pub struct ListBody {
    list: &'static str,
    done: bool,
    read_up_to: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    last_error: Option<String>,
}

fn time(millis: i64) -> String {
    Timestamp::from_millis(millis).to_string()
}

impl ListBody {
    fn of(list: &ListProgress) -> Self {
        Self {
            list: list.class.as_str(),
            done: list.done,
            read_up_to: list.mark.map(time),
            counts: list.counts,
            last_error: list.error.clone(),
        }
    }
}

impl JobBody {
    fn of(job: &Job, state: &AdminState) -> Self {
        let generation = state.generation.load();
        let source = generation.settings.sources.get(job.request.source.as_str());
        let kind = source.map_or(SourceKind::Laigu, |source| source.kind);
        let kept = i64::try_from(generation.settings.storage.retention.ids.as_millis()).unwrap_or(i64::MAX);
        let counts = job.lists.iter().fold(Counts::default(), |sum, list| sum.plus(list.counts));
        Self {
            id: format!("rcn_{}", job.id),
            state: job.state.as_str(),
            source: job.request.source.clone(),
            tenant: job.request.tenant.clone(),
            from: time(job.request.from),
            to: time(job.to),
            by: job.who.clone(),
            created_at: time(job.created_at),
            ended_at: job.ended_at.map(time),
            progress: progress(job),
            counts,
            lists: job.lists.iter().map(ListBody::of).collect(),
            unseen: Class::unseen(kind),
            ids_since: time(job.created_at.saturating_sub(kept)),
        }
    }
}

/// The share of the stretch that is read, 0 to 1, over all lists.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
fn progress(job: &Job) -> f64 {
    let whole = (job.to - job.request.from).max(1) as f64;
    let share = |list: &ListProgress| match list.mark {
        _ if list.done => 1.0,
        None => 0.0,
        Some(mark) => ((mark - job.request.from) as f64 / whole).clamp(0.0, 1.0),
    };
    job.lists.iter().map(share).sum::<f64>() / job.lists.len().max(1) as f64
}

/// Begins one, or takes up the one that was asked for in the same words and has not ended well: 201 or 200.
pub async fn begin(
    State(state): State<Arc<AdminState>>,
    Extension(Who(who)): Extension<Who>,
    body: Result<Json<RequestBody>, JsonRejection>,
) -> Result<(StatusCode, Json<JobBody>), Problem> {
    let Json(body) = body.map_err(|error| Problem::bad_request(error.body_text()))?;
    let at = |name: &str, text: &str| {
        let wrong = || Problem::bad_request(format!("{name}: `{text}` is not RFC 3339, such as 2024-09-20T09:00:00Z"));
        Timestamp::parse_rfc3339(text).map(Timestamp::as_millis).ok_or_else(wrong)
    };
    let rate = |text: &String| {
        let wrong = || Problem::bad_request(format!("rate: `{text}` is not {}", units::RATE_FORM));
        let rate = units::rate(text).ok_or_else(wrong)?;
        Ok::<_, Problem>((rate.count, u64::try_from(rate.per.as_millis()).unwrap_or(u64::MAX)))
    };
    let request = Request {
        from: at("from", &body.from)?,
        to: body.to.as_deref().map(|text| at("to", text)).transpose()?,
        rate: body.rate.as_ref().map(rate).transpose()?,
        source: body.source,
        tenant: body.tenant,
    };
    let now = Timestamp::now();
    let place = format!("reconcile {}/{} from {}", request.source, request.tenant, body.from);
    // What would be refused is nothing that was done.
    state.jobs.check(&request, now).map_err(|error| problem(&error))?;
    audit(&state, &who, place).await?;
    let before = state.jobs.list().first().map_or(0, |job| job.id);
    let job = state.jobs.begin(&who, request, now).await.map_err(|error| problem(&error))?;
    let status = if job.id > before { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(JobBody::of(&job, &state))))
}

/// All of them, the newest first.
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Result<Query<NoParameters>, QueryRejection>,
) -> Result<List<JobBody>, Problem> {
    parameters(query)?;
    Ok(List { items: state.jobs.list().iter().map(|job| JobBody::of(job, &state)).collect(), next: None })
}

/// One of them.
pub async fn one(State(state): State<Arc<AdminState>>, Path(id): Path<String>) -> Result<Json<JobBody>, Problem> {
    let job = number(&id).and_then(|id| state.jobs.one(id)).ok_or_else(|| problem(&JobError::Missing))?;
    Ok(Json(JobBody::of(&job, &state)))
}

/// Stops one; what it has found stays.
pub async fn cancel(
    State(state): State<Arc<AdminState>>,
    Extension(Who(who)): Extension<Who>,
    Path(id): Path<String>,
) -> Result<Json<JobBody>, Problem> {
    let number = number(&id).filter(|number| state.jobs.one(*number).is_some());
    let number = number.ok_or_else(|| problem(&JobError::Missing))?;
    audit(&state, &who, format!("cancel {id}")).await?;
    let job = state.jobs.cancel(number, Timestamp::now()).await.map_err(|error| problem(&error))?;
    Ok(Json(JobBody::of(&job, &state)))
}

fn number(id: &str) -> Option<u32> {
    id.strip_prefix("rcn_")?.parse().ok()
}

async fn audit(state: &AdminState, who: &str, what: String) -> Result<(), Problem> {
    let who = who.to_owned();
    let written = state.keeper.with(move |kept| kept.audit(Timestamp::now(), &who, &what)).await;
    match written {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Problem::unavailable(&error)),
        Err(error) => Err(Problem::unavailable(&error)),
    }
}

fn problem(error: &JobError) -> Problem {
    match error {
        JobError::Bad(detail) => Problem::bad_request(detail.clone()),
        JobError::TooMany => Problem { status: StatusCode::CONFLICT, detail: error.to_string() },
        JobError::Missing => Problem::not_found(error.to_string()),
        JobError::Store => Problem { status: StatusCode::SERVICE_UNAVAILABLE, detail: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::{number, progress};
    use crate::reconcile::{
        Class,
        feed::Counts,
        jobs::{Job, JobState, ListProgress, Request},
    };

    #[test]
    fn progress_is_that_of_all_lists_together() {
        let list = |class, mark, done| ListProgress { class, mark, done, counts: Counts::default(), error: None };
        let request = Request { source: "s".into(), tenant: "t".into(), from: 100, to: None, rate: None };
        let mut job = Job {
            id: 1,
            request,
            to: 300,
            who: "w".into(),
            created_at: 300,
            ended_at: None,
            state: JobState::Running,
            lists: vec![list(Class::Clients, Some(200), false), list(Class::Conversations, None, false)],
        };
        assert!((progress(&job) - 0.25).abs() < 1e-9);
        job.lists = vec![list(Class::Clients, Some(300), true), list(Class::Conversations, Some(200), false)];
        assert!((progress(&job) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn an_id_is_a_word_and_a_number() {
        assert_eq!((number("rcn_7"), number("7"), number("rcn_x"), number("rep_7")), (Some(7), None, None, None));
    }
}
