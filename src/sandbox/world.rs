//! The people and conversations of the stand-in: the same for the same seed, and changing when told to.

use super::names;
use crate::{
    domain::Timestamp,
    vendors::{
        laigu::api::window::{Bound, TimeFormat, Window},
        times::BEIJING,
    },
};
use fastrand::Rng;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// A record that changes: what the API lists it by, and its JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `track_id`, `conv_id`, `serviceSessionId` or `userId`.
    pub id: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// When it ended; conversations and sessions only.
    pub ended: Option<Timestamp>,
    /// What the API shows.
    pub json: Map<String, Value>,
}

/// Everything there is.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Laigu's customers and visitors.
    pub clients: Vec<Row>,
    /// Laigu's conversations.
    pub conversations: Vec<Row>,
    /// Easemob's agents; `id` is the user name, as calls name them by it.
    pub agents: Vec<Row>,
    /// Easemob's sessions.
    pub sessions: Vec<Row>,
    pub(super) rng: Rng,
    enterprise: (u64, String),
    tenant_id: String,
}

/// How large the world is, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The same seed and `now` make the same world.
    pub seed: u64,
    /// When the newest record was made.
    pub now: Timestamp,
    /// How far back the oldest one lies.
    pub past: Duration,
    /// Customers and visitors.
    pub clients: usize,
    /// Conversations.
    pub conversations: usize,
    /// Easemob's agents.
    pub agents: usize,
    /// Easemob's sessions.
    pub sessions: usize,
}

impl World {
    /// Makes the world of a plan.
    #[must_use]
    pub fn new(plan: &Plan, enterprise_id: u64, enterprise_token: &str, tenant_id: &str) -> Self {
        let mut world = Self {
            clients: Vec::new(),
            conversations: Vec::new(),
            agents: Vec::new(),
            sessions: Vec::new(),
            rng: Rng::with_seed(plan.seed),
            enterprise: (enterprise_id, enterprise_token.to_owned()),
            tenant_id: tenant_id.to_owned(),
        };
        let past = u64::try_from(plan.past.as_millis()).unwrap_or(u64::MAX);
        let mut times = |count: usize| {
            let mut ago: Vec<u64> = (0..count).map(|_| world.rng.u64(0..past.max(1))).collect();
            ago.sort_unstable_by(|a, b| b.cmp(a));
            let at = |ago: u64| plan.now.as_millis() - i64::try_from(ago).unwrap_or(0);
            ago.into_iter().map(|ago| Timestamp::from_millis(at(ago))).collect::<Vec<_>>()
        };
        let (clients, conversations, sessions) = (times(plan.clients), times(plan.conversations), times(plan.sessions));
        for time in clients {
            world.add_client(time);
        }
        for time in conversations {
            let row = world.add_conversation(time);
            // Eight of ten are over; the others are still going on.
            if world.rng.u32(0..10) < 8 {
                let length = Duration::from_millis(world.rng.u64(60_000..3_600_000));
                world.end_conversation(&row, time.plus(length).min(plan.now));
            }
        }
        for _ in 0..plan.agents {
            let username = format!("agent{}@acme.example", world.agents.len() + 1);
            world.add_agent(&username, plan.now, &Map::new());
        }
        for time in sessions {
            world.add_session(time, plan.now);
        }
        world
    }

