//! `/_sandbox/…`: the stand-in's own switches, for tests that run in another process or another language.
//!
//! `GET /_sandbox/calls` · `POST /_sandbox/faults` `{"endpoint": "clients-updated", "times": 3, "fault": {"errno": 10014}}`
//! · `DELETE /_sandbox/faults` · `POST /_sandbox/void-tokens` · `POST /_sandbox/touch` `{"clients": 5}`: that many
//! customers change now.

use super::{
    State,
    easemob::CODES,
    faults::{Endpoint, Fault},
    lock,
    request::{Reply, Request},
};
use axum::http::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Answers one request.
pub fn answer(state: &State, request: &Request) -> Reply {
    let word = request.segments.get(1).map(String::as_str).unwrap_or_default();
    let (get, post) = (request.method == Method::GET, request.method == Method::POST);
    match word {
        "calls" if get => {
            let calls: Map<_, _> = state
                .faults
                .all_calls()
                .into_iter()
                .map(|(endpoint, calls)| (endpoint.as_str().to_owned(), json!(calls)))
                .collect();
            Reply::json(200, &Value::Object(calls))
        }
        "faults" if post => match plan(&request.body) {
            Ok((endpoint, times, fault)) => {
                state.faults.plan(endpoint, times, fault);
                Reply::json(200, &json!({"planned": times}))
            }
            Err(problem) => Reply::json(400, &json!({"error": problem})),
        },
        "faults" if request.method == Method::DELETE => {
            state.faults.clear();
            Reply::json(200, &json!({"planned": 0}))
        }
        "void-tokens" if post => {
            lock(&state.tokens).clear();
            Reply::json(200, &json!({}))
        }
        "touch" if post => Reply::json(200, &json!({"touched": touch(state, request)})),
        _ => Reply::json(404, &json!({"error": "GET calls · POST faults, void-tokens, touch · DELETE faults"})),
    }
}

fn touch(state: &State, request: &Request) -> Vec<String> {
    let count = request.body.get("clients").and_then(Value::as_u64).unwrap_or(1);
    state.with_world(|world| {
        let all: Vec<String> = world.clients.iter().map(|row| row.id.clone()).collect();
        let mut touched = Vec::new();
        for _ in 0..count.min(all.len() as u64) {
            let chosen = world.rng.usize(0..all.len());
            if let Some(id) = all.get(chosen).filter(|id| world.touch_client(id, request.now)) {
                touched.push(id.clone());
            }
        }
        touched
    })
}

fn plan(body: &Map<String, Value>) -> Result<(Option<Endpoint>, u32, Fault), String> {
    let endpoint = match body.get("endpoint").and_then(Value::as_str) {
        None | Some("any") => None,
        Some(word) => Some(Endpoint::parse(word).ok_or_else(|| format!("no endpoint `{word}`"))?),
    };
    let times = body.get("times").and_then(Value::as_u64).unwrap_or(1);
    let fault = fault(body.get("fault").unwrap_or(&Value::Null)).ok_or(
        "a fault is \"hang\", \"html\", \"truncated\", \"drip\", \"huge\", \"garbled\", \"gzip\", \"bomb\", \"deep\", \"null\", \
         {\"errno\": 10014}, {\"code\": \"API_400\"}, {\"status\": 500}, {\"late_ms\": 100} or {\"redirect\": \"…\"}",
    )?;
    Ok((endpoint, u32::try_from(times).unwrap_or(u32::MAX), fault))
}

fn fault(value: &Value) -> Option<Fault> {
    if let Some(word) = value.as_str() {
        return Some(match word {
            "hang" => Fault::Hang,
            "html" => Fault::Html,
            "truncated" => Fault::Truncated,
            "drip" => Fault::Drip,
            "huge" => Fault::Huge,
            "garbled" => Fault::Garbled,
            "gzip" => Fault::Gzip,
            "bomb" => Fault::Bomb,
            "deep" => Fault::Deep,
            "null" => Fault::NullResult,
            _ => return None,
        });
    }
    let (name, value) = value.as_object()?.iter().next()?;
    match name.as_str() {
        "errno" => Some(Fault::Errno(value.as_i64()?)),
        "code" => {
            let wanted = value.as_str()?;
            CODES.iter().find(|(code, _)| *code == wanted).map(|(code, _)| Fault::Code(code))
        }
        "status" => Some(Fault::Status(u16::try_from(value.as_u64()?).ok()?)),
        "late_ms" => Some(Fault::Late(Duration::from_millis(value.as_u64()?))),
        "redirect" => Some(Fault::Redirect(value.as_str()?.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{fault, plan};
    use crate::sandbox::faults::{Endpoint, Fault};
    use serde_json::json;

    #[test]
    fn a_plan_is_read_from_json() {
        let body = json!({"endpoint": "clients-updated", "times": 3, "fault": {"errno": 10014}});
        let expected = (Some(Endpoint::ClientsUpdated), 3, Fault::Errno(10014));
        assert_eq!(plan(body.as_object().unwrap()), Ok(expected));
        assert!(plan(json!({"endpoint": "x"}).as_object().unwrap()).is_err());
        assert!(plan(json!({"fault": "x"}).as_object().unwrap()).is_err());
    }

    #[test]
    fn only_codes_of_the_vendors_table_can_be_planned() {
        assert_eq!(fault(&json!({"code": "API_112"})), Some(Fault::Code("API_112")));
        assert_eq!(fault(&json!({"code": "API_999"})), None);
    }
}
