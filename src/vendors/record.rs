//! Records of a vendor's API: a lenient typed view, and the bytes it was read from.
//!
//! The vendors' tables and their answers disagree (numbers as texts, lists as texts, `null` and `""` for nothing),
//! so reading never fails on one field: a field that does not fit its type is absent from the view and kept among
//! [`Fields::rest`] under its own name. What is forwarded to consumers is [`Record::raw`], byte for byte.

use crate::vendors::times::Moment;
use bytes::Bytes;
use jiff::tz::Offset;
use serde_json::{Map, Number, Value};

/// One record: typed, and as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<T> {
    /// The typed view.
    pub typed: T,
    /// The object's own bytes; integers beyond 2^53 are exact here.
    pub raw: Bytes,
}

/// A type that can be read from a JSON object.
pub trait FromFields: Sized {
    /// Takes its fields out of an object; must leave the rest in the value.
    fn from_fields(fields: Fields) -> Self;
}

/// The text is not a JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is not a JSON object")]
pub struct NotAnObject;

impl<T: FromFields> Record<T> {
    /// Reads one object; zone-less times in it are in `zone`.
    ///
    /// # Errors
    /// [`NotAnObject`] when it is anything else.
    pub fn parse(raw: &str, zone: Offset) -> Result<Self, NotAnObject> {
        let object: Map<String, Value> = serde_json::from_str(raw).map_err(|_| NotAnObject)?;
        // A copy, so that a record that is kept does not keep its whole page in memory.
        Ok(Self { typed: T::from_fields(Fields { object, zone }), raw: Bytes::copy_from_slice(raw.as_bytes()) })
    }
}

/// The records of one answer: those that can be read, and how many cannot. One that is spoiled spoils no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch<T> {
    /// Those that can be read, in their order.
    pub records: Vec<Record<T>>,
    /// How many are no JSON objects: `null`, or a text cut within an emoji.
    pub unreadable: usize,
}

/// No records.
impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { records: Vec::new(), unreadable: 0 }
    }
}

impl<T: FromFields> Batch<T> {
    /// Reads each item; zone-less times are in `zone`.
    pub fn read<'a>(items: impl IntoIterator<Item = &'a str>, zone: Offset) -> Self {
        let mut batch = Self::default();
        for raw in items {
            match Record::parse(raw, zone) {
                Ok(record) => batch.records.push(record),
                Err(NotAnObject) => batch.unreadable += 1,
            }
        }
        batch
    }
}

/// An object whose fields are taken out one by one. Each taker tries the given spellings in turn; `null` and `""`
/// are absent.
#[derive(Debug)]
pub struct Fields {
    object: Map<String, Value>,
    zone: Offset,
}

impl Fields {
    /// Wraps an object.
    #[must_use]
    pub const fn new(object: Map<String, Value>, zone: Offset) -> Self {
        Self { object, zone }
    }

