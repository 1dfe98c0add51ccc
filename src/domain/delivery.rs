//! One delivery: one event by one route to one destination.

use crate::domain::{DestinationName, EnrichmentPart, Event, RouteName, Routed, Target, Timestamp};
use std::{fmt, sync::Arc};

/// A replay's number; printed as `rep_` and 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplayJob(pub u64);

impl ReplayJob {
    /// The number of the first job of a store, and what lies between two jobs: one part for each destination in it.
    pub const STEP: u64 = 256;

    /// The part of this job that publishes to one of its destinations; `index` from 1 to 255.
    #[must_use]
    pub const fn part(self, index: u8) -> Self {
        Self(self.whole().0 + index as u64)
    }

    /// The job that a part belongs to: what is shown and sent.
    #[must_use]
    pub const fn whole(self) -> Self {
        Self(self.0 - self.0 % Self::STEP)
    }

    /// Reads what is printed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("rep_").filter(|digits| digits.len() == 16)?;
        u64::from_str_radix(digits, 16).ok().map(Self).filter(|job| *job == job.whole() && job.0 > 0)
    }
}

impl fmt::Display for ReplayJob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "rep_{:016x}", self.0)
    }
}

/// The identity of a delivery, sent as `x-delivery`: `<event id>/<route>`, and `/<job>` when what was already
/// delivered is delivered again on purpose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(Box<str>);

impl DeliveryId {
    /// Builds the identity of a delivery.
    #[must_use]
    pub fn new(event: &Event, route: &RouteName, again: Option<ReplayJob>) -> Self {
        match again {
            None => Self(format!("{}/{route}", event.id).into()),
            Some(job) => Self(format!("{}/{route}/{job}", event.id).into()),
        }
    }

    /// As it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One event by one route to one destination, ready to be published.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The decided event.
    pub routed: Arc<Routed>,
    /// Which of the row's targets; always within its list.
    pub target: usize,
    /// Where it goes instead, when a replay says so.
    pub elsewhere: Option<DestinationName>,
    /// The replay that sends it, if one does.
    pub replay: Option<ReplayJob>,
    /// Whether it had been delivered before, so that its identity must differ.
    pub again: bool,
}

impl Delivery {
    /// The delivery that the router asked for.
    #[must_use]
    pub fn first(routed: Arc<Routed>, target: usize) -> Self {
        Self { routed, target, elsewhere: None, replay: None, again: false }
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.routed.event
    }

    /// The target.
    ///
    /// # Panics
    /// Never: whoever builds a delivery takes `target` from the row's own list.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.routed.row.decision.targets.get(self.target).expect("a delivery is built from one of its row's targets")
    }

    /// What was fetched for the route that asked for it.
    pub fn enrichment(&self) -> impl Iterator<Item = &EnrichmentPart> + Clone {
        self.target().parts.among(&self.routed.row.enrichment)
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        let again = if self.again { self.replay } else { None };
        DeliveryId::new(self.event(), &self.target().route, again)
    }
}

/// One try at a delivery.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Names the try to the lane that asked for it.
    pub ticket: u64,
    /// What to publish.
    pub delivery: Delivery,
    /// Counted from 1, since the process started.
    pub number: u32,
    /// When the lane asked.
    pub at: Timestamp,
}
