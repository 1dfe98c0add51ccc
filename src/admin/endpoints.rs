//! Every endpoint of the admin listener with the role it takes: the only place that says so.
//!
//! The router is made from [`TABLE`], `openapi.json` is tested against it, and the tests of roles go through it.

use super::{
    AdminState, access, dead_letters, destinations, events, probes, problem::Problem, reconciles, replays, routes,
};
use crate::config::settings::Role;
use axum::{
    Router,
    http::StatusCode,
    middleware,
    routing::{MethodRouter, get, post},
};
use std::sync::Arc;

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, `{…}` for what varies.
    pub path: &'static str,
    /// The least role that may; `None`: everyone, without a token.
    pub role: Option<Role>,
    answer: Answer,
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Livez,
    Readyz,
    Metrics,
    OpenApi,
    Events,
    Event,
    EventExplain,
    DeadLetters,
    DeadLetterGroups,
    DeadLetter,
    Discard,
    Replays,
    Replay,
    ReplayCreate,
    ReplayPause,
    ReplayResume,
    ReplayCancel,
    Audit,
    Destinations,
    Pause,
    Resume,
    Routes,
    Reload,
    Reconciles,
    Reconcile,
    ReconcileBegin,
    ReconcileCancel,
}

const fn read(path: &'static str, answer: Answer) -> Endpoint {
    Endpoint { method: "GET", path, role: Some(Role::Viewer), answer }
}

const fn act(path: &'static str, answer: Answer) -> Endpoint {
    Endpoint { method: "POST", path, role: Some(Role::Operator), answer }
}

const fn own(path: &'static str, answer: Answer) -> Endpoint {
    Endpoint { method: "POST", path, role: Some(Role::Admin), answer }
}

const fn open(path: &'static str, answer: Answer) -> Endpoint {
    Endpoint { method: "GET", path, role: None, answer }
}

/// All of them.
pub const TABLE: &[Endpoint] = &[
    open("/livez", Answer::Livez),
    open("/readyz", Answer::Readyz),
    open("/metrics", Answer::Metrics),
    read("/openapi.json", Answer::OpenApi),
    read("/api/v1/events", Answer::Events),
    read("/api/v1/events/{id}", Answer::Event),
    read("/api/v1/events/{id}/explain", Answer::EventExplain),
    read("/api/v1/dead-letters", Answer::DeadLetters),
    read("/api/v1/dead-letters/groups", Answer::DeadLetterGroups),
    read("/api/v1/dead-letters/{id}", Answer::DeadLetter),
    act("/api/v1/dead-letters/discard", Answer::Discard),
    read("/api/v1/replays", Answer::Replays),
    act("/api/v1/replays", Answer::ReplayCreate),
    read("/api/v1/replays/{id}", Answer::Replay),
    act("/api/v1/replays/{id}/pause", Answer::ReplayPause),
    act("/api/v1/replays/{id}/resume", Answer::ReplayResume),
    act("/api/v1/replays/{id}/cancel", Answer::ReplayCancel),
    read("/api/v1/audit", Answer::Audit),
    read("/api/v1/destinations", Answer::Destinations),
    act("/api/v1/destinations/{name}/pause", Answer::Pause),
    act("/api/v1/destinations/{name}/resume", Answer::Resume),
    read("/api/v1/routes", Answer::Routes),
    own("/api/v1/routes/reload", Answer::Reload),
    read("/api/v1/reconciles", Answer::Reconciles),
    own("/api/v1/reconciles", Answer::ReconcileBegin),
    read("/api/v1/reconciles/{id}", Answer::Reconcile),
    own("/api/v1/reconciles/{id}/cancel", Answer::ReconcileCancel),
];

/// The router of the whole table.
pub fn router(state: &Arc<AdminState>) -> Router {
    let mut router = Router::new();
    for endpoint in TABLE {
        let mut answer = answer(endpoint.answer);
        if let Some(role) = endpoint.role {
            answer = answer.layer(middleware::from_fn_with_state((Arc::clone(state), role), access::check));
        }
        router = router.route(endpoint.path, answer);
    }
    let nothing = || async { Problem::not_found("there is nothing here; `/openapi.json` lists what there is") };
    let method = || async {
        let detail = "the path is right, the method is not".to_owned();
        Problem { status: StatusCode::METHOD_NOT_ALLOWED, detail }
    };
    router.fallback(nothing).method_not_allowed_fallback(method).with_state(Arc::clone(state))
}

