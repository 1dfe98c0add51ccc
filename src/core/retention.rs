//! What may leave the store, and when: one pure function over what is there.
//!
//! A segment goes when nobody needs it any more and it is old enough, or room is short. Nobody needs it when it lies
//! below the router's watermark, below the lowest watermark of any lane, below the oldest event that a decision still to
//! be delivered is about, and nothing pins it. Segments go from the oldest on, never out of the middle.
//!
//! Decisions that every lane is past do not hold their events: the first ones of a segment are always about events of
//! the one before, so that otherwise nothing would ever go. Whoever reads such a decision again finds its event gone.

use crate::{
    domain::{Offset, Timestamp},
    journal::{Heads, Retention},
};

/// Above this share of `max_size`, history that nobody needs goes before its time.
pub const SHED_PERCENT: u64 = 80;

/// A segment, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Its number.
    pub number: u32,
    /// The first rows after it.
    pub end: Heads,
    /// When it was closed; `None` for the one that is written to.
    pub closed_at: Option<Timestamp>,
    /// Whether its ids stand in a file of their own.
    pub sealed: bool,
    /// The oldest event that one of its decisions is about.
    pub oldest_event: Option<Offset>,
    /// Bytes of its file.
    pub bytes: u64,
}

/// The ids of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdsFacts {
    /// The segment's number.
    pub number: u32,
    /// When the segment was closed: none of its ids is newer.
    pub closed_at: Timestamp,
}

/// Everything the decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The segments, oldest first; the last one is written to.
    pub segments: &'a [SegmentFacts],
    /// The files of sealed ids.
    pub ids: &'a [IdsFacts],
    /// The lowest rows that somebody still has to read: EVENTS for the router, ROUTED for the other lanes.
    pub watermarks: Heads,
    /// The lowest rows that a replay or a range of dead letters needs; `u64::MAX` where nothing does.
    pub pins: Heads,
    /// The time. At a time before everything nothing is old.
    pub now: Timestamp,
    /// How long things are kept.
    pub rules: Retention,
    /// Bytes of everything in the store.
    pub used: u64,
}

/// What leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Segments to remove, oldest first.
    pub segments: Vec<u32>,
    /// Rows below these lie in segments to remove: what the shelf has of them is copied first.
    pub below: Heads,
    /// Files of ids to remove.
    pub ids: Vec<u32>,
    /// Dead letters whose last try lies before this go too.
    pub dead_letters_before: Timestamp,
}

/// Decides what leaves.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    let count = removable(facts);
    let (gone, kept) = facts.segments.split_at_checked(count).unwrap_or_default();
    let first_kept = kept.first().map_or(u32::MAX, |segment| segment.number);
    // A segment's ids outlive it, but never go before it: a start would seal it again.
    let old = |ids: &&IdsFacts| ids.number < first_kept && facts.now.since(ids.closed_at) >= facts.rules.ids;
    let dead_letters = i64::try_from(facts.rules.dead_letters.as_millis()).unwrap_or(i64::MAX);
    Plan {
        segments: gone.iter().map(|segment| segment.number).collect(),
        below: gone.last().map(|segment| segment.end).unwrap_or_default(),
        ids: facts.ids.iter().filter(old).map(|ids| ids.number).collect(),
        dead_letters_before: Timestamp::from_millis(facts.now.as_millis().saturating_sub(dead_letters)),
    }
}

/// How many segments, from the oldest on, may go.
fn removable(facts: &Facts<'_>) -> usize {
    let mut over = facts.used.saturating_sub(facts.rules.size_max / 100 * SHED_PERCENT);
    let mut ready = 0;
    for segment in facts.segments {
        let Some(closed_at) = segment.closed_at else { break };
        let old = facts.now.since(closed_at) >= facts.rules.delivered;
        if !is_done(facts, segment) || !(old || over > 0) {
            break;
        }
        over = over.saturating_sub(segment.bytes);
        ready += 1;
    }
    // Of these, as many as no decision refers to that somebody still has to read.
    let oldest =
        facts.segments.iter().filter(|segment| !is_read(facts, segment)).filter_map(|segment| segment.oldest_event);
    let oldest = oldest.min().unwrap_or(Offset::MAX);
    facts.segments.iter().take(ready).take_while(|segment| segment.end.events <= oldest).count()
}

fn is_done(facts: &Facts<'_>, segment: &SegmentFacts) -> bool {
    let below = |rows: Heads| segment.end.events <= rows.events && segment.end.routed <= rows.routed;
    segment.sealed && below(facts.watermarks) && below(facts.pins)
}

/// Whether everybody is past a segment's decisions.
fn is_read(facts: &Facts<'_>, segment: &SegmentFacts) -> bool {
    segment.end.routed <= facts.watermarks.routed && segment.end.routed <= facts.pins.routed
}

