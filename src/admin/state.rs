//! What the admin API works on.

use crate::{
    app::{fleet::EmbeddedFleet, generation::Generation, reload::Reloads},
    journal::{
        sqlite::{log::SqliteLog, queries::Queries, state::SqliteState},
        tail::Tail,
    },
    lanes::keeper::Keeper,
    metrics::Metrics,
};
use arc_swap::ArcSwap;
use std::sync::{Arc, atomic::AtomicBool};

/// Handles to everything that can be looked at or steered.
pub struct AdminState {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether `/readyz` says yes.
    pub ready: Arc<AtomicBool>,
    /// The lanes.
    pub fleet: Arc<EmbeddedFleet>,
    /// The routes in force.
    pub generation: Arc<ArcSwap<Generation>>,
    /// Asks for reloads of the routes.
    pub reloads: Reloads,
    /// The logs.
    pub tail: Arc<Tail<SqliteLog>>,
    /// The state.
    pub keeper: Keeper<SqliteState>,
}

impl AdminState {
    /// Questions to the store.
    #[must_use]
    pub fn queries(&self) -> Queries {
        Queries::new(self.tail.engine().clone())
    }
}
