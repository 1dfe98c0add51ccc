//! The outermost object of a push: what its members are called in each dialect, and what they say.
//!
//! [`read`] checks the whole body and notes where the members lie; nothing is copied. What the envelope says is taken
//! from the notes by [`Envelope::identify`], so that the door can ask for the tenant's token in between.

use crate::{
    config::settings::{Fields, SourceKind},
    domain::{Defect, Headers, Timestamp, Version},
    vendors::{
        EVENT_BYTES_MAX, ID_BYTES_MAX, Identity, easemob,
        json::{Fault, Kind, Reader, Text, Value},
        laigu,
        times::{BEIJING, Moment},
        webhook,
    },
};
use std::{borrow::Cow, collections::HashSet, ops::Range};

/// Members of the outermost object, at most: a push has five, and each costs memory to tell repeats.
const MEMBERS_MAX: usize = 4096;

/// From so many members on, repeats are told by a set instead of by looking at each.
const MEMBERS_FEW: usize = 16;

/// Room for these is made at once.
const MEMBERS_USUAL: usize = 8;

/// How a dialect counts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Unix seconds.
    Seconds,
    /// Unix milliseconds.
    Milliseconds,
}

/// Where the payload says what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// The first of these two members that is there.
    Either(&'static str, &'static str),
    /// A member of a member, else this member itself.
    Within {
        /// The object to look into.
        object: &'static str,
        /// What to look for there.
        member: &'static str,
        /// Where the payload has no such object.
        otherwise: &'static str,
    },
}

/// Where the pushes of one event say which version of which record they are about: members of the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRule {
    /// The event.
    pub event: &'static str,
    /// What the record is called by.
    pub key: &'static str,
    /// The version: a time.
    pub time: &'static str,
    /// Whether a push without that time stands for every version of the record.
    pub stands_for_all: bool,
}

/// What a vendor calls the members of its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The push's id.
    pub id: &'static str,
    /// What happened.
    pub event: &'static str,
    /// When.
    pub time: &'static str,
    /// How `time` counts.
    pub unit: TimeUnit,
    /// The vendor's name for the enterprise; empty where there is none.
    pub token: &'static str,
    /// The payload object, the likeliest name first; failing these, the only object.
    pub payloads: &'static [&'static str],
    /// Where the payload says what it is about.
    pub key: KeyRule,
    /// The events that the API can show again.
    pub versions: Option<[VersionRule; 2]>,
}

/// The dialect of a source; `None` for `webhook`, whose file says where things lie.
#[must_use]
pub const fn dialect(kind: SourceKind) -> Option<&'static Dialect> {
    match kind {
        SourceKind::Laigu | SourceKind::Meiqia => Some(&laigu::dialect::WEBHOOK),
        SourceKind::LaiguAutomation => Some(&laigu::dialect::AUTOMATION),
        SourceKind::EasemobKefu => Some(&easemob::dialect::WEBHOOK),
        SourceKind::Webhook => None,
    }
}

/// A body that is strict JSON and an object, with notes where its members lie.
#[derive(Debug)]
pub struct Envelope<'a> {
    body: &'a [u8],
    whole: Range<usize>,
    dialect: Option<&'static Dialect>,
    id: Option<Value>,
    event: Option<Value>,
    time: Option<Value>,
    token: Option<Value>,
    payload: Option<Payload>,
}

/// An object that may be the payload.
#[derive(Debug)]
struct Payload {
    /// Its place among the dialect's names, or their number if it is none of them.
    rank: usize,
    /// Whether another object has the same rank: then neither is *the* payload.
    ambiguous: bool,
    range: Range<usize>,
    /// The members that the key rule names.
    found: [Option<Value>; 2],
    /// The key and the time that each version rule names.
    versions: [[Option<Value>; 2]; 2],
}

