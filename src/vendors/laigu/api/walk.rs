//! The walk over a range of time: slices, pages within a slice, and every trap of paging. Pure.
//!
//! Records of a window come in an order that has nothing to do with its time (by `conv_id`, `track_id`), so nothing
//! is stopped early, and only [`Walk::drained_to`] may become a watermark: everything before it was read to the end.
//! A slice that is restarted or halved gives its records again; callers tell records apart by key and version.

use super::{
    error::{ApiError, Trap, classify},
    window::{OVERLAP, Paging, SLICE_MIN, Window},
};
use crate::{
    domain::Timestamp,
    vendors::{action::Action, http},
};
use std::{collections::HashSet, time::Duration};

/// Where in a slice the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// V2: the token of the last page; empty for the first.
    Token(String),
    /// V1: records to skip.
    Offset(u64),
}

/// What to ask for next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The slice.
    pub window: Window,
    /// The page.
    pub cursor: Cursor,
    /// Records a page.
    pub limit: u32,
}

/// How pages follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// V2's `page_token`.
    Token,
    /// V1's `offset`.
    Offset,
}

/// One walk; holds no records.
#[derive(Debug, Clone)]
pub struct Walk {
    style: Style,
    limit: u32,
    pages_max: u32,
    slice: Duration,
    /// Where the slice after the current one begins.
    next_from: Timestamp,
    /// The end of the whole range.
    to: Timestamp,
    current: Option<Slice>,
}

#[derive(Debug, Clone)]
struct Slice {
    window: Window,
    cursor: Cursor,
    seen: HashSet<String>,
    pages: u32,
    restarted: bool,
}

impl Walk {
    /// Begins a walk over `range`, oldest first; a range that is empty or reversed has nothing to ask.
    #[must_use]
    pub fn new(range: Window, style: Style, paging: &Paging) -> Self {
        let paging = paging.clamped();
        let mut walk = Self {
            style,
            limit: paging.limit,
            pages_max: paging.pages_max,
            slice: paging.slice,
            next_from: range.from,
            to: range.to,
            current: None,
        };
        walk.advance(Duration::ZERO);
        walk
    }

    /// What to ask for next, or nothing when the range is drained. Asking again changes nothing.
    #[must_use]
    pub fn ask(&self) -> Option<Ask> {
        self.current.as_ref().map(|slice| Ask { window: slice.window, cursor: slice.cursor.clone(), limit: self.limit })
    }

    /// Everything that lies before this time has been read to the end.
    #[must_use]
    pub fn drained_to(&self) -> Timestamp {
        match &self.current {
            Some(slice) => slice.window.from,
            None => self.to.max(self.next_from),
        }
    }

    /// Takes note of a page that was answered, with so many records in it, also those that cannot be read.
    ///
    /// # Errors
    /// [`Trap`] when going on would never end; the walk stays where it is until [`Walk::failed`] says what follows.
    pub fn took(&mut self, records: usize, next_page_token: &str) -> Result<(), Trap> {
        let (limit, pages_max) = (self.limit as usize, self.pages_max);
        let Some(slice) = &mut self.current else { return Ok(()) };
        let more = match &slice.cursor {
            Cursor::Token(_) => !next_page_token.is_empty(),
            // There is no total: a short page is the end.
            Cursor::Offset(_) => records >= limit,
        };
        if !more {
            self.advance(OVERLAP);
            return Ok(());
        }
        if records == 0 {
            return Err(Trap::EmptyPage);
        }
        if slice.pages + 1 >= pages_max {
            return Err(Trap::TooManyPages);
        }
        match &mut slice.cursor {
            Cursor::Token(token) => {
                if token == next_page_token || !slice.seen.insert(next_page_token.to_owned()) {
                    return Err(Trap::TokenRepeated);
                }
                next_page_token.clone_into(token);
            }
            Cursor::Offset(offset) => *offset += records as u64,
        }
        slice.pages += 1;
        Ok(())
    }

    /// Takes note of a page that failed, restarts or halves the slice where that is what follows, and says so.
    ///
    /// After [`Action::RestartWindow`], [`Action::HalveWindow`] and [`Action::ShrinkPage`] the caller simply asks again. A
    /// slice is restarted once; after that, and below a minute, the failure is final. Pages that are too large get
    /// smaller, and stay it, until they hold one record.
    pub fn failed(&mut self, error: &ApiError) -> Action {
        if matches!(error, ApiError::Http(http::Error::TooLarge)) && self.shrink() {
            return Action::ShrinkPage;
        }
        let action = classify(error);
        let trapped = matches!(error, ApiError::Paging(_));
        match action {
            Action::RestartWindow if self.restart() => Action::RestartWindow,
            Action::RestartWindow if trapped => Action::GiveUp,
            Action::RestartWindow | Action::HalveWindow => {
                if self.halve() {
                    Action::HalveWindow
                } else {
                    Action::GiveUp
                }
            }
            other => other,
        }
    }

