//! A generation: one reading of `routes.yaml`, checked and compiled, with the number that its decisions carry.

use crate::{
    config::{
        Loaded,
        diagnostic::{Diagnostic, Diagnostics, SourceText},
        settings::{OnDead, Retry, Settings, SourceKind},
    },
    core::router::{Decide, Decided, Need},
    destinations::message::PrefixMap,
    domain::{DeadCause, DeadRoute, Decision, EnrichmentPart, Event, RouteName},
    routing::table::{self, Table},
    vendors,
};
use std::{collections::BTreeMap, sync::Arc};

/// One reading of the file.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1 in a store.
    pub number: u32,
    /// What the file says.
    pub settings: Settings,
    /// The file's text and place, for diagnostics.
    pub source: Arc<SourceText>,
    /// The hash of the file and of the secrets it names.
    pub hash: [u8; 32],
    /// The routes, compiled.
    pub table: Table,
    /// What is odd but taken.
    pub warnings: Vec<Diagnostic>,
    on_dead: BTreeMap<RouteName, OnDead>,
}

impl Generation {
    /// Compiles a loaded file.
    ///
    /// # Errors
    /// Every condition or template that is wrong.
    pub fn compile(number: u32, loaded: Loaded) -> Result<Self, Diagnostics> {
        let Loaded { settings, source, hash, mut warnings } = loaded;
        let table = match Table::compile(&settings, &source) {
            Ok((table, odd)) => {
                warnings.extend(odd);
                table
            }
            Err(problems) => {
                return Err(Diagnostics::new(Arc::clone(&source), problems));
            }
        };
        let on_dead = settings.routes.iter().map(|route| (route.name.clone(), route.on_dead)).collect();
        Ok(Self { number, settings, source, hash, table, warnings, on_dead })
    }

    /// Whether a route's dead letters hold their key. A route that is gone holds nothing any more.
    #[must_use]
    pub fn on_dead(&self, route: &RouteName) -> OnDead {
        self.on_dead.get(route).copied().unwrap_or(OnDead::Continue)
    }

    /// What stands before the types of each source's events.
    #[must_use]
    pub fn prefixes(&self) -> PrefixMap {
        let prefix = |kind| vendors::ce_type(kind, "").into();
        self.settings.sources.iter().map(|(name, source)| (name.clone(), prefix(source.kind))).collect()
    }

    /// Why an event that came without a type is no event, in words.
    fn defect(&self, event: &Event) -> Box<str> {
        let source = self.settings.sources.get(&event.source);
        let kind = source.map_or(SourceKind::Webhook, |source| source.kind);
        let fields = source.and_then(|source| source.fields.as_ref());
        match vendors::identify(kind, fields, &event.headers, &event.body) {
            Err(defect) => defect.0,
            Ok(_) => "its payload is no JSON object".into(),
        }
    }
}

impl Decide for Generation {
    type Matched = table::Matched;

    fn generation(&self) -> u32 {
        self.number
    }

    fn decide(&self, event: &Event) -> Decided<table::Matched> {
        if event.kind.is_empty() {
            let dead = DeadRoute { route: None, cause: DeadCause::Unparsable, detail: self.defect(event) };
            return Decided::Now(Decision { dead: vec![dead], ..Decision::default() });
        }
        match self.table.decide(event) {
            table::Decided::Now(decision) => Decided::Now(decision),
            table::Decided::Needs(matched) => {
                let need = |need: table::Need<'_>| Need {
                    what: need.what.into(),
                    required: need.required,
                    within: need.within,
                };
                Decided::Needs(matched.needs(&self.table).map(need).collect(), matched)
            }
        }
    }

    fn retry(&self) -> Retry {
        self.settings.retry
    }

    fn finish(&self, event: &Event, matched: table::Matched, enrichment: &[EnrichmentPart]) -> Decision {
        self.table.finish(event, &matched, enrichment)
    }
}