/// Reads the whole body.
///
/// # Errors
/// [`Defect`] when it is not strict JSON, not an object, too deep, or repeats a member of the outermost object.
pub fn read(kind: SourceKind, body: &[u8]) -> Result<Envelope<'_>, Defect> {
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err(Defect("not JSON: it begins with a byte order mark".into()));
    }
    let mut reader = Reader::new(body);
    if reader.peek()? != Kind::Object {
        // Tells an array from what is no JSON at all.
        reader.skip(0)?;
        reader.end()?;
        return Err(Defect("the body is JSON, but not an object".into()));
    }
    let start = reader.offset();
    let mut envelope = Envelope {
        body,
        whole: start..start,
        dialect: dialect(kind),
        id: None,
        event: None,
        time: None,
        token: None,
        payload: None,
    };
    let mut names = Names::default();
    reader.object(|reader, name| {
        names.add(name)?;
        envelope.member(reader, name)
    })?;
    envelope.whole.end = reader.offset();
    reader.end()?;
    Ok(envelope)
}

impl<'a> Envelope<'a> {
    fn member(&mut self, reader: &mut Reader<'a>, name: Text<'a>) -> Result<(), Defect> {
        let Some(dialect) = self.dialect else {
            reader.skip(1)?;
            return Ok(());
        };
        if reader.peek()? == Kind::Object {
            let payload = Payload::read(reader, dialect, name)?;
            match &mut self.payload {
                Some(other) if other.rank < payload.rank => {}
                Some(other) if other.rank == payload.rank => other.ambiguous = true,
                place => *place = Some(payload),
            }
            return Ok(());
        }
        let value = reader.skip(1)?;
        let place = if name.is(dialect.id) {
            &mut self.id
        } else if name.is(dialect.event) {
            &mut self.event
        } else if name.is(dialect.time) {
            &mut self.time
        } else if !dialect.token.is_empty() && name.is(dialect.token) {
            &mut self.token
        } else {
            return Ok(());
        };
        *place = Some(value);
        Ok(())
    }

    /// The vendor's name for the enterprise, as the body gives it: to be compared, never to be trusted.
    #[must_use]
    pub fn tenant_token(&self) -> Option<Cow<'a, str>> {
        text(self.body, self.token.as_ref()?)
    }

    /// What the envelope says.
    ///
    /// # Errors
    /// [`Defect`] when it has no id or no event, or one that is too long.
    pub fn identify(&self, fields: Option<&Fields>, headers: &Headers) -> Result<Identity, Defect> {
        let Some(dialect) = self.dialect else {
            return webhook::identify(self.body, self.whole.clone(), fields, headers);
        };
        let id = required(self.body, self.id.as_ref(), dialect.id, ID_BYTES_MAX)?;
        let kind = required(self.body, self.event.as_ref(), dialect.event, EVENT_BYTES_MAX)?;
        let payload = self.payload.as_ref().filter(|payload| !payload.ambiguous);
        let key = match payload.and_then(|payload| payload.key(self.body, dialect.key)) {
            Some(key) => Some(short(key, "the key", ID_BYTES_MAX)?),
            None => None,
        };
        let sent_at = self.time.as_ref().and_then(|value| time(self.body, value, dialect.unit));
        let version = payload.and_then(|payload| payload.version(self.body, dialect, &kind));
        let payload = payload.and_then(|payload| narrow(&payload.range));
        Ok(Identity { kind, id: Some(id), key, sent_at, payload, version })
    }
}

impl Payload {
    fn read<'a>(reader: &mut Reader<'a>, dialect: &Dialect, name: Text<'a>) -> Result<Self, Defect> {
        let (first, second) = match dialect.key {
            KeyRule::Either(first, second) => (first, second),
            KeyRule::Within { object, otherwise, .. } => (object, otherwise),
        };
        let start = reader.offset();
        let mut found = [None, None];
        let mut versions = [[None, None], [None, None]];
        reader.object(|reader, name| {
            let value = reader.skip(2)?;
            for (rule, [key, time]) in dialect.versions.iter().flatten().zip(&mut versions) {
                if name.is(rule.key) {
                    *key = Some(value.clone());
                } else if name.is(rule.time) {
                    *time = Some(value.clone());
                }
            }
            let [one, two] = &mut found;
            if name.is(first) {
                *one = Some(value);
            } else if name.is(second) {
                *two = Some(value);
            }
            Ok::<(), Fault>(())
        })?;
        let rank = dialect.payloads.iter().position(|payload| name.is(payload)).unwrap_or(dialect.payloads.len());
        Ok(Self { rank, ambiguous: false, range: start..reader.offset(), found, versions })
    }

    fn version(&self, body: &[u8], dialect: &Dialect, event: &str) -> Option<Version> {
        let mut rules = dialect.versions.iter().flatten().zip(&self.versions);
        let (rule, [key, time]) = rules.find(|(rule, _)| rule.event == event)?;
        let key = text(body, key.as_ref()?)?;
        let written = time.as_ref().and_then(|time| text(body, time));
        let at = written.and_then(|written| Moment::parse(&written, BEIJING)).map(|moment| moment.instant);
        Some(Version { key: key.into(), at, stands_for_all: rule.stands_for_all })
    }

    fn key<'a>(&self, body: &'a [u8], rule: KeyRule) -> Option<Cow<'a, str>> {
        let [first, second] = &self.found;
        match rule {
            KeyRule::Either(..) => [first, second].into_iter().flatten().find_map(|value| text(body, value)),
            KeyRule::Within { member, .. } => {
                let object = first.as_ref().filter(|value| value.kind == Kind::Object);
                match object.and_then(|object| webhook::member(body, object, member)) {
                    Some(value) => text(body, &value),
                    None => text(body, second.as_ref()?),
                }
            }
        }
    }
}

