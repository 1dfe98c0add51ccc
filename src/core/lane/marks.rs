//! How far a lane has come: a watermark, and what is settled beyond it.
//!
//! A row is settled when all of this lane's deliveries of it are. Rows that hold nothing for the lane are settled as
//! soon as they are read. What is kept is exact, so that a crash repeats only what was really in flight.

use crate::{
    domain::{Offset, RouteName},
    journal::Progress,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The most rows between the watermark and the read cursor: the size of the stored bitmap.
pub const SPAN_MAX: usize = 65_536;

/// The marks of one lane.
#[derive(Debug)]
pub struct Marks {
    /// The first row that is not settled.
    watermark: Offset,
    /// For each row in `[watermark, cursor)` how many deliveries are open; the first is never 0.
    open: VecDeque<u16>,
    /// Settled deliveries of rows that are not settled as a whole, read or not.
    partial: BTreeMap<Offset, Vec<RouteName>>,
    /// Rows at or beyond the cursor that an earlier run settled.
    ahead: BTreeSet<Offset>,
}

impl Marks {
    /// Takes up where stored progress left off.
    #[must_use]
    pub fn restore(progress: &Progress) -> Self {
        let mut ahead = BTreeSet::new();
        for (word, bits) in (0_u64..).zip(&progress.beyond) {
            ahead.extend((0..64).filter(|bit| bits >> bit & 1 == 1).map(|bit| progress.watermark + word * 64 + bit));
        }
        let mut partial = BTreeMap::<_, Vec<_>>::new();
        for (offset, route) in &progress.partial {
            partial.entry(*offset).or_default().push(route.clone());
        }
        Self { watermark: progress.watermark, open: VecDeque::new(), partial, ahead }
    }

    /// Marks a row beyond the cursor as settled: the router's rows that are in ROUTED already.
    pub fn settled_before(&mut self, offset: Offset) {
        if offset >= self.cursor() {
            self.ahead.insert(offset);
        }
    }

    /// The first row that is not settled.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.watermark
    }

    /// The first row that was not read.
    #[must_use]
    pub fn cursor(&self) -> Offset {
        self.watermark + self.open.len() as u64
    }

    /// How many rows lie between watermark and cursor.
    #[must_use]
    pub fn span(&self) -> usize {
        self.open.len()
    }

    /// Whether a delivery of a row at or beyond the cursor is still to be made.
    #[must_use]
    pub fn wants(&self, offset: Offset, route: Option<&RouteName>) -> bool {
        if offset < self.cursor() || self.ahead.contains(&offset) {
            return false;
        }
        let Some(route) = route else { return true };
        !self.partial.get(&offset).is_some_and(|settled| settled.contains(route))
    }

    /// Moves the cursor to `next`; `deliveries` says for each row that has any, in order, how many are to be made.
    pub fn enter(&mut self, next: Offset, deliveries: &[(Offset, u16)]) {
        let mut with = deliveries.iter().peekable();
        for offset in self.cursor()..next {
            let open = with.next_if(|(row, _)| *row == offset).map_or(0, |(_, count)| *count);
            self.ahead.remove(&offset);
            if open == 0 {
                self.partial.remove(&offset);
            }
            self.open.push_back(open);
        }
        debug_assert!(with.peek().is_none(), "deliveries are given by row, within the page");
        self.advance();
    }

    /// Settles one delivery of a row between watermark and cursor.
    ///
    /// # Panics
    /// When the row is not open: a bug of the lane.
    pub fn settle(&mut self, offset: Offset, route: Option<&RouteName>) {
        let open = usize::try_from(offset.wrapping_sub(self.watermark)).ok().and_then(|row| self.open.get_mut(row));
        let open = open.filter(|open| **open > 0).expect("a delivery is settled once, while its row is open");
        *open -= 1;
        if *open == 0 {
            self.partial.remove(&offset);
            self.advance();
        } else if let Some(route) = route {
            self.partial.entry(offset).or_default().push(route.clone());
        }
    }

    /// What is stored of it.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let mut beyond = Vec::new();
        let mut set = |distance: u64| {
            let Ok(word) = usize::try_from(distance / 64) else { return };
            if beyond.len() <= word {
                beyond.resize(word + 1, 0);
            }
            if let Some(bits) = beyond.get_mut(word) {
                *bits |= 1_u64 << (distance % 64);
            }
        };
        for (distance, _) in (0..).zip(&self.open).filter(|(_, open)| **open == 0) {
            set(distance);
        }
        for offset in &self.ahead {
            set(offset - self.watermark);
        }
        let partial =
            self.partial.iter().flat_map(|(offset, routes)| routes.iter().map(|route| (*offset, route.clone())));
        Progress { watermark: self.watermark, beyond, partial: partial.collect(), reflects: 0 }
    }

    fn advance(&mut self) {
        while self.open.front() == Some(&0) {
            self.open.pop_front();
            self.watermark += 1;
        }
        // Rows settled by an earlier run that the cursor now stands at.
        while self.open.is_empty() && self.ahead.remove(&self.watermark) {
            self.watermark += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Marks;
    use crate::{domain::RouteName, journal::Progress};

    fn route(name: &str) -> RouteName {
        RouteName::parse(name).expect("a good name")
    }

    #[test]
    fn rows_without_deliveries_are_passed_at_once() {
        let mut marks = Marks::restore(&Progress { watermark: 1, ..Progress::default() });
        marks.enter(6, &[(3, 1)]);
        assert_eq!((marks.watermark(), marks.cursor()), (3, 6));
        marks.settle(3, None);
        assert_eq!((marks.watermark(), marks.cursor()), (6, 6));
    }

    #[test]
    fn a_restart_asks_again_only_for_what_was_open() {
        let mut marks = Marks::restore(&Progress { watermark: 1, ..Progress::default() });
        marks.enter(71, &[(1, 1), (2, 2), (3, 1), (70, 1)]);
        marks.settle(2, Some(&route("a")));
        marks.settle(3, Some(&route("a")));
        marks.settle(70, Some(&route("a")));
        let stored = marks.progress();
        assert_eq!(stored.watermark, 1);

        let again = Marks::restore(&stored);
        let wanted = |offset, name: &str| again.wants(offset, Some(&route(name)));
        assert!(wanted(1, "a") && wanted(2, "b") && wanted(71, "a"));
        assert!(!wanted(2, "a") && !wanted(3, "a") && !wanted(69, "a") && !wanted(70, "a"));
        assert_eq!(again.progress(), stored);
    }

    #[test]
    fn restored_rows_are_passed_when_the_cursor_reaches_them() {
        let mut marks = Marks::restore(&Progress { watermark: 5, beyond: vec![0b1110], ..Progress::default() });
        marks.enter(6, &[(5, 1)]);
        marks.settle(5, None);
        assert_eq!((marks.watermark(), marks.cursor()), (9, 9));
        assert_eq!(marks.progress(), Progress { watermark: 9, ..Progress::default() });
    }
}
