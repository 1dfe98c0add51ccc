//! Every dialect against a recorded or corrected push, and every defect against its reason.

use super::{Identity, ce_type, identify};
use crate::{
    config::settings::{FieldPath, Fields, SourceKind},
    domain::{Headers, Timestamp},
};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

const CUS_UPSERT: &[u8] = include_bytes!("../../tests/fixtures/laigu_cus_upsert.json");
const CONVERSATION: &[u8] = include_bytes!("../../tests/fixtures/laigu_conversation_updated.json");
const AUTOMATION: &[u8] = include_bytes!("../../tests/fixtures/laigu_automation.json");
const TICKET: &[u8] = include_bytes!("../../tests/fixtures/meiqia_new_ticket_closed.json");
const SESSION: &[u8] = include_bytes!("../../tests/fixtures/easemob_session_closed.json");
const OFFLINE: &[u8] = include_bytes!("../../tests/fixtures/meiqia_sdk_offline.json");
const ORDER: &[u8] = include_bytes!("../../tests/fixtures/webhook_order_paid.json");

fn read(kind: SourceKind, body: &[u8]) -> Result<Identity, String> {
    identify(kind, None, &Headers::default(), body).map_err(|defect| defect.to_string())
}

fn laigu(body: &str) -> Result<Identity, String> {
    read(SourceKind::Laigu, body.as_bytes())
}

/// Checks an identity, and that the payload range holds the object of that member.
fn check(kind: SourceKind, body: &[u8], member: &str, expected: [&str; 3], millis: i64) {
    let identity = read(kind, body).unwrap();
    let found = [&*identity.kind, identity.id.as_deref().unwrap(), identity.key.as_deref().unwrap()];
    assert_eq!(found, expected);
    assert_eq!(identity.sent_at, Some(Timestamp::from_millis(millis)));
    let payload = identity.payload.unwrap();
    let payload = body.get(payload.start as usize..payload.end as usize).unwrap();
    let whole: serde_json::Value = serde_json::from_slice(body).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(payload).unwrap(), whole[member]);
}

#[test]
fn every_dialect_says_id_event_key_time_and_payload() {
    let id = "sub_b6bd473a003a99216d3f63cc329869b3_1726824224_9975";
    let key = "2ldmFOXB7aDMXHSs7upv5PMZsa0";
    check(SourceKind::Laigu, CUS_UPSERT, "body", ["cus.upsert", id, key], 1_726_824_224_000);
    let id = "sub_b6bd473a003a99216d3f63cc329869b3_1632648830";
    let expected = ["conversation.updated", id, "3170871"];
    check(SourceKind::Laigu, CONVERSATION, "conversation", expected, 1_632_648_830_000);
    let expected = ["cus_became_leads", "0193f3a1b2c37d4e8f5061728394a5b6", key];
    check(SourceKind::LaiguAutomation, AUTOMATION, "body", expected, 1_640_995_200_000);
    let id = "sub_0f2d6a41c5b9478e93d1aa7702f8e6c4_1632648830";
    let expected = ["new_ticket.closed", id, "1xKq3Vd8sYbN0aTgJ2hRwLmZcPe"];
    check(SourceKind::Meiqia, TICKET, "new_ticket", expected, 1_632_648_830_000);
    let (id, key) = ("c7b1b1e0-6ddb-11e6-9b2d-0242ac110002", "3d1a9f80-6dd9-11e6-8f1c-0242ac110003");
    let expected = ["ServiceSessionClosedEvent", id, key];
    check(SourceKind::EasemobKefu, SESSION, "payload", expected, 1_472_460_726_612);
}

#[test]
fn an_offline_push_of_the_sdk_is_a_webhook_with_its_message_for_an_id() {
    let pointer = |text: &str| Some(FieldPath::Pointer(text.to_owned()));
    let fields = Fields {
        id: pointer("/messageId"),
        kind: pointer("/type"),
        key: pointer("/clientId"),
        time: None,
        payload: None,
    };
    let identity = identify(SourceKind::Webhook, Some(&fields), &Headers::default(), OFFLINE).unwrap();
    assert_eq!((identity.id.as_deref(), &*identity.kind), (Some("111"), "message"));
    assert_eq!(identity.key.as_deref(), Some("12vc86d41d1611e69e6f029346effd31"));
}

