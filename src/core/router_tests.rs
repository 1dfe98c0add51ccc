//! What becomes of an event whose required record did not come.

use super::{Decide, Decided, Effect, Input, Need, Router};
use crate::{
    config::settings::Retry,
    core::{enrich::Reason, lane::LaneConfig},
    domain::{
        DeadCause, DeadRoute, Decision, EnrichmentPart, EnrichmentStatus, Event, Incarnation, Partition, RoutedRow,
        Timestamp,
    },
    journal::{Entry, LaneName, LaneRecord, Progress},
};
use std::{sync::Arc, time::Duration};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

/// One route, which wants these records and is dead without them.
#[derive(Debug)]
struct Wants(&'static [(&'static str, bool)]);

impl Decide for Wants {
    type Matched = ();

    fn generation(&self) -> u32 {
        1
    }

    fn decide(&self, _: &Event) -> Decided<()> {
        let within = Duration::from_secs(15);
        Decided::Needs(self.0.iter().map(|(what, required)| need(what, *required, within)).collect(), ())
    }

    fn finish(&self, _: &Event, (): (), parts: &[EnrichmentPart]) -> Decision {
        let dead = DeadRoute { route: None, cause: DeadCause::EnrichmentRequired, detail: "".into() };
        let lacks = parts.iter().any(|part| !part.status.satisfies());
        Decision { dead: if lacks { vec![dead] } else { vec![] }, ..Decision::default() }
    }
}

fn need(what: &str, required: bool, within: Duration) -> Need {
    Need { what: what.into(), required, within }
}

fn part(what: &str, reason: Option<Reason>) -> EnrichmentPart {
    let status = if reason.is_some() { EnrichmentStatus::Failed } else { EnrichmentStatus::NotApplicable };
    let reason = reason.map(|reason| reason.as_str().into());
    EnrichmentPart { what: what.into(), status, reason, fetched_at: None, record: None }
}

/// The rows that are appended once these lookups ended; none if the event waits on.
fn decided(wants: &'static [(&'static str, bool)], ends: &[Option<Reason>]) -> Vec<RoutedRow> {
    let partition = Partition(0);
    let config = LaneConfig {
        window: 10,
        read_ahead: 20,
        retry: Retry::default(),
        rate: None,
        receipts: false,
        shelf: false,
        common_cause: false,
        settle_every: Duration::ZERO,
        seed: 1,
    };
    let progress = Progress::default();
    let lane = LaneName::Router;
    let record = LaneRecord { lane, partition, kind: "".into(), progress, parked: vec![], paused: false };
    let mut router = Router::new(partition, Arc::new(Wants(wants)), config, &record);
    let mut effects = Vec::new();
    router.step(NOW, Input::Grown(1), &mut effects);
    // Its fields stay those of a stand-in, but for its age.
    let mut event = Event::stand_in(partition, 0).content;
    event.received_at = NOW;
    let event = Arc::new(event.at(partition, 0, Incarnation(0), false));
    router.step(NOW, Input::Page { next: 1, rows: vec![Entry::Row(event)] }, &mut effects);
    let ticket = effects.iter().find_map(|effect| match effect {
        Effect::Fetch(ticket, ..) => Some(*ticket),
        _ => None,
    });
    let parts = wants.iter().zip(ends).map(|((what, _), end)| part(what, *end)).collect();
    effects.clear();
    router.step(NOW, Input::Fetched(ticket.expect("records are asked for"), parts), &mut effects);
    let rows = effects.into_iter().filter_map(|effect| match effect {
        Effect::Append(_, rows) => Some(rows),
        _ => None,
    });
    rows.flatten().map(|new| new.row).collect()
}

#[test]
fn an_event_waits_for_a_required_record_only_if_it_may_yet_come() {
    const BOTH: &[(&str, bool)] = &[("conversation", true), ("client", true)];
    const ONE: &[(&str, bool)] = &[("conversation", true), ("client", false)];
    let (bad, late) = (Some(Reason::BadId), Some(Reason::Timeout));
    for (wants, ends, waits, dead) in [
        (BOTH, [None, None], false, false),
        (BOTH, [late, None], true, false),
        (BOTH, [Some(Reason::NoApi), None], true, false),
        (BOTH, [bad, None], false, true),
        (BOTH, [bad, bad], false, true),
        // Another route may be the one that asks for it.
        (BOTH, [bad, late], true, false),
        (ONE, [bad, late], false, true),
        (ONE, [late, bad], true, false),
        (BOTH, [None, Some(Reason::NotListed)], false, true),
    ] {
        let rows = decided(wants, &ends);
        assert_eq!(rows.is_empty(), waits, "{wants:?} {ends:?}");
        assert_eq!(rows.iter().any(|row| !row.decision.dead.is_empty()), dead, "{wants:?} {ends:?}");
    }
}