    /// Goes back to the first page of the slice, once.
    fn restart(&mut self) -> bool {
        let first = self.first_cursor();
        let Some(slice) = &mut self.current else { return false };
        if slice.restarted {
            return false;
        }
        *slice = Slice { restarted: true, ..Slice::at(slice.window, first) };
        true
    }

    /// Goes back to the first page of the slice, with half as many records a page, and room for twice as many pages.
    fn shrink(&mut self) -> bool {
        let first = self.first_cursor();
        let Some(slice) = &mut self.current else { return false };
        if self.limit <= 1 {
            return false;
        }
        self.limit /= 2;
        self.pages_max = self.pages_max.saturating_mul(2);
        *slice = Slice { restarted: slice.restarted, ..Slice::at(slice.window, first) };
        true
    }

    /// Cuts the slice in two, and all later ones to the same length: what was too wide once is too wide again.
    fn halve(&mut self) -> bool {
        let first = self.first_cursor();
        let Some(slice) = &mut self.current else { return false };
        let half = slice.window.span() / 2;
        if half < SLICE_MIN {
            return false;
        }
        let middle = slice.window.from.plus(half);
        *slice = Slice::at(Window { to: middle, ..slice.window }, first);
        self.slice = half;
        self.next_from = middle;
        true
    }

    /// Goes to the next slice; it begins `overlap` before the last one ended.
    fn advance(&mut self, overlap: Duration) {
        if self.next_from >= self.to {
            self.current = None;
            return;
        }
        let end = self.next_from.plus(self.slice).min(self.to);
        let overlap = i64::try_from(overlap.as_millis()).unwrap_or(0);
        let from = Timestamp::from_millis(self.next_from.as_millis().saturating_sub(overlap));
        self.current = Some(Slice::at(Window { from, to: end }, self.first_cursor()));
        self.next_from = end;
    }

    const fn first_cursor(&self) -> Cursor {
        match self.style {
            Style::Token => Cursor::Token(String::new()),
            Style::Offset => Cursor::Offset(0),
        }
    }
}

impl Slice {
    fn at(window: Window, cursor: Cursor) -> Self {
        Self { window, cursor, seen: HashSet::new(), pages: 0, restarted: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ask, Cursor, Style, Walk};
    use crate::{
        domain::Timestamp,
        vendors::{
            action::Action,
            http,
            laigu::api::{
                error::{ApiError, Asked, Errno, Trap},
                window::{Paging, Window},
            },
        },
    };
    use std::time::Duration;

    const HOUR: i64 = 3_600_000;

    fn range(from: i64, to: i64) -> Window {
        Window { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to) }
    }

    fn walk(to: i64, style: Style) -> Walk {
        Walk::new(range(0, to), style, &Paging::default())
    }

    fn refused(asked: Asked) -> ApiError {
        ApiError::Refused { errno: Errno::ParameterInvalid, said: String::new(), asked }
    }

    fn ask(walk: &Walk) -> (i64, i64, Cursor) {
        let Ask { window, cursor, .. } = walk.ask().unwrap();
        (window.from.as_millis(), window.to.as_millis(), cursor)
    }

    fn token(text: &str) -> Cursor {
        Cursor::Token(text.to_owned())
    }

    #[test]
    fn a_range_is_read_in_overlapping_hours() {
        let mut walk = walk(2 * HOUR + 5, Style::Token);
        assert_eq!(ask(&walk), (0, HOUR, token("")));
        walk.took(20, "a").unwrap();
        assert_eq!(ask(&walk), (0, HOUR, token("a")));
        assert_eq!(walk.drained_to().as_millis(), 0);
        walk.took(3, "").unwrap();
        assert_eq!(ask(&walk), (HOUR - 1000, 2 * HOUR, token("")));
        walk.took(0, "").unwrap();
        assert_eq!(ask(&walk), (2 * HOUR - 1000, 2 * HOUR + 5, token("")));
        walk.took(0, "").unwrap();
        assert_eq!((walk.ask(), walk.drained_to().as_millis()), (None, 2 * HOUR + 5));
    }

    #[test]
    fn an_empty_or_reversed_range_asks_nothing() {
        assert_eq!(Walk::new(range(5, 5), Style::Token, &Paging::default()).ask(), None);
        assert_eq!(Walk::new(range(9, 5), Style::Offset, &Paging::default()).ask(), None);
    }

    #[test]
    fn a_year_is_never_a_list_of_slices_and_ends() {
        let mut walk = walk(365 * 24 * HOUR, Style::Token);
        let mut asked = 0;
        while walk.ask().is_some() {
            walk.took(0, "").unwrap();
            asked += 1;
        }
        assert_eq!(asked, 365 * 24);
    }

    #[test]
    fn offsets_go_on_until_a_short_page() {
        let mut walk = walk(HOUR, Style::Offset);
        walk.took(20, "ignored").unwrap();
        assert_eq!(ask(&walk).2, Cursor::Offset(20));
        walk.took(20, "").unwrap();
        assert_eq!(ask(&walk).2, Cursor::Offset(40));
        walk.took(19, "").unwrap();
        assert_eq!(walk.ask(), None);
    }