#[cfg(test)]
mod tests {
    use super::{Facts, IdsFacts, Plan, SegmentFacts, plan};
    use crate::{
        domain::Timestamp,
        journal::{Heads, Retention},
    };
    use std::time::Duration;

    const DAY: u64 = 86_400;
    const NOBODY: Heads = Heads { events: u64::MAX, routed: u64::MAX };
    const RULES: Retention = Retention {
        delivered: Duration::from_secs(7 * DAY),
        dead_letters: Duration::from_secs(30 * DAY),
        ids: Duration::from_secs(7 * DAY),
        size_max: 1_000,
    };

    fn day(day: u64) -> Timestamp {
        Timestamp::EPOCH.plus(Duration::from_secs(day * DAY))
    }

    /// Five segments of 100 rows in each log, closed on days 1 to 4; decisions are about events up to 10 rows back.
    fn segments() -> Vec<SegmentFacts> {
        let segment = |number: u32| {
            let end = u64::from(number) * 100 + 1;
            SegmentFacts {
                number,
                end: Heads { events: end, routed: end },
                closed_at: (number < 5).then(|| day(u64::from(number))),
                sealed: true,
                oldest_event: Some((end - 100).saturating_sub(10).max(1)),
                bytes: 100,
            }
        };
        (1..=5).map(segment).collect()
    }

    fn facts(segments: &[SegmentFacts], now: u64) -> Facts<'_> {
        let (watermarks, pins) = (Heads { events: 500, routed: 500 }, NOBODY);
        Facts { segments, ids: &[], watermarks, pins, now: day(now), rules: RULES, used: 500 }
    }

    fn check(facts: &Facts<'_>, expected: &[u32]) {
        assert_eq!(plan(facts).segments, expected, "{facts:?}");
    }

    #[test]
    fn age_decides_and_an_unread_decision_keeps_its_event() {
        let segments = segments();
        check(&facts(&segments, 7), &[]);
        check(&facts(&segments, 8), &[1]);
        check(&facts(&segments, 10), &[1, 2, 3]);
        // The open segment has decisions about events of the fourth.
        check(&facts(&segments, 99), &[1, 2, 3]);
        let plan = plan(&facts(&segments, 9));
        assert_eq!(plan.below, Heads { events: 201, routed: 201 });
        assert_eq!(plan.dead_letters_before, Timestamp::from_millis(-21 * 86_400_000));
    }

    #[test]
    fn whoever_still_reads_keeps_what_is_unread() {
        let segments = segments();
        let at = |events, routed| Heads { events, routed };
        // The first segment is read, but decisions of the second, which are not, are about its events.
        check(&Facts { watermarks: at(500, 200), ..facts(&segments, 99) }, &[]);
        check(&Facts { watermarks: at(500, 301), ..facts(&segments, 99) }, &[1, 2]);
        check(&Facts { watermarks: at(150, 500), ..facts(&segments, 99) }, &[1]);
        check(&Facts { watermarks: at(0, 0), ..facts(&segments, 99) }, &[]);
        check(&Facts { pins: at(201, u64::MAX), ..facts(&segments, 99) }, &[1, 2]);
        check(&Facts { pins: at(u64::MAX, 301), ..facts(&segments, 99) }, &[1, 2]);
        check(&Facts { pins: at(u64::MAX, 1), ..facts(&segments, 99) }, &[]);
    }

    #[test]
    fn an_unsealed_segment_stays_and_all_after_it() {
        let mut segments = segments();
        segments[1].sealed = false;
        check(&facts(&segments, 99), &[1]);
    }

    #[test]
    fn without_room_history_goes_before_its_time_but_never_what_is_needed() {
        let segments = segments();
        check(&Facts { used: 800, ..facts(&segments, 5) }, &[]);
        check(&Facts { used: 801, ..facts(&segments, 5) }, &[1]);
        check(&Facts { used: 950, ..facts(&segments, 5) }, &[1, 2]);
        let watermarks = Heads { events: 500, routed: 50 };
        check(&Facts { used: 1_000, watermarks, ..facts(&segments, 5) }, &[]);
    }

    #[test]
    fn ids_outlive_their_segment_and_never_go_before_it() {
        let segments = segments();
        let ids: Vec<_> = (1..=4).map(|number| IdsFacts { number, closed_at: day(u64::from(number)) }).collect();
        let kept = |now, segments: &[SegmentFacts]| {
            let Plan { ids, .. } = plan(&Facts { ids: &ids, ..facts(segments, now) });
            ids
        };
        assert_eq!(kept(7, &segments[2..]), Vec::<u32>::new());
        assert_eq!(kept(8, &segments[2..]), [1]);
        assert_eq!(kept(99, &segments), [1, 2, 3]);
        assert_eq!(kept(99, &segments[4..]), [1, 2, 3, 4]);
    }
}