    /// Adds a visitor; nine of ten leave a way to be reached and so are customers. Returns the `track_id`.
    pub fn add_client(&mut self, now: Timestamp) -> String {
        let number = self.clients.len();
        let id = names::track_id(&mut self.rng);
        let mut json = Map::new();
        let mut put = |name: &str, value: Value| json.insert(name.to_owned(), value);
        put("track_id", json!(id));
        put("enterprise_token", json!(self.enterprise.1));
        put("name", json!(names::person(&mut self.rng)));
        put("source", json!(self.rng.choice(["redbook", "douyin", "baidu", "wechat"]).unwrap_or("redbook")));
        put("sub_source", json!(format!("62b1fcaf0000000{:09x}", self.rng.u32(..))));
        put("gender", json!(self.rng.choice(["F", "M"]).unwrap_or("F")));
        put("age", json!(self.rng.u32(18..60).to_string()));
        put("address", json!(names::place(&mut self.rng)));
        put("advertiser_id", json!("111"));
        put("advertiser_name", json!("微亿璀璨(来鼓)1"));
        put("campaign_id", json!(self.rng.u32(200..230).to_string()));
        put("campaign_name", json!("客资收集_计划2"));
        put("tags", json!([self.rng.u32(1..99), self.rng.u32(1..99)]));
        put("custom", json!({"意向产品": [names::product(&mut self.rng)], "首次到店": rfc3339(now)}));
        match self.rng.u32(0..10) {
            0 => {}
            1..=3 => drop(put("weixin", json!(format!("wx_{number:06}")))),
            4 => drop(put("qq", json!(self.rng.u32(10_000_000..99_999_999).to_string()))),
            _ => drop(put("tel", json!(format!("138{:08}", self.rng.u32(0..99_999_999))))),
        }
        put("created_on", json!(rfc3339(now)));
        put("updated_on", json!(rfc3339(now)));
        self.clients.push(Row { id: id.clone(), created: now, updated: now, ended: None, json });
        id
    }

    /// Changes a client's note, and with it the record's version. Whether there is one of that id.
    pub fn touch_client(&mut self, track_id: &str, now: Timestamp) -> bool {
        let note = format!("{} 已回访", names::person(&mut self.rng));
        let Some(row) = self.clients.iter_mut().find(|row| row.id == track_id) else { return false };
        row.updated = now;
        row.json.insert("comment".into(), json!(note));
        row.json.insert("updated_on".into(), json!(rfc3339(now)));
        true
    }

    /// Opens a conversation with some client. Returns the `conv_id`.
    pub fn add_conversation(&mut self, now: Timestamp) -> String {
        let id = (700_000_001 + self.conversations.len()).to_string();
        let client = self.rng.usize(0..self.clients.len().max(1));
        let track_id = self.clients.get(client).map(|row| row.id.clone()).unwrap_or_default();
        let agent = self.rng.u32(1..9);
        let json = json!({
            "enterprise_id": self.enterprise.0,
            "conv_id": id.parse::<u64>().unwrap_or_default(),
            "client_id": 5_000_000 + client,
            "client_info": {"track_id": track_id, "visitor_name": names::person(&mut self.rng)},
            "visitor_tags": ["意向高"],
            "agent_ID": format!("1000{agent:04}"),
            "agent_name": format!("客服{agent}号"),
            "agent_account": format!("agent{agent}@acme.example"),
            "group_id": "4372",
            "group_name": "默认分组",
            "conv_start_tm": beijing(now),
            "conv_end_tm": null,
            "conv_first_resp_wait_in_secs": self.rng.u32(1..60),
            "conv_content": [
                {"from": "client", "timestamp": beijing(now), "content": names::question(&mut self.rng), "content_type": "text",
                 "type": "message"},
            ],
            // One vendor page says text, the wire says number: both occur here.
            "conv_agent_msg_count": if self.rng.bool() { json!(3) } else { json!("3") },
            "conv_visitor_msg_count": 4,
            "source_type": "ad",
            "main_channel": "web",
        });
        self.conversations.push(Row { id: id.clone(), created: now, updated: now, ended: None, json: members(json) });
        id
    }

    /// Ends a conversation. Whether there is one of that id.
    pub fn end_conversation(&mut self, conv_id: &str, now: Timestamp) -> bool {
        let leads = names::product(&mut self.rng);
        let Some(row) = self.conversations.iter_mut().find(|row| row.id == conv_id) else { return false };
        (row.ended, row.updated) = (Some(now), now);
        row.json.insert("conv_end_tm".into(), json!(beijing(now)));
        row.json.insert("conv_leads".into(), json!(leads));
        row.json.insert("converse_duration".into(), json!(now.since(row.created).as_secs().to_string()));
        true
    }

