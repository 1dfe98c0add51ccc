//! The stand-in's side of Laigu's API: its page rules, its error numbers, its odd spellings.

use super::{
    Options, State,
    faults::Endpoint,
    request::{Reply, Request},
    world::{Row, World},
};
use crate::{
    core::rate::Take,
    domain::Timestamp,
    vendors::{
        laigu::api::window::{LIMIT_MAX, Window},
        times::{BEIJING, Moment},
    },
};
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What an error number says.
#[must_use]
pub fn errmsg(errno: i64) -> &'static str {
    match errno {
        10011 => "Authentication failed. Please check app_id and sign.",
        10012 => "URL is error. Please check url.",
        10013 => "The param of limit in request is too large, exceed max value 20.",
        10014 => "Request api exceed specified times. Please request later.",
        10015 => "Server-side internal logic error. Please try again later.",
        10016 => "The param is invalid.",
        _ => "Unknown error.",
    }
}

/// An error answer. Which HTTP status goes with it is documented nowhere; 200 is the hardest on clients.
pub fn refusal(errno: i64) -> Reply {
    Reply::json(200, &json!({"errno": errno, "errmsg": errmsg(errno)}))
}

/// What is wrong with a request's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// 10016
    Parameter(&'static str),
    /// 10013
    Limit(u32),
}

impl Wrong {
    fn reply(self) -> Reply {
        let (errno, errmsg) = match self {
            Self::Parameter(name) => (10016, format!("The param of {name} is invalid.")),
            Self::Limit(limit) => {
                (10013, format!("The param of limit in request is {limit}, exceed max value {LIMIT_MAX}."))
            }
        };
        Reply::json(200, &json!({"errno": errno, "errmsg": errmsg}))
    }
}

/// Answers one call.
pub fn answer(state: &State, endpoint: Endpoint, request: &Request) -> Reply {
    let options = &state.options;
    if state.take(request.now) != Take::Ready {
        return refusal(10014);
    }
    if !authorised(options, endpoint, request) {
        return refusal(10011);
    }
    let outcome = match endpoint {
        Endpoint::Conversation => one(state, request),
        Endpoint::ConversationsV1 => by_offset(state, request),
        Endpoint::Conversations => listed(state, request, ended),
        Endpoint::ClientsCreated => listed(state, request, |world, window| {
            // By `ticket_id`, says the vendor, which is no field of the record: here a number without meaning.
            let mut rows = world.customers(window, |row| row.created);
            rows.sort_by_key(|row| digest(&row.id));
            rows
        }),
        Endpoint::ClientsUpdated => listed(state, request, |world, window| {
            let mut rows = world.customers(window, |row| row.updated);
            rows.sort_by(|a, b| a.id.cmp(&b.id));
            rows
        }),
        Endpoint::AgentOnlineStats => report(request, true),
        Endpoint::AgentService => report(request, false),
        _ => Ok(Reply::json(404, &json!({"errno": 10012, "errmsg": errmsg(10012)}))),
    };
    outcome.unwrap_or_else(Wrong::reply)
}

/// Bearer anywhere; `app_id` and `sign` in the query of V1, in headers elsewhere.
fn authorised(options: &Options, endpoint: Endpoint, request: &Request) -> bool {
    if let Some(value) = request.header("authorization") {
        return value.strip_prefix("Bearer ") == Some(options.access_token.as_str());
    }
    let (app_id, sign) = match endpoint {
        Endpoint::Conversation | Endpoint::ConversationsV1 => (request.query("app_id"), request.query("sign")),
        _ => (request.header("x-app-id"), request.header("x-sign")),
    };
    app_id == Some(options.app_id.as_str()) && sign == Some(options.sign.as_str())
}

fn one(state: &State, request: &Request) -> Result<Reply, Wrong> {
    enterprise(state, request)?;
    let id = request.segments.last().map(String::as_str).unwrap_or_default();
    if request.query("conv_id") != Some(id) {
        return Err(Wrong::Parameter("conv_id"));
    }
    Ok(state.with_world(|world| match world.conversations.iter().find(|row| row.id == id) {
        Some(row) => Reply::json(200, &json!({"errno": 0, "errmsg": "", "result": row.json})),
        None => Reply::json(404, &json!({"errmsg": "conversation not found"})),
    }))
}

fn by_offset(state: &State, request: &Request) -> Result<Reply, Wrong> {
    enterprise(state, request)?;
    let limit = limit(request)?;
    let window = window(state, request, "conv_start_from_tm", "conv_start_to_tm")?;
    let offset = request.query("offset").and_then(|offset| offset.parse().ok()).ok_or(Wrong::Parameter("offset"))?;
    Ok(state.with_world(|world| {
        let page: Vec<_> = ended(world, window).into_iter().skip(offset).take(limit).map(|row| &row.json).collect();
        Reply::json(200, &json!({"errno": 0, "errmsg": "", "result": page}))
    }))
}

