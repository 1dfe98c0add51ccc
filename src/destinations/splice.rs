//! The value of a message: the push, with the enrichment as one more member where there is one.
//!
//! Spliced, never serialised again: every byte of the push and of the fetched records stays as it came, numbers
//! and the order of members included. The push must be a JSON object; the door has seen to that, and what is
//! none is passed on untouched.

use crate::domain::{EnrichmentPart, Timestamp, records_bytes};
use bytes::Bytes;
use memchr::{memchr, memmem};
use serde::de::{Deserializer as _, Error, IgnoredAny, MapAccess, Visitor};
use std::{fmt, io::Write};

/// The member that enrichment is put into.
const MEMBER: &str = "enrichment";
/// The member instead, in a push that has [`MEMBER`] itself.
const MEMBER_ELSE: &str = "laigu_router_enrichment";

/// The value of a push with these records: the push itself, without a copy, when there are none.
#[must_use]
pub fn value<'a>(push: &Bytes, enrichment: impl Iterator<Item = &'a EnrichmentPart> + Clone) -> Bytes {
    if enrichment.clone().next().is_none() {
        return push.clone();
    }
    let Some(end) = closing_brace(push) else { return push.clone() };
    let (head, tail) = push.split_at(end);
    let mut out = Vec::with_capacity(push.len() + records_bytes(enrichment.clone()) + 256);
    out.extend_from_slice(head);
    if !is_empty_object(head) {
        out.push(b',');
    }
    push_string(&mut out, if has_member(push, MEMBER) { MEMBER_ELSE } else { MEMBER });
    out.push(b':');
    push_enrichment(&mut out, enrichment);
    out.extend_from_slice(tail);
    out.into()
}

