//! The routes of the simulated process, and the oracle's own reading of them.

use crate::plan::{BAD_KIND, REQUIRING_KIND, REQUIRING_ROUTE, SimRoute};
use laigu_router::{
    config::settings::Retry,
    core::router::{Decide, Decided, Need},
    domain::{
        DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, EnrichmentStatus, Event, Parts, RouteName,
        Target,
    },
};
use std::time::Duration;

/// One generation.
#[derive(Debug, Clone)]
pub struct SimRoutes {
    pub generation: u32,
    pub routes: Vec<SimRoute>,
    /// How long an event waits for a required record.
    pub patience: Duration,
}

pub fn kind_of(event: &Event) -> u8 {
    event.kind.bytes().nth(1).map_or(u8::MAX, |digit| digit - b'0')
}

/// The record that an event waits for: one that it would rather have, or one that a route requires.
fn need(kind: u8) -> Option<Need> {
    let (what, required) = match kind {
        1 => ("conversation", false),
        REQUIRING_KIND => ("client", true),
        _ => return None,
    };
    Some(Need { what: what.into(), required, within: Duration::from_millis(700) })
}

impl Decide for SimRoutes {
    type Matched = Vec<usize>;

    fn generation(&self) -> u32 {
        self.generation
    }

    fn decide(&self, event: &Event) -> Decided<Vec<usize>> {
        let kind = kind_of(event);
        let matched: Vec<_> =
            (0..self.routes.len()).filter(|index| self.routes[*index].kinds.contains(&kind)).collect();
        match need(kind).filter(|_| !matched.is_empty()) {
            None => Decided::Now(self.finish(event, matched, &[])),
            Some(need) => Decided::Needs(vec![need], matched),
        }
    }

    fn retry(&self) -> Retry {
        let (backoff_min, backoff_max) = (Duration::from_millis(20), Duration::from_millis(400));
        Retry { max_age: self.patience, backoff_min, backoff_max, ..Retry::default() }
    }

    fn finish(&self, event: &Event, matched: Vec<usize>, parts: &[EnrichmentPart]) -> Decision {
        let target = |index: usize| Target {
            route: self.routes[index].name.clone(),
            destination: self.routes[index].destination.clone(),
            address: Some(event.kind.clone()),
            parts: Parts::of(parts, |_| true),
        };
        let dead = |route: &RouteName, cause| DeadRoute { route: Some(route.clone()), cause, detail: "planned".into() };
        let bad = kind_of(event) == BAD_KIND;
        let lacks = |index: &usize| {
            self.routes[*index].name.as_str() == REQUIRING_ROUTE
                && kind_of(event) == REQUIRING_KIND
                && !parts.iter().all(|part| part.status.satisfies())
        };
        let mut all =
            self.routes.iter().filter(|_| bad).map(|route| dead(&route.name, DeadCause::Condition)).collect::<Vec<_>>();
        let lacking = matched.iter().filter(|index| lacks(index));
        all.extend(lacking.map(|index| dead(&self.routes[*index].name, DeadCause::EnrichmentRequired)));
        Decision {
            targets: matched.into_iter().filter(|index| !lacks(index)).map(target).collect(),
            dead: all,
            ..Decision::default()
        }
    }
}

/// Whether a record that a route requires is not there.
pub fn lacks(event: &Event, parts: &[EnrichmentPart]) -> bool {
    let there = |part: &EnrichmentPart| matches!(part.status, EnrichmentStatus::Ok | EnrichmentStatus::NotApplicable);
    kind_of(event) == REQUIRING_KIND && !parts.iter().any(there)
}

/// What the oracle expects of a kind under some routes, computed without the code above.
pub fn expected(routes: &[SimRoute], kind: u8, lacks: bool) -> (Vec<(RouteName, DestinationName)>, Vec<RouteName>) {
    let mut targets = Vec::new();
    let mut dead = Vec::new();
    for route in routes {
        if kind == BAD_KIND {
            dead.push(route.name.clone());
        }
        for taken in &route.kinds {
            if *taken == kind && lacks && route.name.as_str() == REQUIRING_ROUTE {
                dead.push(route.name.clone());
            } else if *taken == kind {
                targets.push((route.name.clone(), route.destination.clone()));
            }
        }
    }
    (targets, dead)
}
