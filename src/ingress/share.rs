//! How many pushes of one tenant wait for the store at a time: a flood from one leaves room for the others.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The pushes of a tenant that wait. A reload counts anew; what waits then is answered soon.
#[derive(Debug, Default)]
pub(super) struct Waiting(AtomicUsize);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Waiting);

impl Waiting {
    /// Takes a place, if fewer than `max` are taken.
    pub(super) fn enter(&self, max: usize) -> Option<Place<'_>> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        (before < max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::Waiting;

    #[test]
    fn so_many_wait_and_no_more_until_one_leaves() {
        let waiting = Waiting::default();
        let first = waiting.enter(2);
        let second = waiting.enter(2);
        assert!(first.is_some() && second.is_some());
        assert!(waiting.enter(2).is_none() && waiting.enter(2).is_none());
        drop(first);
        assert!(waiting.enter(2).is_some());
    }
}
