//! The table of routes: compiled once from the settings, asked about every event.
//!
//! Asking takes two looks, because records are fetched in between: [`Table::evaluate`] asks every `when`,
//! [`Matched::needs`] says what the matched routes want fetched, [`Table::finish`] asks every `when_enriched` and
//! renders the keys. [`Table::decide`] is both at once for the events that need nothing.

use crate::{
    config::{
        diagnostic::{Diagnostic, Severity, SourceText},
        settings::{DestinationKind, Located, Route, Settings, Unrouted},
    },
    domain::{DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, Event, Parts, RouteName, Target},
    routing::{
        budget::Budget,
        condition::{Condition, Verdict},
        mistake::Mistake,
        samples,
        scope::Scope,
        template::{self, AddressKind, Template},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// All routes of one generation of the file.
#[derive(Debug)]
pub struct Table {
    routes: Vec<Entry>,
    unrouted: Unrouted,
}

/// One route, compiled.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub name: RouteName,
    /// The condition on the push.
    pub when: Option<Condition>,
    /// The condition on push and records.
    pub when_enriched: Option<Condition>,
    /// The records it wants fetched.
    pub enrich: Vec<String>,
    /// Whether it would rather wait than go on without them.
    pub required: bool,
    /// Whether later routes are not asked once it matched.
    pub stop: bool,
    within: Duration,
    to: Vec<Destined>,
    /// How often it did not match because a field was not there; the next table counts on.
    missing: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Destined {
    destination: DestinationName,
    address: Address,
}

#[derive(Debug)]
enum Address {
    /// The destination has no use for one.
    None,
    Default(AddressKind),
    Template(Template),
}

/// A record that matched routes want fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need<'t> {
    /// `client`, `conversation`, `agent` or `session`.
    pub what: &'t str,
    /// Whether some route would rather wait than go on without it.
    pub required: bool,
    /// How long, from acceptance; the longest that a route grants.
    pub within: Duration,
}

/// What the first look found. To be finished by the table that made it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matched {
    /// Routes that matched or failed, in their order.
    hits: Vec<Hit>,
    /// The payload is no JSON object.
    unparsable: bool,
    /// One route alone was asked.
    alone: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hit {
    route: usize,
    /// Why its condition could not be told.
    failed: Option<Box<str>>,
}

/// The answer of [`Table::decide`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decided {
    /// Nothing needs to be fetched: this is it.
    Now(Decision),
    /// Records are wanted first; then [`Table::finish`].
    Needs(Matched),
}

impl Table {
    /// Compiles all conditions and templates. Warnings come with the table. `source` is the file they stand in.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included.
    pub fn compile(settings: &Settings, source: &SourceText) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut routes = Vec::with_capacity(settings.routes.len());
        for route in &settings.routes {
            routes.push(Entry::compile(route, settings, source, &mut problems));
        }
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(problems);
        }
        Ok((Self { routes, unrouted: settings.unrouted }, problems))
    }

    /// The routes, in their order.
    pub fn routes(&self) -> impl Iterator<Item = &Entry> {
        self.routes.iter()
    }

    /// Asks every `when`, in order, until a route that says `stop` has matched for good.
    #[must_use]
    pub fn evaluate(&self, event: &Event) -> Matched {
        let budget = Budget::default();
        self.first_look(&Scope::new(event, &budget))
    }

    /// Asks one route alone: how a dead letter of that route is decided again. `None` when there is no such route.
    #[must_use]
    pub fn evaluate_route(&self, event: &Event, route: &RouteName) -> Option<Matched> {
        let (number, entry) = self.routes.iter().enumerate().find(|(_, entry)| entry.name == *route)?;
        if is_defective(event) {
            return Some(Matched { unparsable: true, alone: true, ..Matched::default() });
        }
        let budget = Budget::default();
        let scope = Scope::new(event, &budget);
        let hits = entry.look(number, &scope).into_iter().collect();
        Some(Matched { hits, unparsable: scope.is_malformed(), alone: true })
    }

    /// Asks every `when_enriched` of the matched routes and renders their keys.
    ///
    /// `enrichment` holds what [`Matched::needs`] asked for. A required record that is not there makes a dead letter
    /// of its route, so this is called for such a route only once waiting is over.
    #[must_use]
    pub fn finish(&self, event: &Event, matched: &Matched, enrichment: &[EnrichmentPart]) -> Decision {
        let budget = Budget::default();
        self.second_look(&Scope::enriched(event, enrichment, &budget), matched)
    }

    /// Both looks at once, where no matched route wants a record.
    #[must_use]
    pub fn decide(&self, event: &Event) -> Decided {
        let budget = Budget::default();
        let scope = Scope::new(event, &budget);
        let matched = self.first_look(&scope);
        if matched.needs(self).next().is_some() {
            return Decided::Needs(matched);
        }
        Decided::Now(self.second_look(&scope, &matched))
    }

    /// How often each route did not match because a field it asks for was not there.
    pub fn missing_fields(&self) -> impl Iterator<Item = (&RouteName, u64)> {
        self.routes.iter().map(|entry| (&entry.name, entry.missing.load(Ordering::Relaxed)))
    }

    /// Lets routes that stood in the table before count on from there.
    pub fn count_on(&mut self, before: &Self) {
        for entry in &mut self.routes {
            if let Some(known) = before.routes.iter().find(|known| known.name == entry.name) {
                entry.missing = Arc::clone(&known.missing);
            }
        }
    }

    /// Whether the event has no type and payload, or a payload that is no JSON object.
    #[must_use]
    pub fn is_unparsable(&self, scope: &Scope<'_>) -> bool {
        is_defective(scope.event()) || scope.is_malformed()
    }

    fn first_look(&self, scope: &Scope<'_>) -> Matched {
        let mut matched = Matched::default();
        if is_defective(scope.event()) {
            return Matched { unparsable: true, ..matched };
        }
        for (number, entry) in self.routes.iter().enumerate() {
            let Some(hit) = entry.look(number, scope) else { continue };
            let stops = entry.stop && hit.failed.is_none() && entry.when_enriched.is_none();
            matched.hits.push(hit);
            if stops {
                break;
            }
        }
        matched.unparsable = scope.is_malformed();
        matched
    }

    fn second_look(&self, scope: &Scope<'_>, matched: &Matched) -> Decision {
        let mut decision = Decision::default();
        if !matched.unparsable {
            for hit in &matched.hits {
                let Some(entry) = self.routes.get(hit.route) else { continue };
                if entry.settle(hit, scope, &mut decision) && entry.stop {
                    break;
                }
            }
        }
        if matched.unparsable || scope.is_malformed() {
            let detail = "the payload cannot be read as a JSON object".into();
            let dead = vec![DeadRoute { route: None, cause: DeadCause::Unparsable, detail }];
            return Decision { dead, ..Decision::default() };
        }
        decision.discarded = decision.is_unrouted() && !matched.alone && self.unrouted == Unrouted::Discard;
        decision
    }
}

