//! What all lists have in common: their shape, their cursor, their parameters.

use super::problem::Problem;
use crate::{
    domain::Timestamp,
    journal::{ReadError, sqlite::queries::Queries},
};
use axum::{
    Json,
    extract::{Query, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

/// Items of a page that asks for none.
const LIMIT_DEFAULT: usize = 50;
/// Items of a page at most.
const LIMIT_MAX: usize = 500;

/// A list, as every endpoint gives it.
#[derive(Debug, Serialize)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where to go on; `null` at the end. A page may be empty and not the last one.
    pub next: Option<String>,
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}

/// The parameters of a list that takes none: all of it is one page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// The parameters, or what is wrong with them.
pub fn parameters<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(parameters)| parameters).map_err(|error| Problem::bad_request(error.body_text()))
}

/// How many items a page may have.
pub fn limit(given: Option<usize>) -> Result<usize, Problem> {
    match given {
        None => Ok(LIMIT_DEFAULT),
        Some(limit) if (1..=LIMIT_MAX).contains(&limit) => Ok(limit),
        Some(limit) => Err(Problem::bad_request(format!("limit: {limit} is not between 1 and {LIMIT_MAX}"))),
    }
}

/// A time of a filter.
pub fn time(name: &str, given: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = given else { return Ok(None) };
    let time = Timestamp::parse_rfc3339(text);
    let wrong = || Problem::bad_request(format!("{name}: `{text}` is not RFC 3339, such as 2024-09-20T09:00:00Z"));
    time.map(Some).ok_or_else(wrong)
}

/// A word of a closed set.
pub fn word<T>(
    name: &str,
    given: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
    all: &[&str],
) -> Result<Option<T>, Problem> {
    let Some(text) = given else { return Ok(None) };
    let wrong = || Problem::bad_request(format!("{name}: `{text}` is not one of {}", all.join(", ")));
    parse(text).map(Some).ok_or_else(wrong)
}

/// Asks the store where blocking is allowed.
pub async fn ask<R: Send + 'static>(
    queries: Queries,
    question: impl FnOnce(&Queries) -> Result<R, ReadError> + Send + 'static,
) -> Result<R, Problem> {
    match tokio::task::spawn_blocking(move || question(&queries)).await {
        Ok(answer) => answer.map_err(|error| Problem::unavailable(&error)),
        Err(error) => Err(Problem::unavailable(&error)),
    }
}
