//! What an expression sees of one event: `event`, `body`, `push`, `headers`, and `enrichment` once there is one.
//!
//! Nothing is converted ahead: the interpreter asks for a name, and gets a view that borrows from the event. The
//! payload is scanned once, when the first expression touches it, and all routes share that scan.
//!
//! Work on a payload is bounded by a [`Budget`], so that no push, however made, holds the router for long.

use crate::{
    domain::{EnrichmentPart, Event},
    routing::json::{self, Json, Malformed, Member},
};
use cel::{
    ExecutionError,
    common::{
        traits::{self, Container, Indexer, Iterable, Sizer},
        types::{
            CelBool, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelUInt, DYN_TYPE, MAP_TYPE,
            Type,
        },
        value::{CowVal, StaticVal, Val},
    },
    context::VariableResolver,
};
use std::{
    any::Any,
    borrow::Cow,
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

/// Bytes scanned and loop steps paid for, per event: about 10 ms of work. A payload of 1 MiB is scanned in a tenth.
const BUDGET_BYTES: i64 = 8 << 20;

/// What one step of a loop costs, in bytes.
const STEP_BYTES: i64 = 256;

/// The names an expression may begin with.
pub const ROOTS: [&str; 5] = ["event", "body", "push", "headers", "enrichment"];

/// The members of `event`.
pub const EVENT_MEMBERS: [&str; 8] = ["id", "type", "key", "source", "tenant", "received_at", "created_at", "origin"];

/// The members of each record below `enrichment`.
pub const ENRICHMENT_MEMBERS: [&str; 4] = ["status", "reason", "fetched_at", "record"];

/// What evaluating may still cost for this event.
#[derive(Debug)]
pub struct Budget {
    left: AtomicI64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: AtomicI64::new(BUDGET_BYTES) }
    }
}

impl Budget {
    /// Pays for work, before it is done.
    ///
    /// # Errors
    /// When the event has used up what it may cost.
    pub fn pay(&self, bytes: usize) -> Result<(), ExecutionError> {
        // One thread at a time evaluates an event: plain loads and stores are enough, and cheaper.
        let left = self.left.load(Ordering::Relaxed) - i64::try_from(bytes).unwrap_or(i64::MAX);
        self.left.store(left.max(-1), Ordering::Relaxed);
        if left < 0 { Err(ExecutionError::function_error("@budget", "too much work for one event")) } else { Ok(()) }
    }

    /// Pays for a loop over so many elements.
    ///
    /// # Errors
    /// When the event has used up what it may cost.
    pub fn pay_steps(&self, steps: i64) -> Result<(), ExecutionError> {
        self.pay(usize::try_from(steps.saturating_mul(STEP_BYTES)).unwrap_or(usize::MAX))
    }

    /// Whether it is used up.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }
}

impl Val for Budget {
    fn get_type(&self) -> &Type {
        &DYN_TYPE
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(Self { left: AtomicI64::new(self.left.load(Ordering::Relaxed)) })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Budget {}

/// One event as expressions and templates see it.
#[derive(Debug)]
pub struct Scope<'a> {
    /// What work may still be done.
    pub budget: &'a Budget,
    event: EventView<'a>,
    headers: HeadersView<'a>,
    body: OnceLock<Result<ObjectView<'a>, Malformed>>,
    push: OnceLock<Result<ObjectView<'a>, Malformed>>,
    parts: Option<&'a [EnrichmentPart]>,
    enrichment: OnceLock<CelMap<'a>>,
}

impl<'a> Scope<'a> {
    /// The event before anything was looked up.
    #[must_use]
    pub fn new(event: &'a Event, budget: &'a Budget) -> Self {
        Self {
            budget,
            event: EventView(event),
            headers: HeadersView(event),
            body: OnceLock::new(),
            push: OnceLock::new(),
            parts: None,
            enrichment: OnceLock::new(),
        }
    }

    /// The event with what was looked up.
    #[must_use]
    pub fn enriched(event: &'a Event, parts: &'a [EnrichmentPart], budget: &'a Budget) -> Self {
        Self { parts: Some(parts), ..Self::new(event, budget) }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &'a Event {
        self.event.0
    }

    /// What was looked up.
    #[must_use]
    pub fn parts(&self) -> &'a [EnrichmentPart] {
        self.parts.unwrap_or_default()
    }