impl Matched {
    /// Whether nothing matched and nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hits.is_empty() && !self.unparsable
    }

    /// The records that the matched routes want, each once, in the order of the routes.
    pub fn needs<'t>(&self, table: &'t Table) -> impl Iterator<Item = Need<'t>> {
        let wanting = self.hits.iter().filter(|hit| hit.failed.is_none());
        let wanting = wanting.filter_map(|hit| table.routes.get(hit.route)).filter(|entry| !entry.enrich.is_empty());
        let mut needs: Vec<Need<'t>> = Vec::new();
        for entry in wanting {
            for what in &entry.enrich {
                match needs.iter_mut().find(|need| need.what == what) {
                    Some(need) => {
                        need.required |= entry.required;
                        need.within = need.within.max(entry.within);
                    }
                    None => needs.push(Need { what, required: entry.required, within: entry.within }),
                }
            }
        }
        needs.into_iter()
    }
}

/// What was signed but could not be read has neither a type nor a payload.
fn is_defective(event: &Event) -> bool {
    event.kind.is_empty() && event.payload.is_none()
}

impl Entry {
    fn compile(route: &Route, settings: &Settings, source: &SourceText, problems: &mut Vec<Diagnostic>) -> Self {
        let whose = format!("route `{}`: ", route.name);
        let mut note = |place: &Located, mistakes: Vec<Mistake>| {
            problems.extend(mistakes.into_iter().map(|mistake| mistake.located(place, source, &whose)));
        };
        let mut condition = |place: &Option<Located>, enrich| {
            let place = place.as_ref()?;
            let condition = Condition::compile(&place.text, enrich).map_err(|mistakes| note(place, mistakes)).ok()?;
            note(place, try_on_samples(&condition, enrich.unwrap_or_default()).into_iter().collect());
            Some(condition)
        };
        let when = condition(&route.when, None);
        let when_enriched = condition(&route.when_enriched, Some(route.enrich.as_slice()));
        let to = route.to.iter().map(|target| {
            let kind = settings.destinations.get(&target.destination).and_then(|it| address_kind(&it.kind));
            let address = match (kind, &target.address) {
                (Some(kind), None) => Address::Default(kind),
                (None, _) => Address::None,
                (Some(kind), Some(place)) => match Template::compile(&place.text, kind, &route.enrich) {
                    Ok((template, warnings)) => {
                        note(place, warnings);
                        Address::Template(template)
                    }
                    Err(mistakes) => {
                        note(place, mistakes);
                        Address::None
                    }
                },
            };
            Destined { destination: target.destination.clone(), address }
        });
        let to = to.collect();
        Self {
            name: route.name.clone(),
            when,
            when_enriched,
            enrich: route.enrich.clone(),
            required: route.required,
            stop: route.stop,
            within: route.enrich_within,
            to,
            missing: Arc::default(),
        }
    }

