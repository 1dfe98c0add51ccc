//! What an expression sees of one event: `event`, `body`, `push`, `headers`, and `enrichment` once there is one.
//!
//! Nothing is converted ahead: the interpreter asks for a name, and gets a view that borrows from the event. The
//! payload is scanned once, when the first expression touches it, and all routes share that scan.
//!
//! Work on a payload is bounded by a [`Budget`], so that no push, however made, holds the router for long.

use crate::{
    domain::{EnrichmentPart, Event},
    routing::{
        budget::Budget,
        json::Malformed,
        views::{EventView, HeadersView, ObjectView},
    },
};
use cel::{
    common::{
        types::{CelMap, CelMapKey, CelString},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use std::{borrow::Cow, collections::HashMap, sync::OnceLock};

/// The names an expression may begin with.
pub const ROOTS: [&str; 5] = ["event", "body", "push", "headers", "enrichment"];

/// The members of `event`.
pub const EVENT_MEMBERS: [&str; 8] = ["id", "type", "key", "source", "tenant", "received_at", "created_at", "origin"];

/// The members of each record below `enrichment`.
pub const ENRICHMENT_MEMBERS: [&str; 4] = ["status", "reason", "fetched_at", "record"];

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
        [&self.body, &self.push].iter().any(|view| matches!(view.get(), Some(Err(Malformed))))
    }

    /// What `event.type` or `body.tel` stands for, if it is there. If not, whoever asks goes the long way, to tell why.
    fn member(&self, root: &str, name: &str) -> Option<CowVal<'_, '_>> {
        // A member whose name has a dot cannot be meant: `body.a.b` is a member of a member.
        if name.contains('.') {
            return None;
        }
        match root {
            "event" => event_member(self.event.0, name).map(|text| CowVal::owned(CelString::from(text))),
            "body" => self.body().ok()?.value(name).ok().map(CowVal::Owned),
            "push" => self.push().ok()?.value(name).ok().map(CowVal::Owned),
            _ => None,
        }
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
        if let Some((root, name)) = variable.split_once('.') {
            return self.member(root, name);
        }
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

/// A header's first value, its name in any case.
#[must_use]
pub fn header<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