/// The names of the outermost object so far.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    fn add(&mut self, name: Text<'a>) -> Result<(), Defect> {
        let name = name.unescape();
        if self.few.capacity() == 0 {
            self.few.reserve_exact(MEMBERS_USUAL);
        }
        let repeated = if self.few.len() < MEMBERS_FEW {
            let repeated = self.few.contains(&name);
            self.few.push(name);
            repeated
        } else {
            self.few.contains(&name) || !self.many.insert(name)
        };
        if repeated {
            return Err(Defect("a member of the envelope comes twice".into()));
        }
        if self.many.len() > MEMBERS_MAX {
            return Err(Defect(format!("more than {MEMBERS_MAX} members in the envelope").into()));
        }
        Ok(())
    }
}

impl From<Fault> for Defect {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string().into())
    }
}

/// The text of a text or number that is not empty; anything else counts as absent.
pub(super) fn text<'a>(body: &'a [u8], value: &Value) -> Option<Cow<'a, str>> {
    match value.kind {
        Kind::Text => {
            let text = Reader::at(body, value.range.start).text().ok()?.unescape();
            (!text.is_empty()).then_some(text)
        }
        Kind::Number => Some(String::from_utf8_lossy(body.get(value.range.clone())?)),
        Kind::Object | Kind::Array | Kind::Boolean | Kind::Null => None,
    }
}

/// The text of a member that must be there.
pub(super) fn required(body: &[u8], value: Option<&Value>, name: &str, max: usize) -> Result<Box<str>, Defect> {
    match value.and_then(|value| text(body, value)) {
        Some(text) => short(text, name, max),
        None => Err(Defect(format!("the push has no `{name}`").into())),
    }
}

/// The text, if it is no longer than `max` bytes.
pub(super) fn short(text: Cow<'_, str>, name: &str, max: usize) -> Result<Box<str>, Defect> {
    if text.len() > max {
        return Err(Defect(format!("`{name}` is longer than {max} bytes").into()));
    }
    Ok(text.into())
}

/// A time in whole numbers, between 1970 and 9999; anything else counts as absent.
pub(super) fn time(body: &[u8], value: &Value, unit: TimeUnit) -> Option<Timestamp> {
    let text = text(body, value)?;
    let whole: i64 = text.split('.').next()?.parse().ok()?;
    let millis = match unit {
        TimeUnit::Seconds => whole.checked_mul(1000)?,
        TimeUnit::Milliseconds => whole,
    };
    in_range(Timestamp::from_millis(millis))
}

/// The time, if it is one that RFC 3339 can write.
pub(super) fn in_range(time: Timestamp) -> Option<Timestamp> {
    /// 9999-12-31T23:59:59.999Z.
    const LAST_MILLIS: i64 = 253_402_300_799_999;
    (0..=LAST_MILLIS).contains(&time.as_millis()).then_some(time)
}

/// A range as it is stored; `None` beyond 4 GiB, which no body reaches.
pub(super) fn narrow(range: &Range<usize>) -> Option<Range<u32>> {
    Some(u32::try_from(range.start).ok()?..u32::try_from(range.end).ok()?)
}