    /// Writes a conversation's summary, after its end as a rule.
    pub fn summarise(&mut self, conv_id: &str, now: Timestamp) -> bool {
        let text = format!("{}，待跟进", names::product(&mut self.rng));
        let Some(row) = self.conversations.iter_mut().find(|row| row.id == conv_id) else { return false };
        row.updated = now;
        row.json.insert("summary_content".into(), json!(text));
        row.json.insert("summary_update_at".into(), json!(beijing(now)));
        true
    }

    /// Adds an Easemob agent; `given` are the fields of the request.
    pub fn add_agent(&mut self, username: &str, now: Timestamp, given: &Map<String, Value>) -> &Row {
        let name = names::person(&mut self.rng);
        let text = |field: &str, otherwise: &str| match given.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(other) if !other.is_null() => other.to_string(),
            _ => otherwise.to_owned(),
        };
        let json = json!({
            "tenantId": self.tenant_id.parse::<u64>().unwrap_or(1),
            "userId": names::uuid(&mut self.rng),
            "userType": "Agent",
            "userScope": "Tenant",
            "nicename": text("nicename", &name),
            "password": "",
            "username": username,
            "roles": "admin,agent",
            "createDateTime": seconds(now),
            "lastUpdateDateTime": seconds(now),
            "status": "Enable",
            "state": "Offline",
            "maxServiceSessionCount": text("maxServiceSessionCount", "10").parse::<u32>().unwrap_or(10),
            "trueName": text("trueName", &name),
            "mobilePhone": text("mobilePhone", ""),
            "agentNumber": text("agentNumber", ""),
            "agentType": "Message",
            "language": "zh_CN",
            "timeZone": "UTC+8",
            "roleList": [{"role_id": 1, "role_name": "admin"}],
            "scope": "Tenant",
            "bizId": self.tenant_id,
            "onLineState": "Offline",
            "currentOnLineState": "Offline",
        });
        let row = Row { id: username.to_owned(), created: now, updated: now, ended: None, json: members(json) };
        self.agents.push(row);
        self.agents.last().expect("one was just pushed")
    }

    /// Adds an Easemob session that began at `start` and is over, at the latest `now`.
    pub fn add_session(&mut self, start: Timestamp, now: Timestamp) -> String {
        let id = names::uuid(&mut self.rng);
        let end = start.plus(Duration::from_millis(self.rng.u64(30_000..1_800_000))).min(now);
        let agent = self.rng.usize(0..self.agents.len().max(1));
        let agent = self.agents.get(agent).map(|row| row.json.clone()).unwrap_or_default();
        let of_agent = |field: &str| agent.get(field).cloned().unwrap_or(Value::Null);
        let visitor = names::person(&mut self.rng);
        let json = json!({
            "serviceSessionId": id,
            "tenantId": self.tenant_id.parse::<u64>().unwrap_or(1),
            "techChannelId": 1,
            "queueId": self.rng.choice([Value::Null, json!(11), json!(12)]),
            "state": self.rng.choice(["Terminal", "Terminal", "Abort"]),
            // Beyond 2^53, as the vendor's are: a reader that takes it for a float gets another number.
            "chatGroupId": 1_493_629_159_358_939_434_u64 + self.rng.u64(0..1000) * 2 + 1,
            "messageSeqId": self.rng.u32(1..200),
            "agentUserId": of_agent("userId"),
            "agentUserNiceName": of_agent("nicename"),
            "agentUserTrueName": of_agent("trueName"),
            "agentUserType": 1,
            "createDatetime": seconds(start),
            "startDateTime": seconds(start.plus(Duration::from_secs(5))),
            "agentLastMessageDate": seconds(end),
            "stopDateTime": seconds(end),
            "techChannelType": "easemob",
            "techChannelName": "官网",
            "summarys": [[{"id": 123, "name": "售前咨询", "color": 1, "parentId": 0}]],
            "enquirySummary": self.rng.u32(0..6).to_string(),
            "enquiryDetail": "",
            "originType": [self.rng.choice(["webim", "app", "weixin", "weibo", "phone"])],
            "comment": names::question(&mut self.rng),
            "visitorUser": {"userId": names::uuid(&mut self.rng), "nicename": visitor, "username": "visitor_1"},
            "customer": {"customerId": names::uuid(&mut self.rng), "customerNiceName": visitor, "customerTrueName": null},
            "messageDetail": null,
            "recordFileUrl": null,
            "fromAgentCallback": false,
            "transfered": self.rng.u32(0..10) == 0,
            "visitorUserTags": null,
            "enquiryTags": null,
            "chatMessages": null,
            "lastChatMessage": null,
            "agentUserSet": [{"userId": of_agent("userId"), "username": null, "nicename": of_agent("nicename"),
                "trueName": of_agent("trueName"), "tenantId": self.tenant_id}],
            "agentQueueSet": null,
            "enquiryTagNames": null,
            "summarysDetail": "售前咨询",
        });
        self.sessions.push(Row { id: id.clone(), created: start, updated: end, ended: Some(end), json: members(json) });
        id
    }

    /// Customers, that is visitors who left a way to be reached, with a time in a window.
    pub(super) fn customers(&self, window: Window, time: impl Fn(&Row) -> Timestamp) -> Vec<&Row> {
        self.clients.iter().filter(|row| is_customer(row) && window.holds(time(row))).collect()
    }
}

