//! What an event says about the record it needs: whose it is, and how new it must be.
//!
//! Read from the payload alone, with the vendors' own lenient types. An id goes into a path only if it can be one; any
//! other is never sent.

use crate::{
    config::settings::SourceKind,
    core::enrich::{Reason, What},
    domain::{Event, Timestamp},
    vendors::{
        easemob::api::records::Session,
        guard::is_segment,
        laigu::api::records::{Client, Conversation, Listed},
        record::{Fields, FromFields},
        times::BEIJING,
    },
};
use serde_json::{Map, Value};

/// Reason of a part that is not applicable: the event names no such record.
pub const NO_ID: &str = "no_id";
/// Reason of a client that is not applicable: a visitor who left no phone, WeChat or QQ is not in the API.
pub const NO_CONTACT: &str = "no_contact";

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// This.
    Record {
        /// Whose.
        id: Box<str>,
        /// When it changed last, as far as the event says.
        at: Timestamp,
        /// The version that the event shows.
        version: Option<Timestamp>,
    },
    /// Nothing: there is no such record; why, in a word.
    None(&'static str),
    /// Nothing: it may not be asked for.
    Refused(Reason),
}

/// Reads what an event of a source needs.
#[must_use]
pub fn of(event: &Event, kind: SourceKind, what: What) -> Subject {
    let Some(payload) = event.payload().and_then(|bytes| serde_json::from_slice::<Map<String, Value>>(bytes).ok())
    else {
        return Subject::None(NO_ID);
    };
    let sent_at = event.sent_at.unwrap_or(event.received_at);
    let (id, at, version) = match (kind, what) {
        (SourceKind::Laigu | SourceKind::Meiqia, What::Conversation) => {
            let conversation = read::<Conversation>(payload);
            let version = conversation.version();
            let Some(id) = conversation.conv_id else { return Subject::None(NO_ID) };
            if !is_segment(&id) {
                return Subject::Refused(Reason::BadId);
            }
            (Some(id), sent_at, version)
        }
        (SourceKind::Laigu | SourceKind::Meiqia, What::Agent) => {
            (read::<Conversation>(payload).agent_id, sent_at, None)
        }
        (SourceKind::Laigu | SourceKind::Meiqia, What::Client) => {
            let client = read::<Client>(payload.clone());
            let version = client.version();
            match client.track_id.clone() {
                // A conversation says nothing of how its visitor can be reached.
                Some(_) if !client.is_contactable() && !payload.contains_key("conv_id") => {
                    return Subject::None(NO_CONTACT);
                }
                Some(id) => (Some(id), version.unwrap_or(sent_at), version),
                None => {
                    let id = read::<Conversation>(payload).track_id().map(str::to_owned);
                    (id, sent_at, None)
                }
            }
        }
        (SourceKind::EasemobKefu, What::Session) => session(payload, sent_at),
        (SourceKind::EasemobKefu, What::Agent) => {
            let agent = member(&payload, &["serviceSession", "agent", "id"]).and_then(text);
            (agent.or_else(|| read::<Session>(payload).agent_user_id), sent_at, None)
        }
        _ => (None, sent_at, None),
    };
    match id {
        Some(id) => Subject::Record { id: id.into(), at, version },
        None => Subject::None(NO_ID),
    }
}

/// A session of a webhook, or the record that a poll brought.
fn session(payload: Map<String, Value>, sent_at: Timestamp) -> (Option<String>, Timestamp, Option<Timestamp>) {
    let time = |name| {
        let millis = member(&payload, &["serviceSession", "timestamp", name])?.as_i64()?;
        (millis > 0).then(|| Timestamp::from_millis(millis))
    };
    if let Some(id) = member(&payload, &["serviceSession", "id"]).and_then(text) {
        return (Some(id), time("create").unwrap_or(sent_at), time("stop"));
    }
    let session = read::<Session>(payload);
    let created = session.created.map_or(sent_at, |moment| moment.instant);
    (session.service_session_id, created, session.stopped.map(|moment| moment.instant))
}

fn read<T: FromFields>(object: Map<String, Value>) -> T {
    T::from_fields(Fields::new(object, BEIJING))
}

