//! The stand-in's side of Easemob KeFu's API: tokens, two ways of counting pages, and every `API_` code.

use super::{
    State,
    faults::Endpoint,
    lock,
    request::{Reply, Request},
    world::{Row, World},
};
use crate::{
    domain::Timestamp,
    vendors::times::{BEIJING, Moment},
};
use serde_json::{Map, Value, json};

/// Every code of the vendor's table, with its text.
pub const CODES: [(&str, &str); 18] = [
    ("API_001", "param is invalid,please check your param is correct!"),
    ("API_002", "token is invalid"),
    ("API_003", "tenantId is incorrect,please confirm that the tenant ID belongs to you"),
    ("API_004", "clientId or secretId is incorrect"),
    ("API_020", "Request body contains more than 10 visitor usernames."),
    ("API_101", "create agent user is failed"),
    ("API_102", "agent nicename must not empty!"),
    ("API_103", "agent user already exist"),
    ("API_104", "agent user not exist,please check username is correct"),
    ("API_105", "agent user not belong your tenant,please check username and tenantId is correct"),
    ("API_106", "roleId must not empty"),
    ("API_107", "api add role is failed,please check roleId is valid"),
    ("API_108", "password must be not empty and length greater 7."),
    ("API_109", "Can not remove only amdin"),
    ("API_110", "Can not remove agent,The agent has processing servicesession."),
    ("API_111", "page index must be more than 0."),
    ("API_112", "page size must be less than 50."),
    ("API_400", "api request failed"),
];

/// An error answer. The vendor shows none; this envelope is its other products'.
pub fn refusal(code: &str) -> Reply {
    let text = CODES.iter().find(|(known, _)| *known == code).map_or("unknown", |(_, text)| text);
    Reply::json(200, &json!({"status": "FAIL", "errorCode": code, "errorDescription": text}))
}

fn fine() -> Reply {
    Reply::json(200, &json!({"status": "OK"}))
}

/// Answers one call.
pub fn answer(state: &State, endpoint: Endpoint, request: &Request) -> Reply {
    if tenant(request) != Some(state.options.tenant_id.as_str()) {
        return refusal("API_003");
    }
    if endpoint == Endpoint::AccessToken {
        return token(state, request);
    }
    let known = request.header("kefu-token").and_then(|token| lock(&state.tokens).get(token).copied());
    if known.is_none_or(|until| request.now >= until) {
        return refusal("API_002");
    }
    let outcome = match endpoint {
        Endpoint::Agents => agents(state, request),
        Endpoint::CreateAgent => create(state, request),
        Endpoint::UpdateAgent => change(state, request, |row| update(row, &request.body, request.now)),
        Endpoint::Password => password(request).and_then(|()| change(state, request, |_| ())),
        Endpoint::DisableAgent => change(state, request, |row| enable(row, "Disable")),
        Endpoint::EnableAgent => change(state, request, |row| enable(row, "Enable")),
        Endpoint::DeleteAgent => delete(state, request),
        Endpoint::Roles => Ok(roles()),
        Endpoint::Sessions => sessions(state, request),
        _ => Err("API_001"),
    };
    outcome.unwrap_or_else(refusal)
}

fn tenant(request: &Request) -> Option<&str> {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["api", "platform", "tenants", tenant, ..] | ["api", "tenants" | "tenant", tenant, ..] => Some(tenant),
        _ => None,
    }
}

fn token(state: &State, request: &Request) -> Reply {
    let pair = (request.text("clientId"), request.text("secretId"));
    if pair != (Some(&state.options.client_id), Some(&state.options.secret_id)) {
        return refusal("API_004");
    }
    let token = state.with_world(|world| format!("{:016x}{:016x}", world.rng.u64(..), world.rng.u64(..)));
    lock(&state.tokens).insert(token.clone(), request.now.plus(state.options.token_life));
    let life = state.options.token_life.as_secs();
    Reply::json(200, &json!({"status": "OK", "entity": {"accessToken": token, "expireTime": life}}))
}

