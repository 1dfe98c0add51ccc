//! One generation of the routes, as the router's machine asks it.

use crate::{
    core::router::{self, Decide},
    domain::{Decision, EnrichmentPart, Event},
    routing::table::{Decided, Table},
};

/// A table with the number that its rows carry.
#[derive(Debug)]
pub struct Routes {
    /// The table.
    pub table: Table,
    /// The number of this generation of the file.
    pub generation: u32,
}

impl Decide for Routes {
    /// What needs nothing is decided at the first look: the payload is scanned once.
    type Matched = Decided;

    fn generation(&self) -> u32 {
        self.generation
    }

    fn evaluate(&self, event: &Event) -> Decided {
        self.table.decide(event)
    }

    fn needs(&self, matched: &Decided) -> Vec<router::Need> {
        let Decided::Needs(matched) = matched else { return Vec::new() };
        let needs = matched.needs(&self.table);
        needs.map(|it| router::Need { what: it.what.into(), required: it.required, within: it.within }).collect()
    }

    fn finish(&self, event: &Event, matched: Decided, enrichment: &[EnrichmentPart]) -> Decision {
        match matched {
            Decided::Now(decision) => decision,
            Decided::Needs(matched) => self.table.finish(event, &matched, enrichment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Routes;
    use crate::{
        config::settings::Route,
        core::router::Decide,
        domain::EnrichmentStatus,
        routing::fixtures::{compile, event, part, route, settings},
    };

    #[test]
    fn the_router_gets_a_decision_at_once_or_after_its_lookups() {
        let wants = Route { enrich: vec!["client".into()], ..route("wants", "has(body.tel)") };
        let table = compile(&settings(vec![wants, route("rest", "")])).unwrap().0;
        let routes = Routes { table, generation: 3 };
        let decide = |payload, parts: &[_]| {
            let event = event(payload);
            let matched = routes.evaluate(&event);
            let needs: Vec<_> = routes.needs(&matched).into_iter().map(|need| need.what.to_string()).collect();
            (needs, routes.finish(&event, matched, parts).targets.len())
        };
        assert_eq!(decide("{}", &[]), (vec![], 1));
        let parts = [part("client", EnrichmentStatus::Ok, Some("{}"))];
        assert_eq!(decide(r#"{"tel":"1"}"#, &parts), (vec!["client".to_owned()], 2));
        assert_eq!(routes.generation(), 3);
    }
}