#[test]
fn the_events_that_the_api_can_show_again_say_their_version() {
    let version = |body: &str| laigu(body).unwrap().version.map(|version| (version.key, version.at));
    let push = |event: &str, payload: &str| format!(r#"{{"id":"1","event":"{event}",{payload}}}"#);
    let at = |text: &str| Some(Timestamp::parse_rfc3339(text).unwrap());
    let upsert = r#""body":{"updated_on":"2024-09-20T09:23:42.989Z","track_id":"t"}"#;
    assert_eq!(version(&push("cus.upsert", upsert)), Some(("t".into(), at("2024-09-20T09:23:42.989Z"))));
    assert_eq!(version(&push("client.updated", upsert)), None, "another event is another record");
    assert_eq!(version(&push("cus.upsert", r#""body":{"track_id":"t"}"#)), Some(("t".into(), None)));
    assert_eq!(version(&push("cus.upsert", r#""body":{"updated_on":"2024-09-20T09:23:42.989Z"}"#)), None);
    let closed =
        |end: &str| push("conversation.closed", &format!(r#""conversation":{{"conv_id":7,"conv_end_tm":{end}}}"#));
    let end = at("2017-04-20T02:42:33.465Z");
    assert_eq!(version(&closed(r#""2017-04-20 10:42:33.465659""#)), Some(("7".into(), end)));
    for absent in ["null", r#""""#, r#""soon""#, "7"] {
        assert_eq!(version(&closed(absent)), Some(("7".into(), None)), "{absent}");
    }
}

#[test]
fn a_webhook_is_read_where_its_fields_say() {
    let pointer = |text: &str| Some(FieldPath::Pointer(text.to_owned()));
    let fields = Fields {
        id: pointer("/id"),
        kind: pointer("/type"),
        key: pointer("/customer/id"),
        time: pointer("/created_at"),
        payload: pointer("/data"),
    };
    let identity = identify(SourceKind::Webhook, Some(&fields), &Headers::default(), ORDER).unwrap();
    assert_eq!((&*identity.kind, identity.key.as_deref()), ("order.paid", Some("42")));
    assert_eq!(identity.sent_at, Some(Timestamp::from_millis(1_726_824_222_989)));
}

#[test]
fn the_key_is_track_id_else_conv_id_else_absent() {
    for (payload, key) in [
        (r#"{"track_id":"t","conv_id":1}"#, Some("t")),
        (r#"{"conv_id":1,"track_id":"t"}"#, Some("t")),
        (r#"{"conv_id":12345678901234567890}"#, Some("12345678901234567890")),
        (r#"{"conv_id":"c-1"}"#, Some("c-1")),
        (r#"{"track_id":null,"conv_id":1}"#, Some("1")),
        (r#"{"track_id":"","conv_id":1}"#, Some("1")),
        (r#"{"track_id":{"track_id":"x"}}"#, None),
        (r#"{"a":{"track_id":"x"}}"#, None),
        (r#"{"track_id":"a\u0062\n"}"#, Some("ab\n")),
        (r#"{"\u0074rack_id":"t"}"#, Some("t")),
        ("{}", None),
    ] {
        let body = format!(r#"{{"id":"1","event":"e","body":{payload}}}"#);
        assert_eq!(laigu(&body).unwrap().key.as_deref(), key, "{payload}");
    }
}

#[test]
fn the_key_of_a_session_is_its_id_pushed_or_polled() {
    for (payload, key) in [
        (r#"{"serviceSession":{"id":"s","agent":{"id":"a"}}}"#, Some("s")),
        (r#"{"serviceSessionId":"s","state":"Terminal"}"#, Some("s")),
        (r#"{"serviceSession":"x"}"#, None),
        ("{}", None),
    ] {
        let body = format!(r#"{{"eventId":"1","event":"e","payload":{payload}}}"#);
        assert_eq!(read(SourceKind::EasemobKefu, body.as_bytes()).unwrap().key.as_deref(), key, "{payload}");
    }
}

#[test]
fn the_payload_is_the_known_member_else_the_only_object() {
    for (members, expected) in [
        (r#""body":{"a":1}"#, Some(r#"{"a":1}"#)),
        (r#""other":{"a":1}"#, Some(r#"{"a":1}"#)),
        (r#""other":{"a":1},"client":{"b":1}"#, Some(r#"{"b":1}"#)),
        (r#""client":{"b":1},"body":{"a":1}"#, Some(r#"{"a":1}"#)),
        (r#""one":{"a":1},"two":{"b":1}"#, None),
        (r#""body":[1],"two":{"b":1}"#, Some(r#"{"b":1}"#)),
        (r#""body":null"#, None),
    ] {
        let body = format!(r#"{{"id":"1","event":"e",{members}}}"#);
        let payload = laigu(&body).unwrap().payload;
        let found = payload.map(|payload| body.get(payload.start as usize..payload.end as usize).unwrap());
        assert_eq!(found, expected, "{members}");
    }
}

#[test]
fn defects_are_told_apart() {
    let nested =
        |depth: usize| format!(r#"{{"id":"1","event":"e","body":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(laigu(&nested(63)).is_ok());
    let long = format!(r#"{{"id":"1","event":"{}"}}"#, "e".repeat(129));
    for (body, reason) in [
        ("", "not JSON: it ends too early"),
        ("hello", "not JSON: unexpected byte at offset 0"),
        ("[]", "the body is JSON, but not an object"),
        ("null", "the body is JSON, but not an object"),
        ("\u{feff}{}", "not JSON: it begins with a byte order mark"),
        ("{}", "the push has no `id`"),
        (r#"{"id":"1"}"#, "the push has no `event`"),
        (r#"{"id":"1","event":""}"#, "the push has no `event`"),
        (r#"{"id":"1","event":null}"#, "the push has no `event`"),
        (r#"{"id":{},"event":"e"}"#, "the push has no `id`"),
        (r#"{"id":true,"event":"e"}"#, "the push has no `id`"),
        (r#"{"id":"1","event":"e","id":"1"}"#, "a member of the envelope comes twice"),
        (r#"{"id":"1","event":"e","\u0069d":"1"}"#, "a member of the envelope comes twice"),
        (r#"{"id":"1","event":"e","x":1,"x":1}"#, "a member of the envelope comes twice"),
        (r#"{"id":"1","event":"e"} x"#, "not JSON: something follows the value at offset 23"),
        (&nested(64), "nested deeper than 64 levels"),
        (&long, "`event` is longer than 128 bytes"),
    ] {
        assert_eq!(laigu(body), Err(reason.to_owned()), "{body}");
    }
    let many: String = (0..5000).map(|number| format!("\"m{number}\":0,")).collect();
    let many = laigu(&format!("{{{many}\"id\":\"1\"}}"));
    assert_eq!(many, Err("more than 4096 members in the envelope".to_owned()));
}

#[test]
fn a_repeat_within_the_payload_is_no_defect_and_the_last_one_counts() {
    let identity = laigu(r#"{"id":"1","event":"e","body":{"track_id":"a","track_id":"b"}}"#).unwrap();
    assert_eq!(identity.key.as_deref(), Some("b"));
}

#[test]
fn a_time_that_makes_no_sense_is_absent() {
    for time in ["-1", "1e99", "\"soon\"", "99999999999999", "null", "{}"] {
        let body = format!(r#"{{"id":"1","event":"e","created_at":{time}}}"#);
        assert_eq!(laigu(&body).unwrap().sent_at, None, "{time}");
    }
    let text = laigu(r#"{"id":7,"event":"e","created_at":"1726824224.5"}"#).unwrap();
    assert_eq!(text.sent_at, Some(Timestamp::from_millis(1_726_824_224_000)));
    assert_eq!(text.id.as_deref(), Some("7"));
}

#[test]
fn each_vendor_has_its_own_prefix() {
    for (kind, expected) in [
        (SourceKind::Laigu, "com.laigu.e"),
        (SourceKind::LaiguAutomation, "com.laigu.automation.e"),
        (SourceKind::Meiqia, "com.meiqia.e"),
        (SourceKind::EasemobKefu, "com.easemob.kefu.e"),
        (SourceKind::Webhook, "e"),
    ] {
        assert_eq!(ce_type(kind, "e"), expected);
    }
}

#[test]
fn every_truncation_of_a_push_is_a_defect() {
    for end in 0..CUS_UPSERT.trim_ascii_end().len() {
        assert!(read(SourceKind::Laigu, CUS_UPSERT.get(..end).unwrap()).is_err(), "{end}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_what_serde_json_reads(
        changes in prop::collection::vec((0_usize..250, any::<u8>()), 0..3),
    ) {
        let mut body = include_bytes!("../../tests/fixtures/laigu_signed.json").to_vec();
        for (at, byte) in changes {
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
        }
        let Ok(identity) = read(SourceKind::Laigu, &body) else { return Ok(()) };
        let theirs = match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(theirs) => theirs,
            // What a number means is not the reader's business: `17e26824224` is one by the grammar.
            Err(error) => {
                prop_assert!(error.to_string().starts_with("number out of range"), "{}", error);
                return Ok(());
            }
        };
        prop_assert_eq!(theirs["event"].as_str(), Some(&*identity.kind));
        if let Some(payload) = identity.payload {
            let payload = body.get(payload.start as usize..payload.end as usize).unwrap();
            prop_assert!(serde_json::from_slice::<serde_json::Value>(payload).unwrap().is_object());
        }
    }
}