/// Whether a visitor left a way to be reached.
#[must_use]
pub fn is_customer(row: &Row) -> bool {
    ["tel", "weixin", "qq"].iter().any(|name| row.json.contains_key(*name))
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn rfc3339(time: Timestamp) -> String {
    time.to_string()
}

fn beijing(time: Timestamp) -> String {
    TimeFormat::Microseconds.write(time, Bound::From, BEIJING)
}

fn seconds(time: Timestamp) -> String {
    TimeFormat::Seconds.write(time, Bound::From, BEIJING)
}

#[cfg(test)]
mod tests {
    use super::{Plan, World, is_customer};
    use crate::domain::Timestamp;
    use std::time::Duration;

    fn plan(seed: u64) -> Plan {
        let now = Timestamp::from_millis(1_726_824_222_989);
        let past = Duration::from_secs(86_400);
        Plan { seed, now, past, clients: 200, conversations: 100, agents: 5, sessions: 50 }
    }

    fn world(seed: u64) -> World {
        World::new(&plan(seed), 104, "b6bd473a003a99216d3f63cc329869b3", "1")
    }

    #[test]
    fn the_same_seed_makes_the_same_world() {
        assert_eq!(world(7), world(7));
        assert_ne!(world(7).clients, world(8).clients);
    }

    #[test]
    fn some_visitors_are_no_customers_and_some_conversations_are_open() {
        let world = world(7);
        let customers = world.clients.iter().filter(|row| is_customer(row)).count();
        assert!((150..200).contains(&customers), "{customers}");
        let ended = world.conversations.iter().filter(|row| row.ended.is_some()).count();
        assert!((60..100).contains(&ended), "{ended}");
    }

    #[test]
    fn a_touched_client_has_a_new_version() {
        let mut world = world(7);
        let id = world.clients[0].id.clone();
        assert!(world.touch_client(&id, Timestamp::from_millis(1_726_824_300_000)));
        assert_eq!(world.clients[0].json["updated_on"], "2024-09-20T09:25:00.000Z");
        assert!(!world.touch_client("nobody", Timestamp::EPOCH));
    }
}
