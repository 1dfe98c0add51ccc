//! Whether the store refuses pushes at the moment: for `/readyz`.

use crate::domain::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

/// How long one refusal counts. It has to end by itself: whoever is not ready is sent no push that could show that there
/// is room again.
pub const COUNTS_FOR: Duration = Duration::from_secs(5);

/// When the store last had no room, or had stopped. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refusing(Arc<AtomicI64>);

impl Refusing {
    /// A push was answered 503 because the store did not take it.
    pub fn note(&self, now: Timestamp) {
        self.0.fetch_max(now.as_millis(), Ordering::Relaxed);
    }

    /// Whether that was a short while ago.
    #[must_use]
    pub fn is_now(&self, now: Timestamp) -> bool {
        now.since(Timestamp::from_millis(self.0.load(Ordering::Relaxed))) < COUNTS_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTS_FOR, Refusing};
    use crate::domain::Timestamp;
    use std::time::Duration;

    #[test]
    fn a_refusal_counts_for_a_while_and_no_longer() {
        let (refusing, now) = (Refusing::default(), Timestamp::from_millis(1_726_824_222_989));
        assert!(!refusing.is_now(now));
        refusing.clone().note(now);
        assert!(refusing.is_now(now));
        assert!(refusing.is_now(now.plus(COUNTS_FOR - Duration::from_millis(1))));
        assert!(!refusing.is_now(now.plus(COUNTS_FOR)));
    }
}