    /// The payload object. An event without one has an empty `body`.
    ///
    /// # Errors
    /// [`Malformed`] when the payload is not an object.
    pub fn body(&self) -> Result<&ObjectView<'a>, Malformed> {
        let scan = || ObjectView::scan(self.event.0.payload().unwrap_or(b"{}"), self.budget);
        self.body.get_or_init(scan).as_ref().map_err(|error| *error)
    }

    /// The whole push.
    ///
    /// # Errors
    /// [`Malformed`] when it is not an object.
    pub fn push(&self) -> Result<&ObjectView<'a>, Malformed> {
        let scan = || ObjectView::scan(&self.event.0.body, self.budget);
        self.push.get_or_init(scan).as_ref().map_err(|error| *error)
    }

    /// Whether the payload was looked at and is no JSON object.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        !self.budget.is_spent()
            && [&self.body, &self.push].iter().any(|view| matches!(view.get(), Some(Err(Malformed))))
    }

    fn enrichment(&self) -> Option<&CelMap<'a>> {
        let parts = self.parts?;
        Some(self.enrichment.get_or_init(|| {
            let views = parts.iter().map(|part| (CelMapKey::from(&*part.what), self.part(part)));
            CelMap::from(views.collect::<HashMap<_, _>>())
        }))
    }

    fn part(&self, part: &'a EnrichmentPart) -> Box<dyn Val + 'a> {
        let mut members: HashMap<CelMapKey<'a>, Box<dyn Val + 'a>> = HashMap::new();
        members.insert("status".into(), Box::new(CelString::from(part.status.as_str())));
        if let Some(reason) = &part.reason {
            members.insert("reason".into(), Box::new(CelString::from(&**reason)));
        }
        if let Some(time) = part.fetched_at {
            members.insert("fetched_at".into(), Box::new(CelString::from(time.to_string())));
        }
        if let Some(record) = &part.record
            && let Ok(view) = ObjectView::scan(&record.bytes, self.budget)
        {
            members.insert("record".into(), Box::new(view));
        }
        Box::new(CelMap::from(members))
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        // Asked for `body.tel` as one name first, then for `body`.
        match variable {
            "event" => Some(CowVal::Borrowed(&self.event)),
            "body" => self.body().ok().map(|view| CowVal::Borrowed(view as &dyn Val)),
            "push" => self.push().ok().map(|view| CowVal::Borrowed(view as &dyn Val)),
            "headers" => Some(CowVal::Borrowed(&self.headers)),
            "enrichment" => self.enrichment().map(|view| CowVal::Borrowed(view as &dyn Val)),
            "@budget" => Some(CowVal::Borrowed(self.budget)),
            _ => None,
        }
    }
}

/// The one text of a member of `event`; `None` when the event has no such thing.
#[must_use]
pub fn event_member<'a>(event: &'a Event, name: &str) -> Option<Cow<'a, str>> {
    match name {
        "type" => Some(event.kind.as_ref().into()),
        "key" => event.key.as_deref().map(Cow::Borrowed),
        "source" => Some(event.source.as_str().into()),
        "tenant" => Some(event.tenant.as_str().into()),
        "origin" => Some(event.origin.as_str().into()),
        "id" => Some(event.id.to_string().into()),
        "received_at" => Some(event.received_at.to_string().into()),
        "created_at" => event.sent_at.map(|time| time.to_string().into()),
        _ => None,
    }
}

fn asked<'a>(index: &'a (dyn Val + '_)) -> Result<&'a str, ExecutionError> {
    index.downcast_ref::<CelString>().map(CelString::inner).ok_or_else(|| ExecutionError::UnexpectedType {
        got: index.get_type().name().to_owned(),
        want: "string".to_owned(),
    })
}

/// Says what every view of ours has in common: it is a map with members that are asked for by name.
macro_rules! map_view {
    () => {
        fn get_type(&self) -> &Type {
            &MAP_TYPE
        }

        fn cel_type() -> &'static Type {
            &MAP_TYPE
        }

        fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
        where
            Self: 'v,
        {
            Some(self)
        }

        fn as_container(&self) -> Option<&dyn Container> {
            Some(self)
        }

        fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
        where
            Self: 'v,
        {
            Box::new(self.clone())
        }
    };
}

/// `event`
#[derive(Debug, Clone)]
struct EventView<'a>(&'a Event);

impl Val for EventView<'_> {
    map_view!();
}

impl Indexer for EventView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = asked(index)?;
        let text = event_member(self.0, name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        Ok(CowVal::owned(CelString::from(text)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for EventView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(event_member(self.0, asked(value)?).is_some())
    }
}

/// `headers`: names are found in any case.
#[derive(Debug, Clone)]
struct HeadersView<'a>(&'a Event);

impl HeadersView<'_> {
    fn find(&self, name: &str) -> Option<&str> {
        header(self.0, name)
    }
}

