//! What the admin API works on.

use super::lockout::Lockout;
use crate::{
    app::{fleet::EmbeddedFleet, generation::Generation, reload::Reloads, replays::Replays},
    ingress::refusing::Refusing,
    journal::{
        sqlite::{log::SqliteLog, queries::Queries, state::SqliteState},
        tail::Tail,
    },
    lanes::keeper::Keeper,
    metrics::Metrics,
    reconcile::jobs::Jobs,
};
use arc_swap::ArcSwap;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Handles to everything that can be looked at or steered.
pub struct AdminState {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether the process is not stopping.
    pub ready: Arc<AtomicBool>,
    /// Who guesses at tokens.
    pub lockout: Lockout,
    /// Whether pushes find no room.
    pub refusing: Refusing,
    /// The lanes.
    pub fleet: Arc<EmbeddedFleet>,
    /// The routes in force.
    pub generation: Arc<ArcSwap<Generation>>,
    /// Asks for reloads of the routes.
    pub reloads: Reloads,
    /// The replays.
    pub replays: Arc<Replays>,
    /// The logs.
    pub tail: Arc<Tail<SqliteLog>>,
    /// The state.
    pub keeper: Keeper<SqliteState>,
    /// Back-fills.
    pub jobs: Jobs,
}

impl AdminState {
    /// Takes the routes' own count of conditions that missed a field over into the metrics.
    pub fn note_missing_fields(&self) {
        for (route, count) in self.generation.load().table.missing_fields() {
            let counter = self.metrics.missing_fields.get_or_create(&Metrics::of_route(route)).clone();
            counter.inner().fetch_max(count, Ordering::Relaxed);
        }
    }

    /// Questions to the store.
    #[must_use]
    pub fn queries(&self) -> Queries {
        Queries::new(self.tail.engine().clone())
    }
}
