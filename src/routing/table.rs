//! The table of routes: compiled once from the settings, asked about every event.
//!
//! Asking takes two looks, because records are fetched in between: [`Table::evaluate`] asks every `when`,
//! [`Matched::needs`] says what the matched routes want fetched, [`Table::finish`] asks every `when_enriched` and
//! renders the keys. [`Table::decide`] is both at once for the events that need nothing.

use crate::{
    config::settings::{DestinationKind, Located, Route, Settings, Unrouted},
    domain::{
        DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, EnrichmentStatus, Event, RouteName, Target,
    },
    routing::{
        condition::{Condition, Verdict},
        problem::{Mistake, Problem, Severity},
        samples,
        scope::{Budget, Scope},
        template::{self, AddressKind, Template},
    },
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
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
    /// How often it did not match because a field was not there.
    missing: AtomicU64,
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
    /// Compiles all conditions and templates. Warnings come with the table.
    ///
    /// # Errors
    /// Everything that is wrong, warnings included.
    pub fn compile(settings: &Settings) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let mut problems = Vec::new();
        let mut routes = Vec::with_capacity(settings.routes.len());
        for route in &settings.routes {
            routes.push(Entry::compile(route, settings, &mut problems));
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
    fn compile(route: &Route, settings: &Settings, problems: &mut Vec<Problem>) -> Self {
        let whose = format!("route `{}`: ", route.name);
        let mut note = |place: &Located, mistakes: Vec<Mistake>| {
            problems.extend(mistakes.into_iter().map(|mistake| mistake.located(place, &whose)));
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
            missing: AtomicU64::new(0),
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
    fn settle(&self, hit: &Hit, scope: &Scope<'_>, decision: &mut Decision) -> bool {
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
        let target = |to: &Destined| {
            let address = match &to.address {
                Address::None => Ok(None),
                Address::Default(kind) => template::default_address(scope.event(), *kind),
                Address::Template(template) => template.render(scope).map(Some),
            };
            let address = address.map_err(|error| format!("to `{}`: {error}", to.destination))?;
            Ok(Target { route: self.name.clone(), destination: to.destination.clone(), address })
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

fn address_kind(kind: &DestinationKind) -> Option<AddressKind> {
    match kind {
        DestinationKind::RabbitMq(_) => Some(AddressKind::RoutingKey),
        DestinationKind::Kafka(_) => Some(AddressKind::RecordKey),
        DestinationKind::File(_) => None,
    }
}

/// Whether a required record is there, or need not be.
fn is_satisfied(what: &str, parts: &[EnrichmentPart]) -> bool {
    parts.iter().find(|part| *part.what == *what).is_some_and(|part| match part.status {
        EnrichmentStatus::Ok | EnrichmentStatus::NotApplicable => true,
        EnrichmentStatus::Failed | EnrichmentStatus::Missing => false,
    })
}

#[cfg(test)]
mod tests {
    use super::{Decided, Table};
    use crate::{
        config::settings::{Route, Unrouted},
        domain::{DeadCause, Decision, EnrichmentPart, EnrichmentStatus, Event, RouteName},
        routing::{
            fixtures::{event, located, part, route, settings, to},
            problem::Severity,
        },
    };
    use std::time::Duration;

    fn table(routes: Vec<Route>) -> Table {
        Table::compile(&settings(routes)).expect("good routes").0
    }

    fn decide(table: &Table, event: &Event, parts: &[EnrichmentPart]) -> Decision {
        let matched = table.evaluate(event);
        let decision = table.finish(event, &matched, parts);
        if matched.needs(table).next().is_none() {
            assert_eq!(table.decide(event), Decided::Now(decision.clone()), "both ways agree");
        }
        decision
    }

    fn names(decision: &Decision) -> Vec<&str> {
        decision.targets.iter().map(|target| target.route.as_str()).collect()
    }

    fn dead(decision: &Decision) -> Vec<(Option<&str>, DeadCause)> {
        decision.dead.iter().map(|dead| (dead.route.as_ref().map(RouteName::as_str), dead.cause)).collect()
    }

    #[test]
    fn all_matching_routes_fire_in_order() {
        let table = table(vec![
            route("leads", r#"event.type == "cus.upsert" && has(body.tel)"#),
            route("talks", r#"event.type.startsWith("conversation.")"#),
            route("everything", ""),
        ]);
        assert_eq!(names(&decide(&table, &event(r#"{"tel":"1"}"#), &[])), ["leads", "everything"]);
        assert_eq!(names(&decide(&table, &event("{}"), &[])), ["everything"]);
    }

    #[test]
    fn stop_ends_the_search_only_when_its_route_matches() {
        let stop = |name, when| Route { stop: true, ..route(name, when) };
        let table = table(vec![stop("vip", "body.vip"), stop("broken", "body.n > 'x'"), route("rest", "")]);
        assert_eq!(names(&decide(&table, &event(r#"{"vip":true,"n":1}"#), &[])), ["vip"]);
        assert_eq!(names(&decide(&table, &event(r#"{"vip":false}"#), &[])), ["rest"]);
        let decision = decide(&table, &event(r#"{"vip":false,"n":1}"#), &[]);
        assert_eq!(names(&decision), ["rest"], "a failed condition has not matched");
        assert_eq!(dead(&decision), [(Some("broken"), DeadCause::Condition)]);
    }

    #[test]
    fn a_stop_behind_when_enriched_is_decided_last() {
        let vip = Route {
            stop: true,
            enrich: vec!["client".into()],
            when_enriched: Some(located(r#"enrichment.client.record.level == "A""#)),
            ..route("vip", "has(body.tel)")
        };
        let table = table(vec![vip, route("broken", "body.tel > 1"), route("rest", "")]);
        let event = event(r#"{"tel":"1"}"#);
        let ok = |level| [part("client", EnrichmentStatus::Ok, Some(level))];
        let stopped = decide(&table, &event, &ok(r#"{"level":"A"}"#));
        assert_eq!((names(&stopped), stopped.dead.len()), (vec!["vip"], 0));
        let went_on = decide(&table, &event, &ok(r#"{"level":"B"}"#));
        assert_eq!(names(&went_on), ["rest"]);
        assert_eq!(dead(&went_on), [(Some("broken"), DeadCause::Condition)]);
        let failed = decide(&table, &event, &[part("client", EnrichmentStatus::Failed, None)]);
        assert_eq!(names(&failed), ["rest"], "no record, no level: it does not match");
    }

    #[test]
    fn the_needs_of_matched_routes_are_joined() {
        let wants = |name, when, what: &[&str], required, seconds| Route {
            enrich: what.iter().map(|it| (*it).to_owned()).collect(),
            required,
            enrich_within: Duration::from_secs(seconds),
            ..route(name, when)
        };
        let table = table(vec![
            wants("one", "", &["client"], false, 5),
            wants("two", "", &["client", "agent"], true, 10),
            wants("other", "false", &["conversation"], true, 60),
        ]);
        let matched = table.evaluate(&event("{}"));
        let needs: Vec<_> = matched.needs(&table).map(|it| (it.what, it.required, it.within.as_secs())).collect();
        assert_eq!(needs, [("client", true, 10), ("agent", true, 10)]);
        assert!(matches!(table.decide(&event("{}")), Decided::Needs(_)));
    }

    #[test]
    fn a_required_record_that_is_not_there_kills_its_route_alone() {
        let wants = Route { enrich: vec!["client".into()], required: true, ..route("wants", "") };
        let table = table(vec![wants, route("rest", "")]);
        let after = |parts: &[_]| decide(&table, &event("{}"), parts);
        for good in [EnrichmentStatus::Ok, EnrichmentStatus::NotApplicable] {
            assert_eq!(names(&after(&[part("client", good, Some("{}"))])), ["wants", "rest"]);
        }
        for bad in [EnrichmentStatus::Failed, EnrichmentStatus::Missing] {
            let decision = after(&[part("client", bad, None)]);
            assert_eq!(names(&decision), ["rest"]);
            assert_eq!(dead(&decision), [(Some("wants"), DeadCause::EnrichmentRequired)]);
        }
        assert_eq!(dead(&after(&[])), [(Some("wants"), DeadCause::EnrichmentRequired)]);
    }

    #[test]
    fn addresses_are_rendered_by_kind_of_destination() {
        let template = Some("customer.{{ body.source | default('unknown') }}");
        let all = Route {
            to: vec![to("crm", template), to("crm", None), to("lake", None), to("lake", template), to("archive", None)],
            ..route("all", "")
        };
        let table = table(vec![all]);
        let addresses = |event: &Event| {
            let decision = decide(&table, event, &[]);
            decision.targets.into_iter().map(|it| it.address.map(String::from)).collect::<Vec<_>>()
        };
        let some = |text: &str| Some(text.to_owned());
        let mut event = event(r#"{"source":"redbook"}"#);
        let customer = some("customer.redbook");
        let wanted = [customer.clone(), some("cus.upsert"), some("acme/t1"), customer, None];
        assert_eq!(addresses(&event), wanted);
        event.content.key = None;
        event.content.payload = None;
        let unknown = some("customer.unknown");
        assert_eq!(addresses(&event), [unknown.clone(), some("cus.upsert"), None, unknown, None]);
    }

    #[test]
    fn a_failed_template_kills_all_of_its_route_and_no_other() {
        let two = Route { to: vec![to("archive", None), to("crm", Some("{{ body.x }}"))], ..route("two", "") };
        let table = table(vec![two, route("rest", "")]);
        for payload in ["{}", r#"{"x":null}"#, r#"{"x":"a.b"}"#, r#"{"x":[1]}"#] {
            let decision = decide(&table, &event(payload), &[]);
            assert_eq!(names(&decision), ["rest"], "{payload}");
            assert_eq!(dead(&decision), [(Some("two"), DeadCause::Template)], "{payload}");
            assert!(decision.dead[0].detail.contains("`crm`") && decision.dead[0].detail.contains("body.x"));
        }
        assert_eq!(names(&decide(&table, &event(r#"{"x":"ok"}"#), &[])), ["two", "two", "rest"]);
    }

    #[test]
    fn what_no_route_takes_is_kept_or_discarded_as_written() {
        let routes = || vec![route("leads", "has(body.tel)")];
        let discard =
            Table::compile(&crate::config::settings::Settings { unrouted: Unrouted::Discard, ..settings(routes()) });
        let (keep, discard) = (table(routes()), discard.unwrap().0);
        assert!(decide(&keep, &event("{}"), &[]).is_unrouted());
        assert!(decide(&discard, &event("{}"), &[]).discarded);
        assert!(!decide(&discard, &event(r#"{"tel":"1"}"#), &[]).discarded);
        let fails = decide(&discard, &event(r#"{"tel":"1"}"#), &[]);
        assert!(!fails.is_unrouted());
        // One route alone says nothing about the others.
        let leads = RouteName::parse("leads").unwrap();
        let alone = discard.evaluate_route(&event("{}"), &leads).unwrap();
        assert!(discard.finish(&event("{}"), &alone, &[]).is_unrouted());
    }

    #[test]
    fn one_route_can_be_decided_again() {
        let stop = Route { stop: true, ..route("first", "") };
        let table = table(vec![stop, route("second", "has(body.tel)")]);
        let event = event(r#"{"tel":"1"}"#);
        let name = |text| RouteName::parse(text).unwrap();
        let matched = table.evaluate_route(&event, &name("second")).unwrap();
        assert_eq!(names(&table.finish(&event, &matched, &[])), ["second"], "an earlier stop is nothing to it");
        assert_eq!(table.evaluate_route(&event, &name("gone")), None);
    }

    #[test]
    fn what_is_no_json_object_is_unparsable() {
        let table = table(vec![route("leads", "has(body.tel)"), route("rest", "")]);
        let unparsable = [(None, DeadCause::Unparsable)];
        let mut broken = event("{}");
        broken.content.body = bytes::Bytes::from_static(b"{'body': [1, ");
        broken.content.payload = Some(9..13);
        assert_eq!(dead(&decide(&table, &broken, &[])), unparsable);
        let mut defective = event("{}");
        (defective.content.kind, defective.content.payload) = ("".into(), None);
        assert_eq!(dead(&decide(&table, &defective, &[])), unparsable);
        let first = RouteName::parse("rest").unwrap();
        let alone = table.evaluate_route(&defective, &first).unwrap();
        assert_eq!(dead(&table.finish(&defective, &alone, &[])), unparsable);
    }

    #[test]
    fn a_field_that_is_not_there_is_counted() {
        let table = table(vec![route("leads", "body.tel == '1'"), route("rest", "has(body.tel)")]);
        for payload in ["{}", r#"{"tel":null}"#, r#"{"tel":"2"}"#, r#"{"tel":"1"}"#] {
            let _ = table.evaluate(&event(payload));
        }
        let counts: Vec<_> = table.missing_fields().map(|(name, count)| (name.as_str(), count)).collect();
        assert_eq!(counts, [("leads", 2), ("rest", 0)]);
    }

    #[test]
    fn a_condition_that_fails_on_a_sample_is_warned_about() {
        let warned = |when| {
            let (_, problems) = Table::compile(&settings(vec![route("tried", when)])).expect(when);
            problems.into_iter().map(|it| format!("{}: {}", it.message, it.label)).collect::<Vec<_>>()
        };
        let type_clash = "route `tried`: the condition fails on a sample `cus.upsert`: `>` does not take (string, int)";
        assert_eq!(warned("body.age > 17"), [type_clash]);
        let no_answer = "route `tried`: the condition fails on a sample `cus.upsert`: the answer is a string, not true \
                         or false";
        assert_eq!(warned("body.tel"), [no_answer]);
        for fine in ["int(body.age) > 17", "body.nobody_knows > 17", "has(body.tel)", ""] {
            assert!(warned(fine).is_empty(), "{fine}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_place() {
        let mut bad = route("bad", "bdy.tel == 1");
        bad.when_enriched = Some(located("enrichment.client.status == 'ok'"));
        bad.to = vec![to("crm", Some("{{ event.typ }}")), to("lake", Some("{{ body.x }}"))];
        let problems = Table::compile(&settings(vec![route("good", ""), bad])).unwrap_err();
        let said: Vec<_> = problems.iter().map(|it| (it.severity, it.message.as_str())).collect();
        assert_eq!(
            said,
            [
                (Severity::Error, "route `bad`: there is no `bdy`"),
                (Severity::Error, "route `bad`: the route does not fetch `client`"),
                (Severity::Error, "route `bad`: `event` has no `typ`"),
                (Severity::Warning, "route `bad`: `body.x` may be absent, and the event would be a dead letter then"),
            ]
        );
        assert_eq!(problems[0].span, 0..3);
    }
}
