//! A source of `type: webhook`: anything that posts JSON, with the places of its fields in `routes.yaml`.
//!
//! A place is a JSON pointer (RFC 6901) or a header. Where the file names no place for the event, it is `webhook`;
//! for the id, re-sends are told by the body alone; for the payload, it is the whole object. A place that is named
//! and not there is a defect for id and event, and absent for the rest.

use crate::{
    config::settings::{FieldPath, Fields},
    domain::{Defect, Headers, Timestamp},
    vendors::{
        EVENT_BYTES_MAX, ID_BYTES_MAX, Identity, envelope,
        json::{Fault, Kind, Reader, Value},
    },
};
use std::{borrow::Cow, ops::Range};

/// The event of a source that names no field for it.
const EVENT: &str = "webhook";

/// Whole numbers from here on are milliseconds: as seconds they would lie beyond the year 5138.
const MILLIS_FROM: i64 = 100_000_000_000;

/// Reads what the named places say; `whole` is where the outermost object lies in a body that has been checked.
pub(super) fn identify(
    body: &[u8],
    whole: Range<usize>,
    fields: Option<&Fields>,
    headers: &Headers,
) -> Result<Identity, Defect> {
    let place = Place { body, root: Value { range: whole, kind: Kind::Object }, headers };
    let field = |path: fn(&Fields) -> Option<&FieldPath>| fields.and_then(path);
    let id = match field(|fields| fields.id.as_ref()) {
        Some(path) => Some(place.required(path, "id", ID_BYTES_MAX)?),
        None => None,
    };
    let kind = match field(|fields| fields.kind.as_ref()) {
        Some(path) => place.required(path, "type", EVENT_BYTES_MAX)?,
        None => EVENT.into(),
    };
    let key = match field(|fields| fields.key.as_ref()).and_then(|path| place.text(path)) {
        Some(key) => Some(envelope::short(key, "key", ID_BYTES_MAX)?),
        None => None,
    };
    let payload = match field(|fields| fields.payload.as_ref()) {
        Some(FieldPath::Pointer(pointer)) => place.find(pointer).filter(|value| value.kind == Kind::Object),
        Some(FieldPath::Header(_)) => None,
        None => Some(place.root.clone()),
    };
    Ok(Identity {
        kind,
        id,
        key,
        sent_at: field(|fields| fields.time.as_ref()).and_then(|path| place.time(path)),
        payload: payload.and_then(|value| envelope::narrow(&value.range)),
        version: None,
    })
}

/// Where fields are looked for.
struct Place<'a> {
    body: &'a [u8],
    root: Value,
    headers: &'a Headers,
}

impl<'a> Place<'a> {
    fn text(&self, path: &FieldPath) -> Option<Cow<'a, str>> {
        match path {
            FieldPath::Header(name) => self.headers.get(name).filter(|text| !text.is_empty()).map(Cow::Borrowed),
            FieldPath::Pointer(pointer) => envelope::text(self.body, &self.find(pointer)?),
        }
    }

    fn required(&self, path: &FieldPath, name: &str, max: usize) -> Result<Box<str>, Defect> {
        match self.text(path) {
            Some(text) => envelope::short(text, name, max),
            None => Err(Defect(format!("the push has no `{name}` where `fields` says").into())),
        }
    }

    fn time(&self, path: &FieldPath) -> Option<Timestamp> {
        let text = self.text(path)?;
        let Ok(whole) = text.parse::<i64>() else {
            return envelope::in_range(Timestamp::parse_rfc3339(&text)?);
        };
        let millis = if whole < MILLIS_FROM { whole.checked_mul(1000)? } else { whole };
        envelope::in_range(Timestamp::from_millis(millis))
    }

    fn find(&self, pointer: &str) -> Option<Value> {
        let mut value = self.root.clone();
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            value = match value.kind {
                Kind::Object => member(self.body, &value, &segment)?,
                Kind::Array => element(self.body, &value, &segment)?,
                Kind::Text | Kind::Number | Kind::Boolean | Kind::Null => return None,
            };
        }
        Some(value)
    }
}