/// A header's first value, its name in any case.
#[must_use]
pub fn header<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

impl Val for HeadersView<'_> {
    map_view!();
}

impl Indexer for HeadersView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let name = asked(index)?;
        let text = header(self.0, name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        Ok(CowVal::owned(CelString::from(text)))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Container for HeadersView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.find(asked(value)?).is_some())
    }
}

/// A JSON object whose members were found and are decoded when asked for; `null` members are absent.
#[derive(Debug, Clone)]
pub struct ObjectView<'a> {
    members: Vec<Member<'a>>,
    /// The names as values: only loops over an object need them.
    names: OnceLock<Vec<CelString<'a>>>,
    budget: &'a Budget,
}

impl<'a> ObjectView<'a> {
    fn scan(object: &'a [u8], budget: &'a Budget) -> Result<Self, Malformed> {
        budget.pay(object.len()).map_err(|_| Malformed)?;
        Ok(Self { members: json::members(object)?, names: OnceLock::new(), budget })
    }

    /// A member's bytes; `None` when it is absent or `null`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        json::find(&self.members, name.as_bytes())
    }

    /// The names of all members that are not `null`.
    pub fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.members.iter().filter(|member| !member.is_null()).map(|member| String::from_utf8_lossy(&member.name))
    }

    fn value<'v>(&self, name: &str) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        'a: 'v,
    {
        self.budget.pay(self.members.len())?;
        let value = self.find(name).ok_or_else(|| ExecutionError::no_such_key(name))?;
        value_of(value, self.budget, 0)
    }
}

impl Val for ObjectView<'_> {
    map_view!();

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        let (Some(theirs), Some(sizer)) = (other.as_indexer(), other.as_sizer()) else { return false };
        sizer.size() == self.size()
            && self.names().all(|name| {
                let name = CelString::from(&*name);
                matches!((self.get(&name), theirs.get(&name)), (Ok(ours), Ok(theirs)) if ours.equals(&*theirs))
            })
    }
}

impl Indexer for ObjectView<'_> {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.value(asked(index)?).map(CowVal::Owned)
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.value(asked(index)?)
    }
}

impl Container for ObjectView<'_> {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        self.budget.pay(self.members.len())?;
        Ok(self.find(asked(value)?).is_some())
    }
}

impl Sizer for ObjectView<'_> {
    fn size(&self) -> CelInt {
        i64::try_from(self.members.iter().filter(|member| !member.is_null()).count()).unwrap_or(i64::MAX).into()
    }
}

impl Iterable for ObjectView<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn traits::Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        let names = self.names.get_or_init(|| {
            let present = self.members.iter().filter(|member| !member.is_null());
            present.map(|member| CelString::from(String::from_utf8_lossy(&member.name).into_owned())).collect()
        });
        Box::new(Names(names.iter()))
    }
}

struct Names<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'a: 'v, 'v> traits::Iterator<'b, 'v> for Names<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|name| name as &(dyn Val + 'v))
    }
}

/// Decodes a member for the interpreter. Objects stay views; lists are converted, as deep as lists go.
fn value_of<'a: 'v, 'v>(
    value: &'a [u8],
    budget: &'a Budget,
    depth: usize,
) -> Result<Box<dyn Val + 'v>, ExecutionError> {
    budget.pay(value.len())?;
    let unreadable = |error: Malformed| ExecutionError::function_error("@json", error);
    Ok(match json::decode(value).map_err(unreadable)? {
        Json::Null => Box::new(CelNull),
        Json::Bool(value) => Box::new(CelBool::from(value)),
        Json::Int(value) => Box::new(CelInt::from(value)),
        Json::Uint(value) => Box::new(CelUInt::from(value)),
        Json::Big(text) => Box::new(CelDouble::from(text.parse::<f64>().unwrap_or(f64::INFINITY))),
        Json::Float(value) => Box::new(CelDouble::from(value)),
        Json::Text(text) => Box::new(CelString::from(text)),
        Json::Object(object) => Box::new(ObjectView::scan(object, budget).map_err(unreadable)?),
        Json::List(list) => {
            let depth = json::deeper(depth).map_err(unreadable)?;
            let elements = json::elements(list).map_err(unreadable)?;
            budget.pay_steps(i64::try_from(elements.len() / 8).unwrap_or(i64::MAX))?;
            let values: Result<Vec<Box<dyn Val + 'v>>, _> =
                elements.into_iter().map(|element| value_of(element, budget, depth)).collect();
            Box::new(CelList::from(values?))
        }
    })
}