    /// Asks `when`. `None`: it does not match.
    fn look(&self, number: usize, scope: &Scope<'_>) -> Option<Hit> {
        let verdict = self.when.as_ref().map_or(Verdict::Yes, |when| when.evaluate(scope));
        match self.judge(verdict) {
            Ok(true) => Some(Hit { route: number, failed: None }),
            Ok(false) => None,
            Err(words) => Some(Hit { route: number, failed: Some(words) }),
        }
    }

    fn judge(&self, verdict: Verdict) -> Result<bool, Box<str>> {
        match verdict {
            Verdict::Yes => Ok(true),
            Verdict::No => Ok(false),
            Verdict::Missing(_) => {
                self.missing.fetch_add(1, Ordering::Relaxed);
                Ok(false)
            }
            Verdict::Failed(words) => Err(words.into()),
        }
    }

    /// Settles a route that matched at first. Returns whether it matched for good.
    ///
    /// A route sees what it asked for alone, as its consumers do.
    fn settle(&self, hit: &Hit, scope: &Scope<'_>, decision: &mut Decision) -> bool {
        let all = scope.parts();
        if all.iter().all(|part| self.asks_for(part)) {
            return self.settle_in(hit, scope, decision);
        }
        let own: Vec<_> = all.iter().filter(|part| self.asks_for(part)).cloned().collect();
        let before = decision.targets.len();
        let matched = self.settle_in(hit, &Scope::enriched(scope.event(), &own, scope.budget), decision);
        let parts = Parts::of(all, |part| self.asks_for(part));
        decision.targets.iter_mut().skip(before).for_each(|target| target.parts = parts);
        matched
    }

    fn settle_in(&self, hit: &Hit, scope: &Scope<'_>, decision: &mut Decision) -> bool {
        let mut dead = |cause, detail: Box<str>| {
            decision.dead.push(DeadRoute { route: Some(self.name.clone()), cause, detail });
        };
        if let Some(words) = &hit.failed {
            dead(DeadCause::Condition, words.clone());
            return false;
        }
        if let Some(what) = self.lacks(scope.parts()) {
            dead(DeadCause::EnrichmentRequired, format!("the {what} could not be had").into());
            return false;
        }
        if let Some(condition) = &self.when_enriched {
            match self.judge(condition.evaluate(scope)) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(words) => {
                    dead(DeadCause::Condition, words);
                    return false;
                }
            }
        }
        match self.targets(scope) {
            Ok(targets) => decision.targets.extend(targets),
            Err(words) => dead(DeadCause::Template, words),
        }
        true
    }

    fn asks_for(&self, part: &EnrichmentPart) -> bool {
        self.enrich.iter().any(|what| **what == *part.what)
    }

    /// The first required record that could not be had.
    #[must_use]
    pub fn lacks(&self, parts: &[EnrichmentPart]) -> Option<&str> {
        if !self.required {
            return None;
        }
        self.enrich.iter().find(|what| !is_satisfied(what, parts)).map(String::as_str)
    }

    /// Renders the keys. All or none: deciding a route again must not send again what had gone out.
    ///
    /// # Errors
    /// Which destination's key could not be rendered, and why.
    pub fn targets(&self, scope: &Scope<'_>) -> Result<Vec<Target>, Box<str>> {
        let parts = Parts::of(scope.parts(), |part| self.asks_for(part));
        let target = |to: &Destined| {
            let address = match &to.address {
                Address::None => Ok(None),
                Address::Default(kind) => template::default_address(scope.event(), *kind),
                Address::Template(template) => template.render(scope).map(Some),
            };
            let address = address.map_err(|error| format!("to `{}`: {error}", to.destination))?;
            Ok(Target { route: self.name.clone(), destination: to.destination.clone(), address, parts })
        };
        self.to.iter().map(target).collect()
    }
}

/// Asks the condition about every sample: types that do not go together show here, not at the first event.
fn try_on_samples(condition: &Condition, enrich: &[String]) -> Option<Mistake> {
    let parts: Vec<EnrichmentPart> = enrich.iter().map(|what| samples::part(what)).collect();
    samples::all().iter().find_map(|event| {
        let budget = Budget::default();
        let Verdict::Failed(words) = condition.evaluate(&Scope::enriched(event, &parts, &budget)) else { return None };
        let message = format!("the condition fails on a sample `{}`", event.kind);
        Some(Mistake::warning(0..0, message, words).help("such an event would become a dead letter of this route"))
    })
}

/// What the keys are that a destination takes; files take none.
#[must_use]
pub const fn address_kind(kind: &DestinationKind) -> Option<AddressKind> {
    match kind {
        DestinationKind::RabbitMq(_) => Some(AddressKind::RoutingKey),
        DestinationKind::Kafka(_) => Some(AddressKind::RecordKey),
        DestinationKind::File(_) => None,
    }
}

/// Whether a required record is there, or need not be.
fn is_satisfied(what: &str, parts: &[EnrichmentPart]) -> bool {
    parts.iter().find(|part| *part.what == *what).is_some_and(|part| part.status.satisfies())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