    /// A text; numbers and booleans become their text, so ids survive whichever way they are written.
    pub fn text(&mut self, names: &[&str]) -> Option<String> {
        self.take(names, |value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        })
    }

    /// A whole number, also when written as a text. Never a rounded one.
    pub fn whole(&mut self, names: &[&str]) -> Option<i64> {
        self.take(names, |value| match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// A number with or without a fraction, also when written as a text.
    pub fn number(&mut self, names: &[&str]) -> Option<Number> {
        self.take(names, |value| match value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        })
    }

    /// A yes or no, also when written as a text or as 0 and 1.
    pub fn flag(&mut self, names: &[&str]) -> Option<bool> {
        self.take(names, |value| match value {
            Value::Bool(flag) => Some(*flag),
            Value::Number(number) => match number.as_u64() {
                Some(0) => Some(false),
                Some(1) => Some(true),
                _ => None,
            },
            Value::String(text) => match text.trim() {
                "true" | "1" | "是" => Some(true),
                "false" | "0" | "否" => Some(false),
                _ => None,
            },
            _ => None,
        })
    }

    /// A time in any of the vendors' notations.
    pub fn moment(&mut self, names: &[&str]) -> Option<Moment> {
        let zone = self.zone;
        self.take(names, |value| Moment::parse(value.as_str()?, zone))
    }

    /// A list, its items as they are.
    pub fn list(&mut self, names: &[&str]) -> Option<Vec<Value>> {
        self.take(names, |value| value.as_array().cloned())
    }

    /// Texts: a list of them, or one alone.
    pub fn texts(&mut self, names: &[&str]) -> Option<Vec<String>> {
        let one = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        self.take(names, |value| match value {
            Value::Array(items) => items.iter().map(one).collect(),
            other => one(other).map(|text| vec![text]),
        })
    }

    /// An object, its members as they are.
    pub fn object(&mut self, names: &[&str]) -> Option<Map<String, Value>> {
        self.take(names, |value| value.as_object().cloned())
    }

    /// Anything that is there: for fields whose shape the vendor does not say.
    pub fn value(&mut self, names: &[&str]) -> Option<Value> {
        self.take(names, |value| Some(value.clone()))
    }

    /// What was not taken: unknown fields, and known ones of an unexpected shape.
    #[must_use]
    pub fn rest(self) -> Map<String, Value> {
        self.object
    }

    fn take<T>(&mut self, names: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        for name in names {
            let Some(value) = self.object.get(*name) else { continue };
            let absent = value.is_null() || value.as_str().is_some_and(str::is_empty);
            let found = if absent { None } else { read(value) };
            if absent || found.is_some() {
                self.object.remove(*name);
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// Declares a record: its fields, how each is read, and its spellings on the wire.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ident $($wire:literal)|+;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: Option<$crate::vendors::record::kind!($kind)>,)*
            /// Every other field, and those of an unexpected shape.
            pub rest: serde_json::Map<String, serde_json::Value>,
        }

        impl $crate::vendors::record::FromFields for $name {
            fn from_fields(mut fields: $crate::vendors::record::Fields) -> Self {
                Self {
                    $($field: fields.$kind(&[$($wire),+]),)*
                    rest: fields.rest(),
                }
            }
        }
    };
}

/// The Rust type behind each way of reading.
macro_rules! kind {
    (text) => { String };
    (whole) => { i64 };
    (number) => { serde_json::Number };
    (flag) => { bool };
    (moment) => { $crate::vendors::times::Moment };
    (list) => { Vec<serde_json::Value> };
    (texts) => { Vec<String> };
    (object) => { serde_json::Map<String, serde_json::Value> };
    (value) => { serde_json::Value };
}

pub(crate) use {kind, record};

#[cfg(test)]
mod tests {
    use super::{Batch, NotAnObject, Record};
    use crate::vendors::times::BEIJING;
    use serde_json::json;

    record! {
        /// One field of each kind.
        Sample {
            /// `agent_ID` or `agent_id`
            id: text "agent_ID" | "agent_id";
            /// `count`
            count: whole "count";
            /// `rate`
            rate: number "rate";
            /// `missed`
            missed: flag "missed";
            /// `at`
            at: moment "at";
            /// `tags`
            tags: list "tags";
            /// `origin`
            origin: texts "origin";
            /// `custom`
            custom: object "custom";
            /// `leads`
            leads: value "leads";
        }
    }

    fn read(json: &str) -> Sample {
        Record::<Sample>::parse(json, BEIJING).unwrap().typed
    }

    #[test]
    fn numbers_and_texts_are_read_alike() {
        for json in
            [r#"{"count":18,"agent_ID":7}"#, r#"{"count":"18","agent_id":"7"}"#, r#"{"count":" 18 ","agent_ID":7}"#]
        {
            let sample = read(json);
            assert_eq!((sample.count, sample.id.as_deref()), (Some(18), Some("7")), "{json}");
            assert!(sample.rest.is_empty(), "{json}");
        }
    }

    #[test]
    fn null_and_the_empty_text_are_absent() {
        assert_eq!(
            read(r#"{"count":null,"agent_ID":"","missed":null,"tags":null,"at":"","leads":null}"#),
            Sample::default()
        );
        assert_eq!(read(r#"{"agent_ID":"","agent_id":"7"}"#).id.as_deref(), Some("7"));
    }

    #[test]
    fn what_does_not_fit_its_type_is_kept_under_its_name() {
        let sample = read(r#"{"count":"many","at":"yesterday","tags":"a,b","missed":"maybe","new":{"x":1}}"#);
        assert_eq!((sample.count, sample.at, sample.tags, sample.missed), (None, None, None, None));
        let kept = json!({"count":"many","at":"yesterday","tags":"a,b","missed":"maybe","new":{"x":1}});
        assert_eq!(serde_json::Value::Object(sample.rest), kept);
    }

    #[test]
    fn flags_and_lists_have_several_spellings() {
        for (json, expected) in [("true", true), ("1", true), (r#""是""#, true), (r#""false""#, false), ("0", false)] {
            assert_eq!(read(&format!(r#"{{"missed":{json}}}"#)).missed, Some(expected), "{json}");
        }
        for json in [r#""webim""#, r#"["webim"]"#] {
            assert_eq!(read(&format!(r#"{{"origin":{json}}}"#)).origin, Some(vec!["webim".to_owned()]), "{json}");
        }
    }

    #[test]
    fn integers_beyond_2_53_stay_exact() {
        let raw = r#"{"agent_ID": 1493629159358939434, "count": "1493629159358939434", "rate": 1493629159358939434}"#;
        let record = Record::<Sample>::parse(raw, BEIJING).unwrap();
        assert_eq!(record.typed.id.as_deref(), Some("1493629159358939434"));
        assert_eq!(record.typed.count, Some(1_493_629_159_358_939_434));
        assert_eq!(record.typed.rate.map(|rate| rate.to_string()).as_deref(), Some("1493629159358939434"));
        assert_eq!(&record.raw[..], raw.as_bytes());
    }

    #[test]
    fn a_spoiled_record_spoils_no_other() {
        let items = [r#"{"agent_ID":1}"#, "null", r#"{"name":"\ud83d"}"#, "7", r#"{"agent_ID":2}"#];
        let batch = Batch::<Sample>::read(items, BEIJING);
        let ids: Vec<_> = batch.records.iter().filter_map(|record| record.typed.id.as_deref()).collect();
        assert_eq!((ids, batch.unreadable), (vec!["1", "2"], 3));
    }

    #[test]
    fn what_is_no_object_is_no_record() {
        for text in ["[]", "7", "null", "\"x\"", "{", ""] {
            assert_eq!(Record::<Sample>::parse(text, BEIJING), Err(NotAnObject), "{text}");
        }
    }
}