fn agents(state: &State, request: &Request) -> Result<Reply, &'static str> {
    let number = |name: &str| request.query(name).and_then(|text| text.parse::<usize>().ok()).ok_or("API_001");
    let (page, size) = (number("page")?, number("size")?);
    if size == 0 || size > 50 {
        return Err("API_112");
    }
    let wanted = request.query("keyValue").unwrap_or_default();
    Ok(state.with_world(|world| {
        let matches = |row: &&Row| {
            ["username", "trueName", "mobilePhone", "agentNumber"]
                .iter()
                .any(|name| row.json.get(*name).and_then(Value::as_str).is_some_and(|text| text.contains(wanted)))
        };
        let found: Vec<_> = world.agents.iter().filter(matches).collect();
        let shown: Vec<_> = found.iter().skip(page * size).take(size).map(|row| &row.json).collect();
        // The vendor's own sample has totals that contradict each other and the page; so do these.
        Reply::json(
            200,
            &json!({"status": "OK", "entities": shown, "first": page == 0, "last": false, "size": size, "number": page,
                "numberOfElements": shown.len(), "totalPages": 11, "totalElements": shown.len()}),
        )
    }))
}

fn create(state: &State, request: &Request) -> Result<Reply, &'static str> {
    let username = request.text("username").filter(|name| name.contains('@')).ok_or("API_001")?;
    request.text("nicename").filter(|name| !name.is_empty()).ok_or("API_102")?;
    password(request)?;
    role(request)?;
    state.with_world(|world| {
        if world.agents.iter().any(|row| row.id == username) {
            return Err("API_103");
        }
        let row = world.add_agent(username, request.now, &request.body);
        Ok(Reply::json(200, &json!({"status": "OK", "entity": row.json})))
    })
}

fn password(request: &Request) -> Result<(), &'static str> {
    request.text("password").filter(|password| password.chars().count() > 7).map(drop).ok_or("API_108")
}

fn role(request: &Request) -> Result<(), &'static str> {
    match request.body.get("roleId").and_then(Value::as_u64) {
        None => Err("API_106"),
        Some(1..=4) => Ok(()),
        Some(_) => Err("API_107"),
    }
}

fn change(state: &State, request: &Request, change: impl FnOnce(&mut Row)) -> Result<Reply, &'static str> {
    if request.body.contains_key("roleId") {
        role(request)?;
    }
    state.with_world(|world| {
        change(find(world, request)?);
        Ok(fine())
    })
}

fn find<'a>(world: &'a mut World, request: &Request) -> Result<&'a mut Row, &'static str> {
    let username = request.text("username").ok_or("API_001")?;
    world.agents.iter_mut().find(|row| row.id == username).ok_or("API_104")
}

fn update(row: &mut Row, given: &Map<String, Value>, now: Timestamp) {
    for name in ["nicename", "trueName", "mobilePhone", "agentNumber", "maxServiceSessionCount"] {
        if let Some(value) = given.get(name).filter(|value| !value.is_null()) {
            row.json.insert(name.into(), value.clone());
        }
    }
    row.updated = now;
}

fn enable(row: &mut Row, status: &str) {
    row.json.insert("status".into(), json!(status));
}

fn delete(state: &State, request: &Request) -> Result<Reply, &'static str> {
    state.with_world(|world| {
        let username = find(world, request)?.id.clone();
        if world.agents.len() == 1 {
            return Err("API_109");
        }
        world.agents.retain(|row| row.id != username);
        Ok(fine())
    })
}

fn roles() -> Reply {
    let role = |id: u32, name: &str, kind: &str, at: Value| {
        json!({"role_id": id, "role_name": name, "role_description": null, "role_type": kind, "created_at": at,
            "updated_at": at, "status": "ENABLE"})
    };
    Reply::json(
        200,
        &json!({"status": "OK", "entities": [
            role(1, "admin", "SYSTEM", Value::Null),
            role(2, "agent", "SYSTEM", Value::Null),
            role(3, "质检", "CUSTOMIZED", json!("2018-03-23T16:02:02.000+0800")),
            role(4, "夜班", "CUSTOMIZED", json!("2018-06-10T18:32:37.000+0800")),
        ]}),
    )
}

