//! How old a record may be for whom, and what that costs.

use super::{BUDGET, Run, answer, at, failed, found, good, want};
use crate::core::enrich::{End, Input, Reason, Source, Target, Trouble, Want, What, lists};

/// An API whose records say when it was asked.
fn dated(target: &Target, now: i64) -> Input {
    match target {
        Target::One(_, id) => answer(vec![found(id, now)]),
        Target::List(..) => answer(vec![found("s", now)]),
    }
}

/// When the record that a want ended with was asked for.
fn asked_at(run: &Run, ticket: u64) -> i64 {
    match run.end(ticket) {
        End::Ok(_, asked) => asked.as_millis() - at(0).as_millis(),
        other => panic!("{ticket} ended {other:?}"),
    }
}

#[test]
fn an_event_that_comes_after_the_call_gets_a_record_of_its_own_time() {
    // A conversation is not asked for again before it has rested.
    for (what, id, again) in [(What::Conversation, "7", 2_200), (What::Session, "s", 1_200)] {
        let mut run = Run::new(100, dated);
        run.want(want(1, what, id, 0));
        run.until(1_000);
        // The conversation has an agent now; the push shows no version, or the same end.
        run.want(want(2, what, id, 1_000));
        run.until(2_500);
        assert_eq!((asked_at(&run, 1), asked_at(&run, 2)), (200, again), "{what:?}");
        assert_eq!(run.calls.len(), 2);
        // An event that lay in a backlog while the second call was made.
        run.want(Want { received_at: at(again), ..want(3, what, id, 2_500) });
        assert_eq!((asked_at(&run, 3), run.done[&3].2), (again, Source::Cache), "{what:?}");
    }
}

#[test]
fn who_comes_while_the_call_is_out_waits_for_the_next_one_without_a_pause() {
    let mut run = Run::new(100, dated);
    run.latency = 1_000;
    run.want(want(1, What::Conversation, "7", 0));
    run.until(900);
    assert_eq!(run.calls.len(), 1, "it is out");
    run.want(want(2, What::Conversation, "7", 900));
    // Someone in a hurry: the next call is made as soon as this one is back.
    run.want(Want { deadline: at(2_500), ..want(3, What::Conversation, "7", 900) });
    run.until(1_301);
    assert_eq!((asked_at(&run, 1), run.done.len(), run.calls.len()), (200, 1, 2));
    run.until(4_000);
    assert_eq!((asked_at(&run, 2), asked_at(&run, 3)), (1_300, 1_300), "a quarter of what there was");
}

#[test]
fn at_the_deadline_an_older_record_is_better_than_nothing() {
    let mut run = Run::new(100, |target, now| match target {
        Target::One(_, id) if now < 500 => answer(vec![found(id, 0)]),
        _ => failed(Trouble::Again, Reason::Unreachable),
    });
    run.want(want(1, What::Conversation, "7", 0));
    run.until(500);
    run.want(want(2, What::Conversation, "7", 500));
    run.until(500 + BUDGET + 1);
    assert_eq!((asked_at(&run, 2), run.done[&2].0), (200, 500 + BUDGET));
}

#[test]
fn a_clock_that_was_set_back_does_not_ask_for_ever() {
    let mut run = Run::new(100, dated);
    run.want(Want { received_at: at(60_000), ..want(1, What::Conversation, "7", 0) });
    run.until(1_000);
    assert_eq!((asked_at(&run, 1), run.calls.len()), (200, 1));
}

#[test]
fn events_of_one_key_wait_for_each_other_and_still_cost_one_call() {
    // The router has one event of a key in hand: the next one is wanted when the one before has gone on.
    let mut run = Run::new(100, good);
    let came: Vec<i64> = (0..20).map(|number| number * 50).collect();
    run.want(want(0, What::Conversation, "7", 0));
    for now in &came[1..] {
        run.until(*now);
        run.step(Input::Coming(What::Conversation, "7".into()));
        run.step(Input::Coming(What::Conversation, "nobody".into()));
    }
    run.until(950 + 260);
    for (ticket, received) in (0_u64..).zip(&came).skip(1) {
        run.want(Want { received_at: at(*received), ..want(ticket, What::Conversation, "7", run.now) });
        assert_eq!((asked_at(&run, ticket), run.done[&ticket].2), (1_150, Source::Cache), "{received}");
    }
    assert_eq!(run.calls.len(), 1);
}

#[test]
fn a_burst_that_does_not_end_is_asked_for_all_the_same() {
    let mut run = Run::new(100, good);
    run.want(want(0, What::Conversation, "7", 0));
    for now in (100..=6_000).step_by(100) {
        run.until(now);
        run.step(Input::Coming(What::Conversation, "7".into()));
    }
    let longest = i64::try_from(lists::GATHER_MAX.as_millis()).unwrap();
    assert_eq!(run.calls.first().map(|(when, _)| *when), Some(longest));
    // Who is in a hurry waits for a quarter of what there is.
    run.want(Want { deadline: at(6_400), ..want(1, What::Conversation, "8", 6_000) });
    run.until(6_200);
    assert_eq!(run.calls.last().map(|(when, _)| *when), Some(6_100));
}