/// A V2 list. The token names the last record given and the query it belongs to: with another query it is no good.
fn listed(
    state: &State,
    request: &Request,
    select: impl for<'a> Fn(&'a World, Window) -> Vec<&'a Row>,
) -> Result<Reply, Wrong> {
    enterprise(state, request)?;
    let limit = limit(request)?;
    let window = window(state, request, "from_tm", "to_tm")?;
    let stale = Wrong::Parameter("page_token");
    let token = request.query("page_token").ok_or(stale)?;
    let query = digest(&format!("{:?} {window:?} {limit}", request.segments));
    let last = match token.rsplit_once('.') {
        _ if token.is_empty() => None,
        Some((last, of)) if of == format!("{query:016x}") => Some(last),
        _ => return Err(stale),
    };
    state.with_world(|world| {
        let rows = select(world, window);
        let begin = match last {
            None => 0,
            // A record that changed or went since has taken its place with it.
            Some(last) => rows.iter().position(|row| row.id == last).ok_or(stale)? + 1,
        };
        let page: Vec<_> = rows.iter().skip(begin).take(limit).collect();
        let next = match page.last() {
            Some(row) if begin + page.len() < rows.len() => format!("{}.{query:016x}", row.id),
            _ => String::new(),
        };
        let records: Vec<_> = page.iter().map(|row| &row.json).collect();
        Ok(Reply::json(200, &json!({"errno": 0, "errmsg": "", "result": records, "next_page_token": next})))
    })
}

/// Conversations that ended in a window, by number.
fn ended(world: &World, window: Window) -> Vec<&Row> {
    let within = |row: &&Row| row.ended.is_some_and(|end| window.holds(end));
    let mut rows: Vec<_> = world.conversations.iter().filter(within).collect();
    rows.sort_by_key(|row| row.id.parse().unwrap_or(u64::MAX));
    rows
}

fn enterprise(state: &State, request: &Request) -> Result<(), Wrong> {
    let wanted = state.options.enterprise_id.to_string();
    let right = request.query("enterprise_id") == Some(wanted.as_str());
    if right { Ok(()) } else { Err(Wrong::Parameter("enterprise_id")) }
}

fn limit(request: &Request) -> Result<usize, Wrong> {
    match request.query("limit").and_then(|limit| limit.parse::<u32>().ok()) {
        None | Some(0) => Err(Wrong::Parameter("limit")),
        Some(limit) if limit > LIMIT_MAX => Err(Wrong::Limit(limit)),
        Some(limit) => Ok(limit as usize),
    }
}

fn window(state: &State, request: &Request, from: &'static str, to: &'static str) -> Result<Window, Wrong> {
    let window = any_window(request, from, to)?;
    if window.span() > state.options.window_max { Err(Wrong::Parameter(to)) } else { Ok(window) }
}

fn any_window(request: &Request, from: &'static str, to: &'static str) -> Result<Window, Wrong> {
    let read = |name| request.query(name).and_then(time).ok_or(Wrong::Parameter(name));
    let window = Window { from: read(from)?, to: read(to)? };
    if window.to < window.from { Err(Wrong::Parameter(to)) } else { Ok(window) }
}

fn time(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Timestamp::from_millis(seconds.saturating_mul(1000)));
    }
    Some(Moment::parse(text, BEIJING)?.instant)
}

fn report(request: &Request, online: bool) -> Result<Reply, Wrong> {
    any_window(request, "from_tm", "to_tm")?;
    let rows: Vec<Value> = (1..=8_u32)
        .map(|agent| {
            let mut row = json!({
                "agent_id": 10_000_000 + agent, "agent_name": format!("客服{agent}号"), "group_id": 4372,
                "group_name": "默认分组", "work_num": "",
            });
            let numbers = if online {
                json!({"online_offduty": 0, "online_onduty": agent * 600, "pns_onduty": 0, "pns_offduty": 0,
                    "offline": 50_400})
            } else {
                json!({"conv_cnt": agent, "effective_conv_cnt": agent, "missed_conv_cnt": 0, "delayed_conv_cnt": 0,
                    "msg_cnt": agent * 9, "duration_time": agent * 300, "conv_first_response_wait_time": 12,
                    "agent_first_response_wait_time": 9, "avg_response_wait_time": 15, "gold_conv_cnt": 1,
                    "silver_conv_cnt": 0, "bronze_conv_cnt": 0, "nograde_conv_cnt": agent - 1, "good_conv_cnt": 1,
                    "medium_conv_cnt": 0, "bad_conv_cnt": 0, "clues_cnt": 1, "remark_cnt": 0, "transfer_in_cnt": 0,
                    "transfer_out_cnt": 0, "clue_conv_cnt": 1})
            };
            if let (Some(row), Value::Object(numbers)) = (row.as_object_mut(), numbers) {
                row.extend(numbers);
            }
            row
        })
        .collect();
    Ok(Reply::json(200, &json!({"rows": rows})))
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