/// A member of an object that has been checked; the last one if it comes twice, as parsers have it.
pub(super) fn member(body: &[u8], object: &Value, name: &str) -> Option<Value> {
    let mut found = None;
    Reader::at(body, object.range.start)
        .object(|reader, key| {
            let value = reader.skip(0)?;
            if key.is(name) {
                found = Some(value);
            }
            Ok::<(), Fault>(())
        })
        .ok()?;
    found
}

fn element(body: &[u8], array: &Value, index: &str) -> Option<Value> {
    let wanted: usize = index.parse().ok()?;
    let mut found = None;
    Reader::at(body, array.range.start)
        .array(|reader, index| {
            let value = reader.skip(0)?;
            if index == wanted {
                found = Some(value);
            }
            Ok(())
        })
        .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::{FieldPath, Fields};
    use crate::{
        config::settings::SourceKind,
        domain::{Headers, Timestamp},
        vendors::{Identity, identify},
    };

    fn pointer(text: &str) -> Option<FieldPath> {
        Some(FieldPath::Pointer(text.to_owned()))
    }

    fn fields() -> Fields {
        Fields {
            id: Some(FieldPath::Header("x-event-id".to_owned())),
            kind: pointer("/type"),
            key: pointer("/customers/1/a~1b"),
            time: pointer("/created_at"),
            payload: pointer("/data"),
        }
    }

    fn read(fields: Option<&Fields>, headers: &str, body: &str) -> Result<Identity, String> {
        identify(SourceKind::Webhook, fields, &Headers(headers.into()), body.as_bytes())
            .map_err(|defect| defect.to_string())
    }

    #[test]
    fn fields_are_found_by_pointer_and_header() {
        let body = r#"{"type":"order.paid","created_at":"2024-09-20T09:23:42.989Z","data":{"x":1},
            "customers":[{},{"a/b":7,"a/b":8}]}"#;
        let identity = read(Some(&fields()), "user-agent: shop\nx-event-id: e-1\n", body).unwrap();
        assert_eq!(identity.id.as_deref(), Some("e-1"));
        assert_eq!(&*identity.kind, "order.paid");
        assert_eq!(identity.key.as_deref(), Some("8"));
        assert_eq!(identity.sent_at, Some(Timestamp::from_millis(1_726_824_222_989)));
        let payload = identity.payload.unwrap();
        assert_eq!(body.get(payload.start as usize..payload.end as usize), Some(r#"{"x":1}"#));
    }

    #[test]
    fn a_named_id_or_type_must_be_there() {
        let body = r#"{"type":"order.paid"}"#;
        assert_eq!(read(Some(&fields()), "", body), Err("the push has no `id` where `fields` says".to_owned()));
        let no_type = read(Some(&fields()), "x-event-id: 1\n", r#"{"type":null}"#);
        assert_eq!(no_type, Err("the push has no `type` where `fields` says".to_owned()));
    }

    #[test]
    fn without_fields_the_whole_object_is_the_payload() {
        let identity = read(None, "", " {\"a\":1} ").unwrap();
        assert_eq!(
            identity,
            Identity { kind: "webhook".into(), id: None, key: None, sent_at: None, payload: Some(1..8), version: None }
        );
    }

    #[test]
    fn numbers_are_seconds_until_they_cannot_be() {
        for (time, millis) in [("1726824222", Some(1_726_824_222_000)), ("1726824222989", Some(1_726_824_222_989))] {
            let body = format!(r#"{{"type":"t","created_at":{time}}}"#);
            let identity = read(Some(&fields()), "x-event-id: 1\n", &body).unwrap();
            assert_eq!(identity.sent_at.map(Timestamp::as_millis), millis);
        }
    }
}
