//! The gates of all tenants: one each, shared by everybody who asks that tenant's API.

use crate::{
    config::settings::Rate,
    core::gate::{Gate, Purpose, Turn},
    domain::{SourceName, TenantName, Timestamp},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The gate of one tenant, shared.
#[derive(Debug, Clone)]
pub struct SharedGate(Arc<Mutex<Gate>>);

impl SharedGate {
    /// A gate that nobody else knows.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self(Arc::new(Mutex::new(Gate::new(rate))))
    }

    /// Does something with the gate; nothing that takes time.
    pub fn with<R>(&self, work: impl FnOnce(&mut Gate) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for a turn: [`Gate::turn`].
    #[must_use]
    pub fn turn(&self, now: Timestamp, purpose: Purpose) -> Turn {
        self.with(|gate| gate.turn(now, purpose))
    }

    /// A call was answered: [`Gate::answered`].
    pub fn answered(&self, now: Timestamp) {
        self.with(|gate| gate.answered(now));
    }

    /// The vendor said "too many calls": [`Gate::limited`].
    pub fn limited(&self, now: Timestamp, retry_after: Option<Duration>) {
        self.with(|gate| gate.limited(now, retry_after));
    }

    /// The vendor refused the credentials: [`Gate::refused`].
    pub fn refused(&self, now: Timestamp) {
        self.with(|gate| gate.refused(now));
    }
}

/// The gates of a process. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Gates(Arc<Mutex<BTreeMap<(SourceName, TenantName), SharedGate>>>);

impl Gates {
    /// A tenant's gate; made at this rate if there is none. It outlives reloads.
    #[must_use]
    pub fn of(&self, source: &SourceName, tenant: &TenantName, rate: Rate) -> SharedGate {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry((source.clone(), tenant.clone())).or_insert_with(|| SharedGate::new(rate)).clone()
    }
}
