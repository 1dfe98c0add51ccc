//! The schedule of a feed, step by step.

use super::{Effect, End, Feed, Input, Rules, Span, Trouble, Window};
use crate::domain::Timestamp;
use std::time::Duration;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1000)
}

fn window(from: i64, to: i64) -> Window {
    Window { from: at(from), to: at(to) }
}

fn rules(span: Span) -> Rules {
    Rules { span, overlap: secs(3), slice: secs(86_400), seed: 7 }
}

fn ongoing(mark: Option<i64>) -> Feed {
    let span = Span::Ongoing { every: secs(300), lag: secs(120), lookback: secs(3_600) };
    Feed::new(rules(span), mark.map(at), at(10_000))
}

fn step(feed: &mut Feed, now: i64, input: Input) -> Vec<Effect> {
    let mut out = Vec::new();
    feed.step(at(now), input, &mut out);
    out
}

/// Reads a window of one page to its end.
fn sweep(feed: &mut Feed, now: i64, to: i64) -> Vec<Effect> {
    assert_eq!(step(feed, now, Input::Page { drained_to: at(to), last: true }), [Effect::Append]);
    assert_eq!(step(feed, now, Input::Appended), [Effect::Store(at(to))]);
    step(feed, now, Input::Stored)
}

#[test]
fn windows_are_closed_overlap_and_come_at_their_time() {
    let mut feed = ongoing(None);
    assert_eq!(step(&mut feed, 10_000, Input::Tick), [Effect::Open(window(6_400, 9_880))]);
    assert_eq!(sweep(&mut feed, 10_001, 9_880), [Effect::Swept(window(6_400, 9_880))]);
    assert_eq!((feed.mark(), feed.wake_at()), (Some(at(9_880)), Some(at(10_300))));
    assert_eq!(step(&mut feed, 10_299, Input::Tick), []);
    assert_eq!(step(&mut feed, 10_300, Input::Tick), [Effect::Open(window(9_877, 10_180))]);
}

#[test]
fn a_stored_watermark_is_taken_up_however_old_and_caught_up_in_slices() {
    let span = Span::Ongoing { every: secs(300), lag: secs(120), lookback: secs(60) };
    let mut feed = Feed::new(Rules { slice: secs(1_000), ..rules(span) }, Some(at(7_500)), at(10_000));
    assert_eq!(step(&mut feed, 10_000, Input::Tick), [Effect::Open(window(7_497, 8_500))]);
    let then = [Effect::Swept(window(7_497, 8_500)), Effect::Open(window(8_497, 9_500))];
    assert_eq!(sweep(&mut feed, 10_000, 8_500), then);
    let then = [Effect::Swept(window(8_497, 9_500)), Effect::Open(window(9_497, 9_880))];
    assert_eq!(sweep(&mut feed, 10_000, 9_500), then);
    assert_eq!(sweep(&mut feed, 10_000, 9_880), [Effect::Swept(window(9_497, 9_880))]);
}

#[test]
fn the_watermark_follows_what_is_drained_and_only_when_it_is_durable() {
    let mut feed = ongoing(None);
    step(&mut feed, 10_000, Input::Tick);
    // Nothing is drained yet: the page is appended and the next one asked for.
    assert_eq!(step(&mut feed, 10_000, Input::Page { drained_to: at(6_400), last: false }), [Effect::Append]);
    assert_eq!(step(&mut feed, 10_000, Input::Appended), [Effect::Next]);
    assert_eq!(step(&mut feed, 10_000, Input::Page { drained_to: at(8_000), last: false }), [Effect::Append]);
    assert_eq!(feed.mark(), None);
    assert_eq!(step(&mut feed, 10_000, Input::Appended), [Effect::Store(at(8_000))]);
    assert_eq!(feed.mark(), None, "on its way is not there");
    assert_eq!(step(&mut feed, 10_000, Input::Stored), [Effect::Next]);
    assert_eq!(feed.mark(), Some(at(8_000)));
    // A window that was halved begins again where it was: the watermark does not go back.
    assert_eq!(step(&mut feed, 10_000, Input::Page { drained_to: at(7_000), last: false }), [Effect::Append]);
    assert_eq!(step(&mut feed, 10_000, Input::Appended), [Effect::Next]);
    assert_eq!(feed.mark(), Some(at(8_000)));
}

