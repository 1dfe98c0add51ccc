//! `routes:`: what goes where, checked against the sources and destinations that there are.

use super::{
    destinations::{Destinations, Kind},
    keys, nearest,
    reader::{Reader, Section},
    settings::{Located, OnDead, Route, RouteTarget, SourceKind},
    sources::{Sources, kind_word},
    yaml::{Node, Value},
};
use crate::domain::{DestinationName, RouteName, SourceName, TenantName};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    time::Duration,
};

/// What can be fetched, by which vendors' APIs.
const RECORDS: [(&str, &[SourceKind]); 4] = [
    ("client", &[SourceKind::Laigu, SourceKind::Meiqia]),
    ("conversation", &[SourceKind::Laigu, SourceKind::Meiqia]),
    ("agent", &[SourceKind::Laigu, SourceKind::Meiqia, SourceKind::EasemobKefu]),
    ("session", &[SourceKind::EasemobKefu]),
];

/// Budget from acceptance when the route does not say.
const ENRICH_WITHIN: Duration = Duration::from_secs(15);

/// Whose events a condition takes alone, as far as its words show it at a glance.
#[derive(Default)]
struct Only<'a> {
    source: Option<&'a str>,
    tenant: Option<&'a str>,
}

impl<'a> Only<'a> {
    /// Looks for `event.source == "…"` and `event.tenant == "…"` between the `&&` of a condition. One with another
    /// choice in it may take anybody's.
    fn of(when: &'a str) -> Self {
        let mut only = Self::default();
        if when.contains("||") || when.contains('?') || when.contains('!') {
            return only;
        }
        for part in when.split("&&") {
            let Some((member, text)) = part.split_once("==") else { continue };
            let text = text.trim();
            let quoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
            match member.trim() {
                "event.source" => only.source = quoted,
                "event.tenant" => only.tenant = quoted,
                _ => {}
            }
        }
        only
    }

    fn takes(&self, source: &SourceName, tenant: &TenantName) -> bool {
        self.source.is_none_or(|only| only == source.as_str()) && self.tenant.is_none_or(|only| only == tenant.as_str())
    }
}

/// Reads `routes:`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    file: &Section<'_>,
    sources: &Sources,
    destinations: &Destinations,
) -> Vec<Route> {
    let mut known = Known { sources, destinations, names: BTreeMap::new(), used: BTreeSet::new() };
    let Some(field) = file.get("routes") else {
        reader.warn("there are no routes", file.place, "every event is kept as unrouted, or discarded");
        return Vec::new();
    };
    let items = reader.list(field);
    let routes = items.iter().filter_map(|item| known.route(reader, item)).collect();
    let declared = file.get("destinations").map_or_else(Vec::new, |field| match &field.node.value {
        Value::Map(entries) => entries.iter().collect(),
        _ => Vec::new(),
    });
    for entry in declared.into_iter().filter(|entry| !known.used.contains(&entry.key)) {
        reader.warn("no route names this destination", &entry.key_span, "nothing is sent there");
    }
    routes
}

struct Known<'a> {
    sources: &'a Sources,
    destinations: &'a Destinations,
    /// Routes so far, by name, with their places.
    names: BTreeMap<String, Range<usize>>,
    used: BTreeSet<String>,
}

