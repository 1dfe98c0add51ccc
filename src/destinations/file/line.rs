//! One line of a file: a CloudEvents 1.0 object in structured mode (JSON event format, §3).
//!
//! `data` holds the value as it came, numbers and order of members included; only its line breaks go, which JSON
//! allows between tokens alone. What is not JSON in UTF-8 travels as `data_base64`.

use crate::{
    destinations::{
        message::{Mark, Message},
        splice::push_string,
    },
    domain::Event,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::IgnoredAny;

/// Appends the line of a message about `event`, line feed included.
pub fn push_line(out: &mut Vec<u8>, message: &Message, event: &Event) {
    let mut separator = b'{';
    for (mark, text) in message.marks() {
        out.push(separator);
        separator = b',';
        push_name(out, mark.member());
        match mark {
            // A number and a boolean, as CloudEvents' Integer and Boolean are written in JSON.
            Mark::Attempt | Mark::IdConflict => out.extend_from_slice(text.as_bytes()),
            _ => push_string(out, text),
        }
    }
    out.push(separator);
    if is_json(message.value(), event) {
        push_name(out, "data");
        push_on_one_line(out, message.value());
    } else {
        push_name(out, "data_base64");
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(message.value()).as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// The door has parsed whatever has a payload; the rest is looked at here.
fn is_json(value: &[u8], event: &Event) -> bool {
    let parsed = event.content.payload.is_some() || serde_json::from_slice::<IgnoredAny>(value).is_ok();
    parsed && str::from_utf8(value).is_ok()
}

/// Copies JSON without its line breaks: inside a string they would be an error, so each stands between tokens.
fn push_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    let mut from = 0;
    for at in memchr::memchr2_iter(b'\n', b'\r', json) {
        out.extend_from_slice(json.get(from..at).unwrap_or_default());
        from = at + 1;
    }
    out.extend_from_slice(json.get(from..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::push_line;
    use crate::{
        destinations::{
            fixtures::{attempt, event},
            message::{Message, PrefixMap},
        },
        domain::{EnrichmentPart, EnrichmentStatus, Event, NewEvent, Origin, ReplayJob},
    };
    use bytes::Bytes;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn line(event: NewEvent, enrichment: Vec<EnrichmentPart>) -> String {
        let attempt = attempt(event, 42, enrichment);
        let mut message = Message::default();
        message.render(&attempt, &PrefixMap::new());
        let mut out = Vec::new();
        push_line(&mut out, &message, attempt.delivery.event());
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        text
    }

    fn check_data(body: &str, data: &str) {
        let text = line(event(body), Vec::new());
        assert!(text.ends_with(&format!(",\"data\":{data}}}\n")), "{text}");
        let object: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["data"], serde_json::from_str::<Value>(body).unwrap());
    }

    #[test]
    fn data_is_the_push_on_one_line_with_its_numbers_as_they_came() {
        check_data("{}", "{}");
        check_data(r#"{"n": 1.00e2, "b": 12345678901234567890123}"#, r#"{"n": 1.00e2, "b": 12345678901234567890123}"#);
        check_data("{\r\n  \"s\": \"a\\nb\",\n  \"t\": [1,\n2]\n}\n", r#"{  "s": "a\nb",  "t": [1,2]}"#);
    }

    #[test]
    fn what_is_not_json_travels_as_base64() {
        for body in [&b"a=1&b=2"[..], b"{\"a\":1", b"", b"{\"a\":\"\xff\"}"] {
            let mut event = event("");
            event.body = Bytes::from_static(body);
            let object: Value = serde_json::from_str(&line(event, Vec::new())).unwrap();
            assert_eq!(object["data_base64"], base64::Engine::encode(&super::STANDARD, body));
            assert_eq!(object.get("data"), None);
        }
    }

    #[test]
    fn every_line_is_a_valid_cloud_event() {
        // The rules of the JSON event format for what we write: names, types, and what may not be empty.
        let text = json!({"type": "string", "minLength": 1});
        let schema = json!({
            "type": "object",
            "required": ["id", "source", "specversion", "type"],
            "properties": {
                "id": text, "type": text, "subject": text, "datacontenttype": text,
                "specversion": {"const": "1.0"},
                "source": {"type": "string", "format": "uri-reference", "minLength": 1},
                "time": {"type": "string", "format": "date-time"},
                "xattempt": {"type": "integer", "minimum": 1},
                "xidconflict": {"const": true},
                "data": {}, "data_base64": {"type": "string", "contentEncoding": "base64"},
            },
            "propertyNames": {"pattern": "^([a-z0-9]{1,20}|data_base64)$"},
            "additionalProperties": {"type": ["string", "integer", "boolean"]},
            "not": {"required": ["data", "data_base64"]},
        });
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let mut odd = event("\u{feff}");
        (odd.key, odd.vendor_id, odd.kind, odd.origin) = (None, Some("\"\u{1}\\".into()), "".into(), Origin::Poll);
        let failed = EnrichmentPart {
            what: "client".into(),
            status: EnrichmentStatus::Missing,
            reason: Some("API_404".into()),
            fetched_at: None,
            record: None,
        };
        let lines = [line(event("{}"), Vec::new()), line(event("{\"a\":1}"), vec![failed]), line(odd, Vec::new())];
        for text in lines {
            let object: Value = serde_json::from_str(&text).unwrap();
            assert!(validator.is_valid(&object), "{text} {:?}", validator.validate(&object).err());
        }
    }

    #[test]
    fn our_marks_have_names_without_hyphens() {
        let mut attempt = attempt(event("{}"), 42, Vec::new());
        (attempt.number, attempt.delivery.replay) = (3, Some(ReplayJob(5)));
        let routed = Arc::make_mut(&mut attempt.delivery.routed);
        let conflict: &mut Event = Arc::make_mut(&mut routed.event);
        conflict.conflict = true;
        let (mut message, mut out) = (Message::default(), Vec::new());
        message.render(&attempt, &PrefixMap::new());
        push_line(&mut out, &message, attempt.delivery.event());
        let object: Value = serde_json::from_slice(&out).unwrap();
        let id = "evt_01920ebe9118deadbeef000000000000002a";
        for (name, value) in [
            ("xdelivery", json!(format!("{id}/leads"))),
            ("xroute", json!("leads")),
            ("xattempt", json!(3)),
            ("xreplay", json!("rep_0000000000000005")),
            ("xidconflict", json!(true)),
            ("xvendorid", json!("sub_1")),
        ] {
            assert_eq!(object[name], value, "{name}");
        }
    }
}
