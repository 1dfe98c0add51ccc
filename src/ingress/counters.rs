//! What the door counts; metrics read it.

use super::problem::Problem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    duplicates: AtomicU64,
    probes: AtomicU64,
    rejected: [AtomicU64; Problem::ALL.len()],
}

impl Counters {
    /// Counts an event that was stored and had not come before.
    pub fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Counts a re-send.
    pub fn duplicate(&self) {
        self.duplicates.fetch_add(1, Relaxed);
    }

    /// Counts a probe: a GET, or an unsigned empty POST that the source lets pass.
    pub fn probe(&self) {
        self.probes.fetch_add(1, Relaxed);
    }

    /// Counts a refusal.
    pub fn reject(&self, problem: Problem) {
        if let Some(count) = self.rejected.get(problem as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Events stored, without re-sends.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Re-sends answered.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Relaxed)
    }

    /// Probes answered.
    #[must_use]
    pub fn probes(&self) -> u64 {
        self.probes.load(Relaxed)
    }

    /// Refusals, by what was wrong.
    pub fn rejected(&self) -> impl Iterator<Item = (Problem, u64)> {
        Problem::ALL.iter().zip(&self.rejected).map(|(problem, count)| (*problem, count.load(Relaxed)))
    }
}
