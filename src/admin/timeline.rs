//! An event's timeline: received, enriched, decided, and how each delivery ended.

use crate::{
    domain::{Event, Origin, Partition, Timestamp},
    journal::{
        Ending, Entry, LaneName, Log, ReadError,
        sqlite::queries::{Queries, fates::Told},
    },
};
use serde::Serialize;

/// One line of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When; `null` where the time is not kept.
    pub at: Option<String>,
    /// `received`, `verified`, `enriched`, `routed`, `unrouted`, `discarded`, `superseded`, `dead`, `delivered`, `parked`,
    /// `replayed`.
    pub what: &'static str,
    /// By which route.
    pub route: Option<String>,
    /// To which destination.
    pub destination: Option<String>,
    /// The words for it.
    pub detail: Option<String>,
}

impl Step {
    fn new(at: Option<Timestamp>, what: &'static str) -> Self {
        Self { at: at.map(|at| at.to_string()), what, route: None, destination: None, detail: None }
    }

    fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// Puts together what is known of an event.
///
/// # Errors
/// [`ReadError`].
pub fn timeline(queries: &Queries, event: &Event, told: &Told) -> Result<Vec<Step>, ReadError> {
    let received = Some(event.received_at);
    let mut steps = vec![Step::new(received, "received").saying(format!("by {}", event.origin.as_str()))];
    if event.origin == Origin::Push {
        steps.push(Step::new(received, "verified"));
    }
    let Some(decided) = &told.decided else { return Ok(steps) };
    if let Some(Entry::Row(routed)) = queries.log().routed_row(Partition(0), decided.offset)? {
        for part in &routed.row.enrichment {
            let reason = part.reason.as_deref().map(|reason| format!(", {reason}")).unwrap_or_default();
            let words = format!("{}: {}{reason}", part.what, part.status.as_str());
            steps.push(Step::new(part.fetched_at, "enriched").saying(words));
        }
    }
    let decision = &decided.decision;
    for (is, what) in
        [(decision.is_unrouted(), "unrouted"), (decision.discarded, "discarded"), (decision.superseded, "superseded")]
    {
        steps.extend(is.then(|| Step::new(None, what)));
    }
    for target in &decision.targets {
        let mut step = Step::new(None, "routed");
        step.route = Some(target.route.to_string());
        step.destination = Some(target.destination.to_string());
        step.detail = target.address.as_deref().map(|address| format!("key {address}"));
        steps.push(step);
    }
    for dead in &decision.dead {
        let mut step = Step::new(None, "dead").saying(format!("{}: {}", dead.cause, dead.detail));
        step.route = dead.route.as_ref().map(ToString::to_string);
        steps.push(step);
    }
    for (lane, receipt) in queries.receipts(decided.offset)? {
        let (destination, replay) = match lane {
            LaneName::Destination(destination) => (Some(destination.to_string()), String::new()),
            LaneName::Replay(part) => (None, format!("{}, ", part.whole())),
            // What was dead on decision has been told.
            LaneName::Router | LaneName::Morgue => continue,
        };
        let (what, cause) = match receipt.ending {
            Ending::Delivered if destination.is_none() => ("replayed", String::new()),
            Ending::Delivered => ("delivered", String::new()),
            Ending::Parked => ("parked", String::new()),
            Ending::Dead(cause) => ("dead", format!("{cause}, ")),
        };
        let answer = if receipt.answer.is_empty() { String::new() } else { format!(": {}", receipt.answer) };
        let mut step = Step::new(Some(receipt.at), what);
        step.detail = Some(format!("{replay}{cause}try {}{answer}", receipt.attempts));
        step.route = Some(receipt.route.to_string());
        step.destination = destination;
        steps.push(step);
    }
    Ok(steps)
}