fn member<'a>(object: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(*first)?, |value, name| value.get(*name))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_CONTACT, NO_ID, Subject, of};
    use crate::{
        config::settings::SourceKind,
        core::enrich::{Reason, What},
        domain::{Event, Headers, Incarnation, NewEvent, Origin, Partition, SourceName, TenantName, Timestamp},
        vendors,
    };

    const SENT_AT: Timestamp = Timestamp::from_millis(1_726_824_224_000);

    fn event(kind: SourceKind, event: &str, payload: &str) -> Event {
        let body = match kind {
            SourceKind::EasemobKefu => {
                format!("{{\"eventId\":\"e\",\"event\":\"{event}\",\"timestamp\":1726824224000,\"payload\":{payload}}}")
            }
            _ => format!("{{\"id\":\"i\",\"event\":\"{event}\",\"created_at\":1726824224,\"body\":{payload}}}"),
        };
        let headers = Headers::default();
        let identity = vendors::identify(kind, None, &headers, body.as_bytes()).unwrap();
        NewEvent {
            source: SourceName::parse("laigu").unwrap(),
            tenant: TenantName::parse("acme").unwrap(),
            kind: identity.kind,
            key: identity.key,
            vendor_id: identity.id,
            origin: Origin::Push,
            sent_at: identity.sent_at,
            received_at: Timestamp::from_millis(1_726_824_225_000),
            headers,
            body: body.into(),
            payload: identity.payload,
            order: None,
            id_hash: 0,
            body_hash: 0,
            fingerprint: Default::default(),
            superseded: false,
        }
        .at(Partition(0), 1, Incarnation(0), false)
    }

    fn laigu(payload: &str, what: What) -> Subject {
        of(&event(SourceKind::Laigu, "cus.upsert", payload), SourceKind::Laigu, what)
    }

    fn record(id: &str, at: Timestamp, version: Option<Timestamp>) -> Subject {
        Subject::Record { id: id.into(), at, version }
    }

    fn time(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn a_customer_is_searched_where_the_push_says_that_it_changed() {
        let at = time("2024-09-20T09:23:42.989Z");
        let client = r#"{"track_id":"t1","tel":"13800000000","updated_on":"2024-09-20T09:23:42.989Z"}"#;
        assert_eq!(laigu(client, What::Client), record("t1", at, Some(at)));
        assert_eq!(laigu(r#"{"track_id":"t1","weixin":"w"}"#, What::Client), record("t1", SENT_AT, None));
    }

    #[test]
    fn who_left_no_way_to_be_reached_is_not_in_the_api() {
        assert_eq!(laigu(r#"{"track_id":"t1","tel":"","name":"x"}"#, What::Client), Subject::None(NO_CONTACT));
        assert_eq!(laigu(r#"{"tel":"1"}"#, What::Client), Subject::None(NO_ID));
        assert_eq!(laigu(r#"{"track_id":"t1","tel":"1"}"#, What::Conversation), Subject::None(NO_ID));
        assert_eq!(laigu(r#"{"track_id":"t1","tel":"1"}"#, What::Session), Subject::None(NO_ID));
    }

    #[test]
    fn a_conversation_knows_itself_its_agent_and_its_visitor() {
        let payload = r#"{"conv_id":7,"agent_ID":"9","client_info":{"track_id":"t1"},"conv_end_tm":"2024-09-20 17:00:00",
            "summary_update_at":"2024-09-20 18:00:00"}"#;
        let version = time("2024-09-20T10:00:00Z");
        assert_eq!(laigu(payload, What::Conversation), record("7", SENT_AT, Some(version)));
        assert_eq!(laigu(payload, What::Agent), record("9", SENT_AT, None));
        assert_eq!(laigu(payload, What::Client), record("t1", SENT_AT, None));
        assert_eq!(laigu(r#"{"conv_id":7}"#, What::Agent), Subject::None(NO_ID));
    }

    #[test]
    fn an_id_that_could_change_a_path_is_never_asked_for() {
        for id in ["..", "../clients", "7/../8", "7?x=1", "7%2f8", "a b", "线索", "7#", &"7".repeat(65)] {
            let payload = serde_json::json!({ "conv_id": id }).to_string();
            assert_eq!(laigu(&payload, What::Conversation), Subject::Refused(Reason::BadId), "{id}");
        }
        assert_eq!(laigu(r#"{"conv_id":""}"#, What::Conversation), Subject::None(NO_ID));
        assert_eq!(laigu(r#"{"conv_id":{"a":1}}"#, What::Conversation), Subject::None(NO_ID));
    }

    #[test]
    fn a_session_is_known_by_webhook_and_by_poll() {
        let kefu = |payload: &str, what| {
            of(&event(SourceKind::EasemobKefu, "session.closed", payload), SourceKind::EasemobKefu, what)
        };
        let (create, stop) = (Timestamp::from_millis(1_472_460_000_000), Timestamp::from_millis(1_472_460_700_000));
        let pushed = r#"{"serviceSession":{"id":"s1","timestamp":{"create":1472460000000,"stop":1472460700000},
            "agent":{"id":"a1"}}}"#;
        assert_eq!(kefu(pushed, What::Session), record("s1", create, Some(stop)));
        assert_eq!(kefu(pushed, What::Agent), record("a1", SENT_AT, None));
        let polled = r#"{"serviceSessionId":"s1","agentUserId":"a1","createDatetime":"2016-08-29 16:40:00"}"#;
        assert_eq!(kefu(polled, What::Session), record("s1", time("2016-08-29T08:40:00Z"), None));
        assert_eq!(kefu(polled, What::Agent), record("a1", SENT_AT, None));
        assert_eq!(kefu(r#"{"x":1}"#, What::Session), Subject::None(NO_ID));
        assert_eq!(kefu(pushed, What::Client), Subject::None(NO_ID));
    }
}