fn sessions(state: &State, request: &Request) -> Result<Reply, &'static str> {
    let number = |name: &str, otherwise: u32| match request.query(name) {
        None | Some("") => Ok(otherwise),
        Some(text) => text.parse::<u32>().map_err(|_| "API_001"),
    };
    // The default is 10 or 50, depending on the revision of the vendor's page.
    let (page, per_page) = (number("page", 1)?, number("per_page", 10)?);
    if page == 0 {
        return Err("API_111");
    }
    if per_page == 0 || per_page > state.options.per_page_max {
        return Err("API_112");
    }
    let filter = Filter::read(request)?;
    let descending = request.query("sortOrder") == Some("desc");
    let by_start = request.query("sortField").is_some_and(|field| field != "stopDateTime");
    Ok(state.with_world(|world| {
        let mut found: Vec<_> = world.sessions.iter().filter(|row| filter.takes(row)).collect();
        found.sort_by_key(|row| if by_start { row.created } else { row.ended.unwrap_or(row.updated) });
        if descending {
            found.reverse();
        }
        let (page, per_page) = (page as usize, per_page as usize);
        let items: Vec<_> = found.iter().skip((page - 1) * per_page).take(per_page).map(|row| &row.json).collect();
        Reply::json(200, &json!({"status": "OK", "entity": {"total_entries": found.len(), "items": items}}))
    }))
}

/// The filters, each with its bound or its set of values; an empty one takes everything.
struct Filter {
    times: Vec<(bool, bool, Timestamp)>,
    values: Vec<(&'static str, Vec<String>)>,
}

impl Filter {
    fn read(request: &Request) -> Result<Self, &'static str> {
        let given = |name: &str| request.query(name).filter(|text| !text.is_empty());
        let mut times = Vec::new();
        for (name, of_end, is_lower) in [
            ("stopDateFrom", true, true),
            ("stopDateTo", true, false),
            ("beginDate", false, true),
            ("endDate", false, false),
            ("createDateFrom", false, true),
            ("createDateTo", false, false),
        ] {
            if let Some(text) = given(name) {
                let moment = Moment::parse(text, BEIJING).ok_or("API_001")?;
                times.push((of_end, is_lower, moment.instant));
            }
        }
        let mut values = Vec::new();
        for (name, field) in [
            ("state", "state"),
            ("originType", "originType"),
            ("transfered", "transfered"),
            ("fromAgentCallback", "fromAgentCallback"),
            ("enquirySummary", "enquirySummary"),
            ("queueIds", "queueId"),
            ("queueId", "queueId"),
            ("agentIds", "agentUserId"),
            ("agentUserId", "agentUserId"),
            ("techChannelId", "techChannelId"),
            ("techChannelType", "techChannelType"),
        ] {
            // `queueId=0` stands in the vendor's sample beside an agent's id, and cannot mean "queue 0".
            if let Some(text) = given(name).filter(|text| (name, *text) != ("queueId", "0")) {
                values.push((field, text.split(',').map(str::to_owned).collect()));
            }
        }
        if let Some(name) = given("customerName") {
            values.push(("customer", vec![name.to_owned()]));
        }
        Ok(Self { times, values })
    }

    fn takes(&self, row: &Row) -> bool {
        let in_time = self.times.iter().all(|(of_end, is_lower, bound)| {
            let time = if *of_end { row.ended.unwrap_or(row.updated) } else { row.created };
            if *is_lower { time >= *bound } else { time <= *bound }
        });
        in_time
            && self.values.iter().all(|(field, wanted)| match row.json.get(*field) {
                Some(Value::Array(items)) => {
                    items.iter().filter_map(Value::as_str).any(|item| wanted.iter().any(|text| text == item))
                }
                Some(Value::Object(customer)) => {
                    let name = customer.get("customerNiceName").and_then(Value::as_str).unwrap_or_default();
                    wanted.iter().any(|text| name.contains(text.as_str()))
                }
                Some(Value::String(text)) => wanted.contains(text),
                Some(other) => wanted.contains(&other.to_string()),
                None => false,
            })
    }
}