    #[test]
    fn every_trap_is_told_and_followed_by_one_restart() {
        let mut repeated = walk(HOUR, Style::Token);
        repeated.took(20, "a").unwrap();
        repeated.took(20, "b").unwrap();
        assert_eq!(repeated.took(20, "a"), Err(Trap::TokenRepeated));
        assert_eq!(repeated.failed(&ApiError::Paging(Trap::TokenRepeated)), Action::RestartWindow);
        assert_eq!(ask(&repeated).2, token(""));
        repeated.took(20, "a").unwrap();
        assert_eq!(repeated.took(20, "a"), Err(Trap::TokenRepeated));
        assert_eq!(repeated.failed(&ApiError::Paging(Trap::TokenRepeated)), Action::GiveUp);

        assert_eq!(walk(HOUR, Style::Token).took(0, "a"), Err(Trap::EmptyPage));

        let mut endless = Walk::new(range(0, HOUR), Style::Token, &Paging { pages_max: 3, ..Paging::default() });
        endless.took(20, "1").unwrap();
        endless.took(20, "2").unwrap();
        assert_eq!(endless.took(20, "3"), Err(Trap::TooManyPages));
    }

    #[test]
    fn a_stale_token_restarts_the_slice_once_then_halves_it() {
        let mut walk = walk(HOUR, Style::Token);
        walk.took(20, "a").unwrap();
        assert_eq!(walk.failed(&refused(Asked::WithToken)), Action::RestartWindow);
        assert_eq!(ask(&walk), (0, HOUR, token("")));
        walk.took(20, "a").unwrap();
        assert_eq!(walk.failed(&refused(Asked::WithToken)), Action::HalveWindow);
        assert_eq!(ask(&walk), (0, HOUR / 2, token("")));
    }

    #[test]
    fn a_window_too_wide_is_halved_and_so_are_the_later_ones() {
        let paging = Paging { slice: Duration::from_secs(4 * 3600), ..Paging::default() };
        let mut walk = Walk::new(range(0, 8 * HOUR), Style::Token, &paging);
        assert_eq!(walk.failed(&refused(Asked::Window)), Action::HalveWindow);
        assert_eq!(walk.failed(&refused(Asked::Window)), Action::HalveWindow);
        let mut windows = Vec::new();
        while walk.ask().is_some() {
            let (from, to, _) = ask(&walk);
            windows.push((from, to));
            walk.took(0, "").unwrap();
        }
        assert_eq!(windows.first(), Some(&(0, HOUR)));
        assert_eq!(windows.last(), Some(&(7 * HOUR - 1000, 8 * HOUR)));
        assert_eq!(windows.len(), 8);
    }

    #[test]
    fn halving_ends_above_a_minute() {
        let mut walk = walk(HOUR, Style::Token);
        let mut halved = 0;
        while walk.failed(&refused(Asked::Window)) == Action::HalveWindow {
            halved += 1;
        }
        assert_eq!(halved, 5, "an hour five times halved is just under two minutes");
    }

    #[test]
    fn pages_that_are_too_large_become_smaller_and_stay_it() {
        for style in [Style::Token, Style::Offset] {
            let mut walk = walk(2 * HOUR, style);
            let large = ApiError::Http(http::Error::TooLarge);
            walk.took(20, "a").unwrap();
            let mut limits = Vec::new();
            while walk.failed(&large) == Action::ShrinkPage {
                limits.push(walk.ask().unwrap().limit);
                assert!(matches!(ask(&walk), (0, HOUR, Cursor::Offset(0))) || ask(&walk) == (0, HOUR, token("")));
            }
            assert_eq!(limits, [10, 5, 2, 1]);
            // One record alone is too large: as any failure that may pass.
            assert_eq!(walk.failed(&large), Action::RetryAFew);
            walk.took(1, "b").unwrap();
            assert_eq!(ask(&walk).0, 0, "a page of one is whole: there may be another");
            walk.took(0, "").unwrap();
            assert_eq!((ask(&walk).0, walk.ask().unwrap().limit), (HOUR - 1000, 1));
        }
    }

    #[test]
    fn smaller_pages_may_be_more() {
        let paging = Paging { pages_max: 2, ..Paging::default() };
        let mut walk = Walk::new(range(0, HOUR), Style::Token, &paging);
        assert_eq!(walk.failed(&ApiError::Http(http::Error::TooLarge)), Action::ShrinkPage);
        for token in ["1", "2", "3"] {
            walk.took(10, token).unwrap();
        }
        assert_eq!(walk.took(10, "4"), Err(Trap::TooManyPages));
    }

    #[test]
    fn other_failures_leave_the_walk_where_it_is() {
        let mut walk = walk(HOUR, Style::Token);
        walk.took(20, "a").unwrap();
        let before = ask(&walk);
        assert_eq!(walk.failed(&ApiError::NoResult), Action::Retry);
        assert_eq!(ask(&walk), before);
    }
}
