//! What the API shows, in the shape of a push: so that the same routes take it, and the same reader reads it.
//!
//! A reconciled record is the push that should have come: the same event, the record's own bytes as its payload. Its id is
//! `rec_` and a hash of event, record and version, its time the version's. The API's clients carry the enterprise's token
//! themselves; a push has it in its envelope only. A report is an event that no push ever brings.

use super::api::{
    records::{Client, Conversation},
    window::Window,
};
use crate::{
    domain::Timestamp,
    vendors::{found, record::Record},
};
use bytes::Bytes;

/// The event of a client's change.
pub const CLIENT: &str = "cus.upsert";
/// The event of a conversation's end.
pub const CONVERSATION: &str = "conversation.closed";
/// The event of a report about agents' hours.
pub const AGENT_ONLINE: &str = "agent.online_stats";
/// The event of a report about agents' work.
pub const AGENT_SERVICE: &str = "agent.service";

/// The push that a client's change should have brought. `None` for one without `track_id` or `updated_on`: nothing tells
/// which version it is.
#[must_use]
pub fn client(record: &Record<Client>, token: Option<&str>) -> Option<Bytes> {
    let key = record.typed.track_id.as_deref()?;
    let at = record.typed.updated_on.as_ref()?.instant;
    let token = token.or(record.typed.enterprise_token.as_deref());
    Some(push(&found::id("rec_", &[CLIENT, key, &at.to_string()]), CLIENT, token, at, ("body", &record.raw)))
}

/// The push that a conversation's end should have brought. `None` while it is open.
#[must_use]
pub fn conversation(record: &Record<Conversation>, token: Option<&str>) -> Option<Bytes> {
    let key = record.typed.conv_id.as_deref()?;
    let at = record.typed.conv_end_tm.as_ref()?.instant;
    let id = found::id("rec_", &[CONVERSATION, key, &at.to_string()]);
    Some(push(&id, CONVERSATION, token, at, ("conversation", &record.raw)))
}

/// A report about a window, with a row an agent.
#[must_use]
pub fn report(event: &str, window: Window, rows: &[Bytes], token: Option<&str>) -> Bytes {
    let (from, to) = (window.from.to_string(), window.to.to_string());
    let mut body = format!(r#"{{"from":"{from}","to":"{to}","rows":["#).into_bytes();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(row);
    }
    body.extend_from_slice(b"]}");
    push(&found::id("rpt_", &[event, &from, &to]), event, token, window.to, ("body", &body))
}

fn push(id: &str, event: &str, token: Option<&str>, at: Timestamp, (member, payload): (&str, &[u8])) -> Bytes {
    let token = token.map(|token| format!(r#""enterprise_token":{},"#, serde_json::Value::from(token)));
    let seconds = at.as_millis().div_euclid(1000);
    let head =
        format!(r#"{{"id":"{id}","event":"{event}",{}"created_at":{seconds},"{member}":"#, token.unwrap_or_default());
    [head.as_bytes(), payload, b"}"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::{AGENT_SERVICE, client, conversation, report};
    use crate::{
        config::settings::SourceKind,
        domain::{Headers, Timestamp},
        vendors::{Identity, identify, laigu::api::window::Window, record::Record, times::BEIJING},
    };
    use bytes::Bytes;

    fn read(body: &[u8]) -> Identity {
        identify(SourceKind::Laigu, None, &Headers::default(), body).unwrap()
    }

    #[test]
    fn a_reconciled_client_is_the_push_that_did_not_come() {
        let raw = r#"{"track_id": "t1","tel":"138","updated_on":"2024-09-20T09:23:42.989Z","n":1493629159358939434}"#;
        let record = Record::parse(raw, BEIJING).unwrap();
        let body = client(&record, Some("tok\"en")).unwrap();
        let found = read(&body);
        assert_eq!((&*found.kind, found.key.as_deref()), ("cus.upsert", Some("t1")));
        assert!(found.id.as_deref().is_some_and(|id| id.starts_with("rec_") && id.len() == 36), "{found:?}");
        assert_eq!(found.sent_at, Timestamp::parse_rfc3339("2024-09-20T09:23:42Z"));
        let payload = found.payload.unwrap();
        assert_eq!(&body[payload.start as usize..payload.end as usize], raw.as_bytes());
        assert_eq!(found.version.unwrap().at, Timestamp::parse_rfc3339("2024-09-20T09:23:42.989Z"));
        let whole: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(whole["enterprise_token"], "tok\"en");
        let other = Record::parse(&raw.replace("42.989", "42.990"), BEIJING).unwrap();
        assert_ne!(read(&client(&other, None).unwrap()).id, found.id, "each version has its own id");
    }

    #[test]
    fn what_has_no_version_is_no_push() {
        assert_eq!(client(&Record::parse(r#"{"track_id":"t1"}"#, BEIJING).unwrap(), None), None);
        assert_eq!(conversation(&Record::parse(r#"{"conv_id":7,"conv_end_tm":null}"#, BEIJING).unwrap(), None), None);
    }

    #[test]
    fn a_reconciled_conversation_and_a_report_are_read_like_pushes() {
        let raw = r#"{"conv_id":7,"conv_end_tm":"2017-04-20 10:42:33.465659"}"#;
        let found = read(&conversation(&Record::parse(raw, BEIJING).unwrap(), None).unwrap());
        assert_eq!((&*found.kind, found.key.as_deref()), ("conversation.closed", Some("7")));
        let window = Window { from: Timestamp::EPOCH, to: Timestamp::from_millis(3_600_000) };
        let rows = [Bytes::from_static(br#"{"agent_id":1}"#), Bytes::from_static(br#"{"agent_id":2}"#)];
        let body = report(AGENT_SERVICE, window, &rows, Some("t"));
        let found = read(&body);
        assert_eq!((&*found.kind, found.key), ("agent.service", None));
        let whole: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(whole["body"]["rows"][1]["agent_id"], 2);
        assert_eq!(whole["body"]["to"], "1970-01-01T01:00:00.000Z");
    }
}
