//! Gathering wants before a call is made, and choosing the window that a walk over a list reads.
//!
//! An event of a record rarely comes alone, and each wants the record as it is behind it. So also wants of one record by its
//! id gather, by the same rule, before its call is made; the next call for it is made [`GATHER_MAX`] after that at the earliest,
//! so that a record costs two calls, and one more for as long as a burst about it lasts.
//!
//! Laigu has no call for one customer, Easemob none for one session: both list what changed in a time. So wants gather
//! until none has come for a moment ([`QUIET`]) or the first has waited long enough ([`GATHER_MAX`]); then one walk reads
//! the window around all of them, and what it finds serves everybody. Who was not found is looked for again later, in a
//! wider window.

use super::What;
use crate::domain::Timestamp;
use std::time::Duration;

/// When no want has come for so long, a walk begins, or the call for one record is made.
pub const QUIET: Duration = Duration::from_millis(200);
/// The first want waits at most so long for others.
pub const GATHER_MAX: Duration = Duration::from_secs(2);
/// Windows that are closer to each other than this are read as one.
const GAP_MAX: Duration = Duration::from_secs(30);
/// A walk's window grows to this at most by joining others, but for those that reach up to now.
const SPAN_MAX: Duration = Duration::from_secs(3_600);
/// Whether a window's ends count is not documented.
const MARGIN: Duration = Duration::from_secs(1);

/// How far before and behind a record's time it is searched, try by try. A client that changed again since is listed at
/// its new time: after these tries it is searched up to now.
const REACH: [(Duration, Duration); 3] = [
    (MARGIN, Duration::from_secs(60)),
    (Duration::from_secs(30), Duration::from_secs(600)),
    (Duration::from_secs(300), Duration::from_secs(3_300)),
];

/// Up to now is so far behind its time at most: a walk over more comes to no end within a budget, and keeps others waiting.
const REACH_MAX: Duration = Duration::from_secs(86_400);

/// The wants of one kind that wait for a list, or those of one record.
#[derive(Debug, Default)]
pub struct Gathering {
    /// The lookup that walks now; of one record there is none beside its own.
    pub open: Option<u64>,
    /// When the last of those who wait for the next walk or call came, and when it begins at the latest.
    pub since: Option<(Timestamp, Timestamp)>,
    /// Of one record: until when its last call keeps the next one back, if nobody is in a hurry.
    pub rests_until: Option<Timestamp>,
}

impl Gathering {
    /// Nobody waits for a record that was asked for then: however often it changes, it is not asked for all the time.
    pub fn after_call(asked_at: Timestamp) -> Self {
        Self { rests_until: Some(asked_at.plus(GATHER_MAX)), ..Self::default() }
    }

    /// Another one waits, until its deadline at most: a quarter of that may go by with waiting for others.
    pub fn joined(&mut self, now: Timestamp, deadline: Timestamp) {
        let latest = now.plus(GATHER_MAX.min(deadline.since(now) / 4));
        self.since = Some((now, self.since.map_or(latest, |(_, before)| before.min(latest))));
    }

    /// When the next walk or call begins for those who came since the last.
    pub fn due(&self) -> Option<Timestamp> {
        let (last, latest) = self.since?;
        let quiet = last.plus(QUIET);
        Some(self.rests_until.map_or(quiet, |rested| rested.max(quiet)).min(latest))
    }
}

/// A want that waits for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seeking {
    /// Its name.
    pub ticket: u64,
    /// Where it is searched.
    pub at: Timestamp,
    /// Walks that did not find it.
    pub tries: u32,
    /// When it must be answered.
    pub deadline: Timestamp,
}

/// The window that one walk reads, and who is searched in it: around whoever must be answered first, and all whose
/// windows touch it. There is at least one who seeks.
pub fn window(what: What, seeking: &[Seeking], now: Timestamp) -> (Timestamp, Timestamp, Vec<u64>) {
    if what == What::Agent {
        return (now, now, seeking.iter().map(|one| one.ticket).collect());
    }
    let mut reaches: Vec<_> = seeking.iter().map(|one| (reach(what, one, now), one)).collect();
    reaches.sort_by_key(|((from, to), one)| (*from, *to, one.ticket));
    let urgent = seeking.iter().min_by_key(|one| (one.deadline, one.ticket)).map(|one| one.ticket);
    let mut groups: Vec<(Timestamp, Timestamp, Vec<u64>)> = Vec::new();
    for ((from, to), one) in reaches {
        match groups.last_mut() {
            Some((first, last, tickets))
                if from <= last.plus(GAP_MAX) && (to.since(*first) <= SPAN_MAX || far(one)) =>
            {
                *last = to.max(*last);
                tickets.push(one.ticket);
            }
            _ => groups.push((from, to, vec![one.ticket])),
        }
    }
    let holds_urgent = |group: &&(_, _, Vec<u64>)| urgent.is_some_and(|ticket| group.2.contains(&ticket));
    groups.iter().find(holds_urgent).cloned().unwrap_or_default()
}

/// Whether someone is searched up to now: such walks are long, and read but once.
fn far(one: &Seeking) -> bool {
    usize::try_from(one.tries).is_ok_and(|tries| tries >= REACH.len())
}

