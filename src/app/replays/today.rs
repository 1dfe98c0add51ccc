//! What today's routes make of an event, and what goes elsewhere than it was to go.

use super::choose::{Chooser, What};
use crate::{
    app::generation::Generation,
    core::router::{Decide, Decided, Need},
    domain::{
        DeadRoute, DestinationName, EnrichmentPart, EnrichmentStatus, Event, RouteName, Routed, Target, Timestamp,
    },
    journal::ReadError,
    routing::{table::address_kind, template::default_address},
};
use std::sync::Arc;
use tokio::runtime::Handle;

impl Chooser {
    /// Lets today's routes decide: one of them, or all. `sent` says which of their targets are sent, and whether each had
    /// been delivered before.
    pub(super) fn anew(
        &self,
        event: &Arc<Event>,
        route: Option<&RouteName>,
        before: Vec<EnrichmentPart>,
        sent: impl FnOnce(Vec<Target>) -> Result<Vec<(Target, bool)>, ReadError>,
    ) -> Result<What, ReadError> {
        let (generation, mut enrichment) = (&self.generation, Vec::new());
        let mut decision = match route {
            None => match generation.decide(event) {
                Decided::Now(decision) => decision,
                Decided::Needs(needs, matched) => {
                    enrichment = self.records(event, needs, before)?;
                    Decide::finish(&**generation, event, matched, &enrichment)
                }
            },
            Some(route) => {
                let Some(matched) = generation.table.evaluate_route(event, route) else { return Ok(What::Nothing) };
                let need = |need: crate::routing::table::Need<'_>| Need {
                    what: need.what.into(),
                    required: need.required,
                    within: need.within,
                };
                let needs: Vec<_> = matched.needs(&generation.table).map(need).collect();
                if !needs.is_empty() {
                    enrichment = self.records(event, needs, before)?;
                }
                generation.table.finish(event, &matched, &enrichment)
            }
        };
        let sent = self.elsewhere(sent(std::mem::take(&mut decision.targets))?);
        if sent.is_empty() && decision.dead.is_empty() {
            return Ok(What::Nothing);
        }
        let again;
        (decision.targets, again) = sent.into_iter().unzip();
        Ok(What::Anew { event: Arc::clone(event), generation: generation.number, decision, enrichment, again })
    }

    /// What today's routes send of a dead letter for one destination: the delivery there, or, where they do not go there
    /// any more, those to where the event was never sent. The others have had it, or have a dead letter of their own.
    pub(super) fn in_place_of(
        &self,
        own: &DestinationName,
        routed: &Routed,
        mut targets: Vec<Target>,
    ) -> Result<Vec<(Target, bool)>, ReadError> {
        if targets.iter().any(|target| target.destination == *own) {
            targets.retain(|target| target.destination == *own);
        } else {
            let offset = routed.event.position().offset;
            // The row is the newest decision, that of a replay perhaps; the first one counts as well.
            let first = self.queries.fates(&[offset])?.remove(&offset).and_then(|told| told.decided);
            let first = first.map(|decided| decided.decision.targets).unwrap_or_default();
            let had = |target: &Target| {
                let same = |had: &Target| had.route == target.route && had.destination == target.destination;
                routed.row.decision.targets.iter().chain(&first).any(same)
            };
            targets.retain(|target| !had(target));
        }
        Ok(targets.into_iter().map(|target| (target, false)).collect())
    }

    /// Sends targets where the job says, each route once to each.
    pub(super) fn elsewhere(&self, targets: Vec<(Target, bool)>) -> Vec<(Target, bool)> {
        if self.checked.destinations.is_empty() {
            return targets;
        }
        let mut sent: Vec<(Target, bool)> = Vec::new();
        for (target, again) in targets {
            for destination in &self.checked.destinations {
                let is = |(other, _): &(Target, bool)| other.route == target.route && other.destination == *destination;
                if !sent.iter().any(is) {
                    sent.push((readdressed(&self.generation, &target, destination), again));
                }
            }
        }
        sent
    }

    /// Records for a new decision: those that the event had, or fetched now, with a budget from now on.
    fn records(
        &self,
        event: &Event,
        needs: Vec<Need>,
        before: Vec<EnrichmentPart>,
    ) -> Result<Vec<EnrichmentPart>, ReadError> {
        let good = |part: &&EnrichmentPart| has_ended_well(part);
        let had: Vec<_> = needs
            .iter()
            .filter_map(|need| before.iter().filter(good).find(|part| part.what == need.what).cloned())
            .collect();
        if had.len() == needs.len() {
            return Ok(had);
        }
        let mut fresh = event.clone();
        fresh.content.received_at = Timestamp::now();
        let fetched = self.fetch.fetch(Arc::new(fresh), needs);
        Handle::current().block_on(async {
            tokio::select! {
                parts = fetched => Ok(parts),
                () = self.stop.cancelled() => Err(ReadError("the process is stopping".to_owned())),
            }
        })
    }
}

impl What {
    /// Leaves of a new decision what carries a record that was lacking before and is there now.
    pub(super) fn keep_mended(&mut self, lacked: &[Box<str>]) {
        let Self::Anew { decision, enrichment, again, .. } = self else { return };
        let is_mended = |target: &Target| {
            target.parts.among(enrichment).any(|part| has_ended_well(part) && lacked.contains(&part.what))
        };
        let both = std::mem::take(&mut decision.targets).into_iter().zip(std::mem::take(again));
        (decision.targets, *again) = both.filter(|(target, _)| is_mended(target)).unzip();
        decision.dead.clear();
    }
}

/// The records that an event went on without.
pub(super) fn lacking(enrichment: &[EnrichmentPart]) -> Vec<Box<str>> {
    enrichment.iter().filter(|part| !has_ended_well(part)).map(|part| part.what.clone()).collect()
}

fn has_ended_well(part: &EnrichmentPart) -> bool {
    matches!(part.status, EnrichmentStatus::Ok | EnrichmentStatus::NotApplicable)
}

/// A dead letter whose new decision sends it nowhere stays one.
pub(super) fn dead_again(what: What) -> What {
    match what {
        What::Anew { decision, .. } if decision.targets.is_empty() => match decision.dead.into_iter().next() {
            Some(DeadRoute { cause, detail, .. }) => What::Refused(cause, detail),
            None => What::Nothing,
        },
        what => what,
    }
}

/// The same target with its destination's default address where it has none.
///
/// # Errors
/// Why the event's own words cannot be an address.
pub fn addressed(generation: &Generation, event: &Event, target: Target) -> Result<Target, Box<str>> {
    if target.address.is_some() {
        return Ok(target);
    }
    let settings = generation.settings.destinations.get(&target.destination);
    let Some(kind) = settings.and_then(|settings| address_kind(&settings.kind)) else { return Ok(target) };
    let address = default_address(event, kind).map_err(|error| format!("to `{}`: {error}", target.destination))?;
    Ok(Target { address, ..target })
}

/// A target sent somewhere else: its address goes along only to a destination of the same type.
#[must_use]
pub fn readdressed(generation: &Generation, target: &Target, to: &DestinationName) -> Target {
    let kind = |name: &DestinationName| generation.settings.destinations.get(name).map(|it| it.kind.as_str());
    let same = target.destination == *to || kind(&target.destination) == kind(to);
    let address = target.address.clone().filter(|_| same);
    Target { destination: to.clone(), address, ..target.clone() }
}