#[test]
fn what_finds_no_room_is_handed_over_again_and_nothing_moves() {
    let mut feed = ongoing(None);
    step(&mut feed, 10_000, Input::Tick);
    step(&mut feed, 10_000, Input::Page { drained_to: at(9_880), last: true });
    assert_eq!(step(&mut feed, 10_000, Input::NotAppended), []);
    assert_eq!(step(&mut feed, 10_001, Input::Tick), [Effect::Append]);
    assert_eq!(step(&mut feed, 10_001, Input::Appended), [Effect::Store(at(9_880))]);
    assert_eq!(step(&mut feed, 10_001, Input::NotStored), []);
    assert_eq!((feed.mark(), step(&mut feed, 10_002, Input::Tick)), (None, vec![Effect::Store(at(9_880))]));
}

/// The pause after one failure more, in milliseconds.
fn pause(feed: &mut Feed, trouble: Trouble) -> i64 {
    let now = at(10_000);
    let mut out = Vec::new();
    feed.step(now, Input::Failed(trouble), &mut out);
    assert_eq!(out, []);
    let at = feed.wake_at().unwrap();
    feed.step(at, Input::Tick, &mut out);
    at.as_millis() - now.as_millis()
}

#[test]
fn pauses_grow_to_a_bound_and_end_with_a_page() {
    for (trouble, first, longest) in [(Trouble::Passing, 1_000, 300_000), (Trouble::Barred, 5_000, 60_000)] {
        let mut feed = ongoing(None);
        step(&mut feed, 10_000, Input::Tick);
        let pauses: Vec<i64> = (0..14).map(|_| pause(&mut feed, trouble)).collect();
        let within = |pause: i64, of: i64| (of * 3 / 4..=of).contains(&pause);
        assert!(within(pauses[0], first) && within(pauses[1], 2 * first), "{pauses:?}");
        assert!(within(pauses[13], longest), "{pauses:?}");
        step(&mut feed, 10_000, Input::Page { drained_to: at(6_400), last: false });
        step(&mut feed, 10_000, Input::Appended);
        assert!(within(pause(&mut feed, trouble), first));
        let (other, its_first) = if first == 1_000 { (Trouble::Barred, 5_000) } else { (Trouble::Passing, 1_000) };
        assert!(within(pause(&mut feed, other), its_first), "another kind of failure has its own first pause");
    }
}

#[test]
fn a_pull_that_went_back_and_a_rate_that_was_lowered_are_asked_on_at_once() {
    let mut feed = ongoing(None);
    step(&mut feed, 10_000, Input::Tick);
    for trouble in [Trouble::GoneBack, Trouble::TooOften] {
        assert_eq!(step(&mut feed, 10_000, Input::Failed(trouble)), [Effect::Next]);
    }
}

#[test]
fn what_will_not_pass_waits_for_the_next_window_and_ends_a_stretch() {
    let mut feed = ongoing(None);
    step(&mut feed, 10_000, Input::Tick);
    assert_eq!(step(&mut feed, 10_000, Input::Failed(Trouble::Final)), []);
    assert_eq!(feed.wake_at(), Some(at(10_300)));
    assert_eq!(step(&mut feed, 10_300, Input::Tick), [Effect::Open(window(6_400, 10_180))], "from where it began");
    for _ in 0..5 {
        pause(&mut feed, Trouble::Unknown);
    }
    assert_eq!(step(&mut feed, 10_400, Input::Failed(Trouble::Unknown)), []);
    assert_eq!(feed.wake_at(), Some(at(10_700)), "a few times, then it counts as final");

    let mut once = Feed::new(rules(Span::Once(window(100, 200))), None, at(10_000));
    assert_eq!(step(&mut once, 10_000, Input::Tick), [Effect::Open(window(100, 200))]);
    step(&mut once, 10_000, Input::Failed(Trouble::Final));
    assert_eq!((once.end(), once.wake_at()), (Some(End::Failed), None));
}