/// Appends `text` as a JSON string.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&byte, after)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => write!(out, "\\u{byte:04x}").expect("a vector takes any bytes"),
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_enrichment<'a>(out: &mut Vec<u8>, enrichment: impl Iterator<Item = &'a EnrichmentPart>) {
    out.push(b'{');
    for (index, part) in enrichment.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, &part.what);
        out.extend_from_slice(b":{\"status\":");
        push_string(out, part.status.as_str());
        if let Some(reason) = &part.reason {
            out.extend_from_slice(b",\"reason\":");
            push_string(out, reason);
        }
        if let Some(time) = part.fetched_at {
            push_time(out, b",\"fetched_at\":", time);
        }
        if let Some(record) = &part.record {
            out.extend_from_slice(b",\"record\":");
            out.extend_from_slice(&record.bytes);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

fn push_time(out: &mut Vec<u8>, name: &[u8], time: Timestamp) {
    out.extend_from_slice(name);
    write!(out, "\"{time}\"").expect("a vector takes any bytes");
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the object's last brace stands, if this looks like an object.
fn closing_brace(push: &[u8]) -> Option<usize> {
    let first = push.iter().find(|byte| !is_space(**byte))?;
    let last = push.iter().rposition(|byte| !is_space(*byte))?;
    (*first == b'{' && push.get(last) == Some(&b'}') && last > 0).then_some(last)
}

/// Whether nothing but the opening brace stands before the closing one.
fn is_empty_object(head: &[u8]) -> bool {
    head.iter().filter(|byte| !is_space(**byte)).count() == 1
}

/// Whether the object has this member at its top level, however the name is escaped.
fn has_member(push: &[u8], name: &str) -> bool {
    // Most pushes do not hold the word at all; without a backslash it cannot hide either.
    if memmem::find(push, name.as_bytes()).is_none() && memchr(b'\\', push).is_none() {
        return false;
    }
    let mut reader = serde_json::Deserializer::from_slice(push);
    // Where we cannot read it, the other name is the safe one.
    reader.deserialize_map(FindMember { name }).unwrap_or(true)
}

struct FindMember<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for FindMember<'_> {
    type Value = bool;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some(name) = members.next_key::<String>()? {
            found |= name == self.name;
            members.next_value::<IgnoredAny>().map_err(A::Error::custom)?;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::{push_string, value};
    use crate::domain::{EnrichmentPart, EnrichmentStatus, Record, Timestamp};
    use bytes::Bytes;
    use std::sync::Arc;

    const OURS: &str =
        r#""enrichment":{"client":{"status":"ok","fetched_at":"2024-09-20T09:23:42.989Z","record":{"n": 1.0e2}}}"#;

    fn client() -> EnrichmentPart {
        EnrichmentPart {
            what: "client".into(),
            status: EnrichmentStatus::Ok,
            reason: None,
            fetched_at: Some(Timestamp::from_millis(1_726_824_222_989)),
            record: Some(Arc::new(Record { bytes: Bytes::from_static(br#"{"n": 1.0e2}"#), hash: 1 })),
        }
    }

    fn check(push: &'static str, expected: &str) {
        let spliced = value(&Bytes::from_static(push.as_bytes()), [client()].iter());
        assert_eq!(str::from_utf8(&spliced).unwrap(), expected);
        serde_json::from_slice::<serde_json::Value>(&spliced).unwrap();
    }

    #[test]
    fn without_records_the_push_is_passed_on_and_not_copied() {
        let push = Bytes::from_static(b"{\"a\": 10.00}\r\n");
        let same = value(&push, [].iter());
        assert_eq!(same, push);
        assert_eq!(same.as_ptr(), push.as_ptr());
    }

    #[test]
    fn records_go_before_the_last_brace_and_every_other_byte_stays() {
        check("{\"a\": 10.00, \"s\": \"}\"}", &format!("{{\"a\": 10.00, \"s\": \"}}\",{OURS}}}"));
        check("{\n \"a\": {}\n}\r\n ", &format!("{{\n \"a\": {{}}\n,{OURS}}}\r\n "));
        check("{}", &format!("{{{OURS}}}"));
        check(" { \n}\n", &format!(" {{ \n{OURS}}}\n"));
    }

    #[test]
    fn a_push_with_that_member_keeps_it() {
        let ours = OURS.replacen("enrichment", "laigu_router_enrichment", 1);
        check(r#"{"enrichment":1}"#, &format!(r#"{{"enrichment":1,{ours}}}"#));
        check(r#"{"enr\u0069chment":1}"#, &format!(r#"{{"enr\u0069chment":1,{ours}}}"#));
        check(r#"{"body":{"enrichment":1}}"#, &format!(r#"{{"body":{{"enrichment":1}},{OURS}}}"#));
        check(r#"{"body":"enrichment \\"}"#, &format!(r#"{{"body":"enrichment \\",{OURS}}}"#));
    }

    #[test]
    fn a_lookup_that_failed_says_why() {
        let part = EnrichmentPart {
            status: EnrichmentStatus::Failed,
            reason: Some("HTTP 502: \"bad\"".into()),
            fetched_at: None,
            record: None,
            ..client()
        };
        let spliced =
            value(&Bytes::from_static(b"{}"), [part.clone(), EnrichmentPart { what: "agent".into(), ..part }].iter());
        let one = r#"{"status":"failed","reason":"HTTP 502: \"bad\""}"#;
        assert_eq!(str::from_utf8(&spliced).unwrap(), format!(r#"{{"enrichment":{{"client":{one},"agent":{one}}}}}"#));
    }

    #[test]
    fn what_is_no_object_is_passed_on() {
        for push in ["", " ", "[1]", "}", "{", "null"] {
            assert_eq!(value(&Bytes::from_static(push.as_bytes()), [client()].iter()), push.as_bytes(), "{push}");
        }
    }

    #[test]
    fn strings_read_back_as_they_were() {
        for text in ["", "plain", "a\"b\\c\nd\te\u{0}f\u{1f}", "线索 \u{2028}", "\\"] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