impl Known<'_> {
    fn route(&mut self, reader: &mut Reader<'_>, item: &Node) -> Option<Route> {
        let section = reader.section_of(item, &item.span, keys::ROUTE)?;
        let name = reader.required(&section, "name", "what lists and metrics call it");
        let name = reader.text(name);
        if let Some(name) = &name
            && self.names.insert(name.value.clone(), name.span.clone()).is_some()
        {
            reader.error(format!("a route {} is there already", name.quoted()), &name.span, "names are unique");
        }
        let name = name.and_then(|text| reader.name_in(&text, RouteName::parse));
        let when = reader.located(section.get("when"));
        let enrich = self.enrich(reader, &section);
        if let Some(name) = &name {
            self.warn_of_tenants(reader, &section, name, when.as_ref(), &enrich);
        }
        let required = reader.flag(section.get("required")).unwrap_or(false);
        let within = Duration::from_millis(100)..=Duration::from_secs(86_400);
        let enrich_within = reader.duration(section.get("enrich_within"), within).unwrap_or(ENRICH_WITHIN);
        let words = [("continue", OnDead::Continue), ("park", OnDead::Park)];
        let on_dead = reader.word(section.get("on_dead"), &words).unwrap_or(OnDead::Continue);
        let stop = reader.flag(section.get("stop")).unwrap_or(false);
        let when_enriched = reader.located(section.get("when_enriched"));
        for key in ["required", "enrich_within", "when_enriched"] {
            if let (Some(field), None) = (section.get(key), section.get("enrich")) {
                reader.error(format!("`{key}` needs `enrich`"), field.key_span, "this route fetches nothing");
            }
        }
        let to = self.targets(reader, &section);
        Some(Route { name: name?, when, enrich, required, enrich_within, on_dead, stop, when_enriched, to })
    }

    fn enrich(&self, reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for text in reader.texts(section.get("enrich")) {
            let Some((word, kinds)) = RECORDS.iter().find(|(word, _)| *word == text.value) else {
                let label = text.suggest(RECORDS.iter().map(|(word, _)| *word));
                reader.error(format!("{} is not a record that can be fetched", text.quoted()), &text.span, label);
                continue;
            };
            if words.iter().any(|known| known == word) {
                reader.error(format!("`{word}` is given twice"), &text.span, "one record is fetched once");
                continue;
            }
            // A source whose type could not be read may be the one that is meant.
            if !self.sources.kinds.iter().any(|kind| kind.is_none_or(|kind| kinds.contains(&kind))) {
                let types = kinds.iter().map(|kind| kind_word(*kind));
                let label = format!("only these types have it: {}", nearest::list(types));
                reader.error(format!("no source has a `{word}` to fetch"), &text.span, label);
            } else if !self.tenants(kinds, &Only::default()).any(|(.., has_api)| has_api) {
                reader.warn(
                    format!("no tenant has an `api` to fetch a `{word}` from"),
                    &text.span,
                    "it will always fail",
                );
            }
            words.push((*word).to_owned());
        }
        words
    }

    /// Tenants whose events a route may take and whose vendor has the record; whether each has an `api`.
    fn tenants<'a>(
        &'a self,
        kinds: &'a [SourceKind],
        only: &'a Only<'a>,
    ) -> impl Iterator<Item = (&'a SourceName, &'a TenantName, bool)> {
        let sources = self.sources.good.iter().filter(move |(_, source)| kinds.contains(&source.kind));
        let all = sources.flat_map(|(name, source)| {
            source.tenants.iter().map(move |(tenant, section)| (name, tenant, section.api.is_some()))
        });
        all.filter(move |(source, tenant, _)| only.takes(source, tenant))
    }

    /// Warns of the tenants without an `api` whose events the route may take, if another one has it.
    fn warn_of_tenants(
        &self,
        reader: &mut Reader<'_>,
        section: &Section<'_>,
        route: &RouteName,
        when: Option<&Located>,
        enrich: &[String],
    ) {
        let Some(field) = section.get("enrich") else { return };
        let only = when.map_or_else(Only::default, |when| Only::of(&when.text));
        let mut lacking = BTreeSet::new();
        for (_, kinds) in RECORDS.iter().filter(|(word, _)| enrich.iter().any(|known| known == word)) {
            // That nobody has one is told already.
            if self.tenants(kinds, &Only::default()).any(|(.., has_api)| has_api) {
                let without = self.tenants(kinds, &only).filter(|(.., has_api)| !has_api);
                lacking.extend(without.map(|(source, tenant, _)| format!("{source}/{tenant}")));
            }
        }
        if !lacking.is_empty() {
            let (have, count) = if lacking.len() == 1 { ("has", "") } else { ("have", "s") };
            let tenants = nearest::list(lacking.iter().map(String::as_str));
            let message = format!("tenant{count} {tenants} of which `{route}` may take events {have} no `api`");
            reader.warn(message, field.key_span, "there the lookup always fails, as `no_api`");
        }
    }

    fn targets(&mut self, reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<RouteTarget> {
        let field = reader.required(section, "to", "`to: [destination]`");
        let items = field.map_or(&[][..], |field| reader.list(field));
        if let (Some(field), Some(Value::List(list))) = (field, field.map(|field| &field.node.value))
            && list.is_empty()
        {
            reader.error("`to` is empty", field.key_span, "name at least one destination");
        }
        let mut seen = BTreeSet::new();
        let mut targets = Vec::new();
        for item in items {
            let Some((target, place)) = self.target(reader, item) else { continue };
            if !seen.insert(target.destination.clone()) {
                let message = format!("`{}` is given twice", target.destination);
                reader.error(message, &place, "one delivery per event, route and destination");
                continue;
            }
            targets.push(target);
        }
        targets
    }

    /// A destination's name, or a mapping of it and the template of its address.
    fn target(&mut self, reader: &mut Reader<'_>, item: &Node) -> Option<(RouteTarget, Range<usize>)> {
        let Value::Map(_) = &item.value else {
            let text = reader.scalar(item)?;
            let destination = self.destination(reader, &text)?.0;
            return Some((RouteTarget { destination, address: None }, text.span));
        };
        let section = reader.section_of(item, &item.span, keys::TARGET)?;
        let name = reader.required(&section, "destination", "one of `destinations`");
        let name = reader.text(name);
        let routing_key = reader.located(section.get("routing_key"));
        let key = reader.located(section.get("key"));
        let name = name?;
        let (destination, kind) = self.destination(reader, &name)?;
        let address = match kind {
            None => None,
            Some(Kind::RabbitMq) => routing_key,
            Some(Kind::Kafka) => key,
            Some(Kind::File) => None,
        };
        for (word, taker, label) in [
            ("routing_key", Kind::RabbitMq, "only RabbitMQ has one; Kafka has `key`"),
            ("key", Kind::Kafka, "only Kafka has one; RabbitMQ has `routing_key`"),
        ] {
            if let (Some(field), Some(kind)) = (section.get(word), kind)
                && kind != taker
            {
                reader.error(format!("`{word}` has no use for `{destination}`"), field.key_span, label);
            }
        }
        Some((RouteTarget { destination, address }, name.span))
    }

    fn destination(
        &mut self,
        reader: &mut Reader<'_>,
        text: &super::reader::Text,
    ) -> Option<(DestinationName, Option<Kind>)> {
        let Some(kind) = self.destinations.names.get(&text.value) else {
            if reader.is_full() {
                return None;
            }
            let label = text.suggest(self.destinations.names.keys().map(String::as_str));
            reader.error(format!("destination {} is not defined", text.quoted()), &text.span, label);
            return None;
        };
        self.used.insert(text.value.clone());
        DestinationName::parse(&text.value).ok().map(|name| (name, *kind))
    }
}
