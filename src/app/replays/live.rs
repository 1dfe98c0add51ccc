//! What is to be seen of a job while it works.

use crate::{domain::DestinationName, journal::sqlite::jobs::Counts};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a job says of itself; shared by its parts and whoever looks.
#[derive(Debug, Default)]
pub struct Live(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Whether it has its turn.
    working: bool,
    /// What keeps each destination from taking things.
    troubles: BTreeMap<DestinationName, String>,
    /// What keeps the job from choosing.
    stuck: Option<String>,
}

impl Live {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes counts; those that are behind what is known change nothing.
    pub fn counted(&self, counts: Counts) {
        let known = &mut self.locked().counts;
        known.matched = known.matched.max(counts.matched);
        known.delivered = known.delivered.max(counts.delivered);
        known.failed = known.failed.max(counts.failed);
        known.kept = known.kept.max(counts.kept);
        known.gone = known.gone.max(counts.gone);
    }

    /// The counts as last heard.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.locked().counts
    }

    /// Notes whether the job has its turn.
    pub fn working(&self, working: bool) {
        self.locked().working = working;
    }

    /// Whether the job has its turn.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.locked().working
    }

    /// Notes what keeps a destination from taking things, or that nothing does.
    pub fn trouble(&self, destination: &DestinationName, words: Option<String>) {
        let troubles = &mut self.locked().troubles;
        match words {
            Some(words) => troubles.insert(destination.clone(), words),
            None => troubles.remove(destination),
        };
    }

    /// Notes what keeps the job from choosing, or that nothing does.
    pub fn stuck(&self, words: Option<String>) {
        self.locked().stuck = words;
    }

    /// What keeps the job from going on, in words.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let state = self.locked();
        let all: Vec<&str> = state.stuck.iter().chain(state.troubles.values()).map(String::as_str).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}
