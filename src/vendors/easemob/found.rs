//! A polled session in the envelope of KeFu's webhook.
//!
//! Its id is `ses_` and a hash of the session's id and content: a session that changed after its end is a new event, one
//! that was read twice is not. Integers beyond 2^53 are texts in it, for readers that know no others.

use super::api::records::Session;
use crate::vendors::{exact, found, record::Record};
use bytes::Bytes;
use serde_json::json;

/// The event of a session that ended.
pub const SESSION: &str = "session.closed";

/// The event of a session's end. `None` while it goes on, or without an id.
#[must_use]
pub fn session(record: &Record<Session>) -> Option<Bytes> {
    let id = record.typed.service_session_id.as_deref()?;
    let ended = record.typed.stopped.as_ref()?.instant;
    let payload = exact::read(&record.raw).ok()?;
    let event_id = found::id("ses_", &[id, &payload.to_string()]);
    let body = json!({"eventId": event_id, "event": SESSION, "timestamp": ended.as_millis(), "payload": payload});
    Some(Bytes::from(body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::session;
    use crate::{
        config::settings::SourceKind,
        domain::{Headers, Timestamp},
        vendors::{identify, record::Record, times::BEIJING},
    };

    #[test]
    fn a_session_is_one_event_however_often_it_is_read_and_another_one_when_it_changed() {
        let raw = r#"{"serviceSessionId":"s1","stopDateTime":"2018-04-19 15:00:59","chatGroupId":1493629159358939434}"#;
        let body = |raw: &str| session(&Record::parse(raw, BEIJING).unwrap());
        let first = body(raw).unwrap();
        assert_eq!(body(raw).unwrap(), first);
        let found = identify(SourceKind::EasemobKefu, None, &Headers::default(), &first).unwrap();
        assert_eq!((&*found.kind, found.key.as_deref()), ("session.closed", Some("s1")));
        assert_eq!(found.sent_at, Timestamp::parse_rfc3339("2018-04-19T07:00:59Z"));
        let whole: serde_json::Value = serde_json::from_slice(&first).unwrap();
        assert_eq!(whole["payload"]["chatGroupId"], "1493629159358939434");
        let rated = body(&raw.replace("\"s1\",", "\"s1\",\"enquirySummary\":\"5\",")).unwrap();
        let again = identify(SourceKind::EasemobKefu, None, &Headers::default(), &rated).unwrap();
        assert!(again.id != found.id && again.key == found.key);
        assert_eq!(body(r#"{"serviceSessionId":"s1","stopDateTime":null}"#), None);
    }
}