#[test]
fn a_stretch_of_history_is_read_once_from_where_it_was_left() {
    let mut once = Feed::new(rules(Span::Once(window(100, 200))), Some(at(150)), at(10_000));
    assert_eq!(step(&mut once, 10_000, Input::Tick), [Effect::Open(window(147, 200))]);
    assert_eq!(sweep(&mut once, 10_000, 200), [Effect::Swept(window(147, 200))]);
    assert_eq!(once.end(), Some(End::Done));
    let mut empty = Feed::new(rules(Span::Once(window(100, 200))), Some(at(200)), at(10_000));
    assert_eq!((step(&mut empty, 10_000, Input::Tick), empty.end()), (vec![], Some(End::Done)));
}

#[test]
fn reports_are_about_whole_days_of_beijing_and_none_is_left_out() {
    let day = 86_400;
    // 2024-09-20T17:00:00+08:00.
    let now = 1_726_822_800;
    let midnight = 1_726_761_600;
    let span = Span::Periods { every: secs(86_400), lag: secs(120) };
    let mut feed = Feed::new(rules(span), None, at(now));
    let yesterday = window(midnight - day, midnight);
    assert_eq!(step(&mut feed, now, Input::Tick), [Effect::Open(yesterday)]);
    assert_eq!(sweep(&mut feed, now, midnight), [Effect::Swept(yesterday)]);
    assert_eq!(feed.wake_at(), Some(at(midnight + day + 120)));
    // Two days later: both days are reported, one after the other.
    let later = midnight + 2 * day + 200;
    assert_eq!(step(&mut feed, later, Input::Tick), [Effect::Open(window(midnight, midnight + day))]);
    let then =
        [Effect::Swept(window(midnight, midnight + day)), Effect::Open(window(midnight + day, midnight + 2 * day))];
    assert_eq!(sweep(&mut feed, later, midnight + day), then);
}

#[test]
fn a_lookback_within_the_lag_begins_when_the_lag_is_over() {
    let span = Span::Ongoing { every: secs(60), lag: secs(120), lookback: secs(30) };
    let mut feed = Feed::new(rules(span), None, at(10_000));
    assert_eq!(step(&mut feed, 10_000, Input::Tick), []);
    assert_eq!(step(&mut feed, 10_060, Input::Tick), []);
    assert_eq!(step(&mut feed, 10_120, Input::Tick), [Effect::Open(window(9_970, 10_000))]);
}

#[test]
fn until_the_first_success_the_beginning_stays_where_it_was() {
    let mut feed = ongoing(None);
    assert_eq!(step(&mut feed, 10_000, Input::Tick), [Effect::Open(window(6_400, 9_880))]);
    // Hours without an answer: what changed meanwhile is not passed over.
    for sweep in 1..100 {
        let now = 10_000 + sweep * 300;
        step(&mut feed, now - 300, Input::Failed(Trouble::Final));
        assert_eq!(step(&mut feed, now, Input::Tick), [Effect::Open(window(6_400, now - 120))]);
    }
}

#[test]
fn another_length_of_period_begins_with_the_rest_of_the_one_at_hand() {
    let (day, hour) = (86_400, 3_600);
    let midnight = 1_726_761_600;
    // Hours were reported until three in the afternoon; now days are asked for.
    let span = Span::Periods { every: secs(86_400), lag: secs(120) };
    let mut feed = Feed::new(rules(span), Some(at(midnight + 15 * hour)), at(midnight + 17 * hour));
    assert_eq!(step(&mut feed, midnight + 17 * hour, Input::Tick), []);
    assert_eq!(feed.wake_at(), Some(at(midnight + day + 120)), "it sleeps until the day is over");
    let rest = window(midnight + 15 * hour, midnight + day);
    assert_eq!(step(&mut feed, midnight + day + 120, Input::Tick), [Effect::Open(rest)]);
    assert_eq!(sweep(&mut feed, midnight + day + 120, midnight + day), [Effect::Swept(rest)]);
    assert_eq!(feed.wake_at(), Some(at(midnight + 2 * day + 120)));
    let whole = window(midnight + day, midnight + 2 * day);
    assert_eq!(step(&mut feed, midnight + 2 * day + 120, Input::Tick), [Effect::Open(whole)]);
}

#[test]
fn what_comes_late_changes_nothing() {
    let mut feed = ongoing(None);
    for input in [Input::Page { drained_to: at(1), last: true }, Input::Appended, Input::Stored, Input::NotStored] {
        assert_eq!(step(&mut feed, 10_000, input), []);
    }
    assert_eq!(feed.wake_at(), Some(at(10_000)));
}