fn reach(what: What, one: &Seeking, now: Timestamp) -> (Timestamp, Timestamp) {
    let try_number = usize::try_from(one.tries).unwrap_or(usize::MAX);
    let (back, forth) = REACH.get(try_number).copied().unwrap_or_else(|| {
        let [.., (back, forth)] = REACH;
        // A session stays listed at the time it was made.
        (back, if what == What::Client { REACH_MAX } else { forth })
    });
    let back = i64::try_from(back.as_millis()).unwrap_or(0);
    let from = Timestamp::from_millis(one.at.as_millis().saturating_sub(back));
    // Nothing is listed behind the present; but the vendor's clock may be ahead of ours.
    (from, one.at.plus(forth).min(now.plus(MARGIN)).max(one.at.plus(MARGIN)))
}

#[cfg(test)]
mod tests {
    use super::{Gathering, Seeking, window};
    use crate::{core::enrich::What, domain::Timestamp};

    const MINUTE: i64 = 60_000;
    const DAY: i64 = 86_400_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(10 * DAY + millis)
    }

    fn seeking(ticket: u64, millis: i64, tries: u32, deadline: i64) -> Seeking {
        Seeking { ticket, at: at(millis), tries, deadline: at(deadline) }
    }

    fn check(all: &[Seeking], from: i64, to: i64, tickets: &[u64]) {
        assert_eq!(window(What::Client, all, at(0)), (at(from), at(to), tickets.to_vec()));
    }

    #[test]
    fn a_burst_is_one_window_up_to_now() {
        let all = [seeking(1, -900, 0, 15_000), seeking(2, -100, 0, 15_800), seeking(3, -400, 0, 15_500)];
        check(&all, -1_900, 1_000, &[1, 3, 2]);
    }

    #[test]
    fn what_lies_far_apart_is_read_apart_the_urgent_first() {
        let all = [seeking(1, -30 * MINUTE, 0, 9_000), seeking(2, -10, 0, 15_000)];
        check(&all, -30 * MINUTE - 1_000, -29 * MINUTE, &[1]);
        check(&all[1..], -1_010, 1_000, &[2]);
    }

    #[test]
    fn who_was_not_found_is_searched_in_a_wider_window() {
        check(&[seeking(1, -20 * MINUTE, 1, 0)], -20 * MINUTE - 30_000, -10 * MINUTE, &[1]);
        check(&[seeking(1, -20 * MINUTE, 7, 0)], -25 * MINUTE, 1_000, &[1]);
    }

    #[test]
    fn who_changed_again_long_after_is_found_at_the_fourth_try() {
        let two_hours = -120 * MINUTE;
        check(&[seeking(1, two_hours, 2, 0)], two_hours - 5 * MINUTE, two_hours + 55 * MINUTE, &[1]);
        check(&[seeking(1, two_hours, 3, 0)], two_hours - 5 * MINUTE, 1_000, &[1]);
        // All of them are searched in one walk, which keeps nobody else.
        let all = [seeking(1, two_hours, 3, 0), seeking(2, two_hours + MINUTE, 3, 0), seeking(3, -MINUTE, 0, 1)];
        check(&all, two_hours - 5 * MINUTE, 1_000, &[1, 2]);
        let long_ago = -9 * DAY;
        check(&[seeking(1, long_ago, 3, 0)], long_ago - 5 * MINUTE, long_ago + DAY, &[1]);
        let of_session = window(What::Session, &[seeking(1, two_hours, 3, 0)], at(0));
        assert_eq!(of_session, (at(two_hours - 5 * MINUTE), at(two_hours + 55 * MINUTE), vec![1]));
    }

    #[test]
    fn a_clock_that_is_behind_the_vendors_loses_nothing() {
        check(&[seeking(1, 5_000, 0, 0)], 4_000, 6_000, &[1]);
    }

    #[test]
    fn a_window_does_not_grow_without_bound() {
        let chain: Vec<_> = (0..500).map(|n| seeking(n, -DAY + i64::try_from(n).unwrap() * MINUTE, 0, 0)).collect();
        let (from, to, tickets) = window(What::Client, &chain, at(0));
        assert!(to.since(from).as_secs() <= 3_600 && tickets.len() > 30, "{}", tickets.len());
    }

    #[test]
    fn wants_gather_until_it_is_quiet_or_the_first_waited_long_enough() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.due(), None);
        gathering.joined(at(0), at(15_000));
        assert_eq!(gathering.due(), Some(at(200)));
        for now in (100..=1_900).step_by(100) {
            gathering.joined(at(now), at(15_000 + now));
        }
        assert_eq!(gathering.due(), Some(at(2_000)));
        gathering.joined(at(1_910), at(2_010));
        assert_eq!(gathering.due(), Some(at(1_935)), "someone is in a hurry");
        let mut again = Gathering::after_call(at(1_935));
        assert_eq!(again.due(), None);
        again.joined(at(2_000), at(17_000));
        assert_eq!(again.due(), Some(at(3_935)), "as long as the first waits at most");
        again.joined(at(2_100), at(2_500));
        assert_eq!(again.due(), Some(at(2_200)), "but for someone in a hurry");
    }
}