fn answer(answer: Answer) -> MethodRouter<Arc<AdminState>> {
    match answer {
        Answer::Livez => get(probes::livez),
        Answer::Readyz => get(probes::readyz),
        Answer::Metrics => get(probes::metrics),
        Answer::OpenApi => get(probes::openapi),
        Answer::Events => get(events::list),
        Answer::Event => get(events::one),
        Answer::EventExplain => get(events::explain),
        Answer::DeadLetters => get(dead_letters::list),
        Answer::DeadLetterGroups => get(dead_letters::groups),
        Answer::DeadLetter => get(dead_letters::one),
        Answer::Discard => post(replays::discard),
        Answer::Replays => get(replays::list),
        Answer::ReplayCreate => post(replays::create),
        Answer::Replay => get(replays::one),
        Answer::ReplayPause => post(replays::pause),
        Answer::ReplayResume => post(replays::resume),
        Answer::ReplayCancel => post(replays::cancel),
        Answer::Audit => get(replays::audit),
        Answer::Destinations => get(destinations::list),
        Answer::Pause => post(destinations::pause),
        Answer::Resume => post(destinations::resume),
        Answer::Routes => get(routes::list),
        Answer::Reload => post(routes::reload),
        Answer::Reconciles => get(reconciles::list),
        Answer::Reconcile => get(reconciles::one),
        Answer::ReconcileBegin => post(reconciles::begin),
        Answer::ReconcileCancel => post(reconciles::cancel),
    }
}

#[cfg(test)]
mod tests {
    use super::TABLE;
    use serde_json::Value;
    use std::collections::BTreeSet;

    #[test]
    fn the_description_and_the_table_say_the_same() {
        let described: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
        let mut in_description = BTreeSet::new();
        for (path, methods) in described["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                let role = operation["x-role"].as_str().map(ToOwned::to_owned);
                assert_eq!(open, role.is_none(), "{path}");
                assert!(operation["responses"]["200"].is_object(), "{path}");
                let locks_out = operation["responses"]["429"]["$ref"] == "#/components/responses/locked_out";
                assert_eq!(open, !locks_out, "{path}: who guesses tokens is answered 429 wherever one is needed");
                in_description.insert((method.to_uppercase(), path.clone(), role));
            }
        }
        let role = |role| super::access::role_text(role).to_owned();
        let in_table: BTreeSet<_> =
            TABLE.iter().map(|one| (one.method.to_owned(), one.path.to_owned(), one.role.map(role))).collect();
        assert_eq!(in_table.len(), TABLE.len(), "an endpoint stands there twice");
        assert_eq!(in_description, in_table);
    }

    #[test]
    fn the_documentation_lists_every_endpoint_with_its_role() {
        let documentation = include_str!("../../docs/admin-api.md");
        let mut listed = BTreeSet::new();
        for row in documentation.lines().filter(|row| row.starts_with("| `GET /") || row.starts_with("| `POST /")) {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let [endpoints, role] = cells[..] else { panic!("not two cells: {row}") };
            let (mut method, mut base) = ("", "");
            for endpoint in endpoints.split(", ").map(|endpoint| endpoint.trim_matches('`')) {
                let path = match endpoint.split_once(' ') {
                    Some(whole) => {
                        (method, base) = whole;
                        base.to_owned()
                    }
                    None => endpoint.replacen('…', base, 1),
                };
                listed.insert((method.to_owned(), path, role.to_owned()));
            }
        }
        let role = |role: Option<_>| role.map_or("none", super::access::role_text).to_owned();
        let in_table = TABLE.iter().map(|one| (one.method.to_owned(), one.path.to_owned(), role(one.role)));
        assert_eq!(listed, in_table.collect());
    }

    #[test]
    fn what_changes_something_is_not_for_viewers() {
        for endpoint in TABLE.iter().filter(|endpoint| endpoint.method != "GET") {
            assert!(endpoint.role > Some(crate::config::settings::Role::Viewer), "{}", endpoint.path);
        }
    }
}
