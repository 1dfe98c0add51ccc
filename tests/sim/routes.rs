//! The routes of the simulated process, and the oracle's own reading of them.

use crate::plan::{BAD_KIND, SimRoute};
use laigu_router::{
    core::router::{Decide, Decided, Need},
    domain::{DeadCause, DeadRoute, Decision, DestinationName, EnrichmentPart, Event, RouteName, Target},
};
use std::time::Duration;

/// One generation.
#[derive(Debug, Clone)]
pub struct SimRoutes {
    pub generation: u32,
    pub routes: Vec<SimRoute>,
}

pub fn kind_of(event: &Event) -> u8 {
    event.kind.bytes().nth(1).map_or(u8::MAX, |digit| digit - b'0')
}

impl Decide for SimRoutes {
    type Matched = Vec<usize>;

    fn generation(&self) -> u32 {
        self.generation
    }

    /// Events that one route takes by its kind 1 wait for a record.
    fn decide(&self, event: &Event) -> Decided<Vec<usize>> {
        let kind = kind_of(event);
        let matched: Vec<_> =
            (0..self.routes.len()).filter(|index| self.routes[*index].kinds.contains(&kind)).collect();
        let waits = matched.iter().any(|index| self.routes[*index].kinds.contains(&1));
        if !waits || matched.len() != 1 {
            return Decided::Now(self.finish(event, matched, &[]));
        }
        Decided::Needs(vec![Need { what: "client".into(), required: false, within: Duration::from_secs(1) }], matched)
    }

    fn finish(&self, event: &Event, matched: Vec<usize>, _: &[EnrichmentPart]) -> Decision {
        let target = |index: usize| Target {
            route: self.routes[index].name.clone(),
            destination: self.routes[index].destination.clone(),
            address: Some(event.kind.clone()),
            parts: Default::default(),
        };
        let dead = |route: &RouteName| DeadRoute {
            route: Some(route.clone()),
            cause: DeadCause::Condition,
            detail: "planned".into(),
        };
        let bad = kind_of(event) == BAD_KIND;
        Decision {
            targets: matched.into_iter().map(target).collect(),
            dead: self.routes.iter().filter(|_| bad).map(|route| dead(&route.name)).collect(),
            ..Decision::default()
        }
    }
}

/// What the oracle expects of a kind under some routes, computed without the code above.
pub fn expected(routes: &[SimRoute], kind: u8) -> (Vec<(RouteName, DestinationName)>, Vec<RouteName>) {
    let mut targets = Vec::new();
    let mut dead = Vec::new();
    for route in routes {
        if kind == BAD_KIND {
            dead.push(route.name.clone());
        }
        for taken in &route.kinds {
            if *taken == kind {
                targets.push((route.name.clone(), route.destination.clone()));
            }
        }
    }
    (targets, dead)
}
