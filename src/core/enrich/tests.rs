//! The schedule of one tenant against an API in a few lines, on a clock that only the test moves.

mod ages;

use super::{Effect, End, Found, Input, Reason, Source, Target, Tenant, Trouble, WAITING_MAX, Want, What, deadline};
use crate::{
    config::settings::Rate,
    core::gate::Gate,
    domain::{Record, Timestamp},
};
use bytes::Bytes;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const BUDGET: i64 = 15_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000 + millis)
}

fn want(ticket: u64, what: What, id: &str, now: i64) -> Want {
    let received_at = at(now);
    Want { ticket, what, id: id.into(), at: received_at, version: None, received_at, deadline: at(now + BUDGET) }
}

fn found(id: &str, version: i64) -> Found {
    let record = Arc::new(Record { bytes: Bytes::from(format!("{{\"v\":{version}}}")), hash: 1 });
    Found { id: id.into(), version: Some(at(version)), record: Some(record) }
}

/// What the API does with a call.
type Api = Box<dyn FnMut(&Target, i64) -> Input>;

struct Run {
    tenant: Tenant,
    gate: Gate,
    now: i64,
    api: Api,
    /// Answers on their way: when, and to which lookup.
    coming: BTreeMap<(i64, u64), Target>,
    latency: i64,
    calls: Vec<(i64, Target)>,
    done: BTreeMap<u64, (i64, End, Source)>,
}

impl Run {
    fn new(rate: u32, api: impl FnMut(&Target, i64) -> Input + 'static) -> Self {
        Self {
            tenant: Tenant::default(),
            gate: Gate::new(Rate { count: rate, per: Duration::from_secs(1) }),
            now: 0,
            api: Box::new(api),
            coming: BTreeMap::new(),
            latency: 50,
            calls: Vec::new(),
            done: BTreeMap::new(),
        }
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.tenant.step(at(self.now), input, &mut self.gate, &mut effects);
        for effect in effects {
            match effect {
                Effect::Call(lookup, target) => {
                    self.calls.push((self.now, target.clone()));
                    self.coming.insert((self.now + self.latency, lookup), target);
                }
                Effect::Close(_) => {}
                Effect::Done(ticket, end, source) => {
                    assert!(self.done.insert(ticket, (self.now, end, source)).is_none(), "{ticket} ends once");
                }
            }
        }
    }

    fn want(&mut self, want: Want) {
        self.step(Input::Want(want, 0));
    }

    /// Lets time pass, millisecond by millisecond where something happens.
    fn until(&mut self, millis: i64) {
        while self.now < millis {
            let due = self.tenant.wake_at().is_some_and(|wake| wake <= at(self.now));
            if let Some((&(when, lookup), _)) = self.coming.first_key_value().filter(|((when, _), _)| *when <= self.now)
            {
                let target = self.coming.remove(&(when, lookup)).unwrap();
                let input = match (self.api)(&target, self.now) {
                    Input::Answered { found, more, .. } => Input::Answered { lookup, found, more },
                    Input::Failed(_, trouble, reason) => Input::Failed(lookup, trouble, reason),
                    other => other,
                };
                self.step(input);
            } else if due {
                self.step(Input::Tick);
                assert!(self.tenant.wake_at().is_none_or(|wake| wake > at(self.now)), "it wakes for nothing");
            } else {
                self.now += 1;
            }
        }
    }

    fn end(&self, ticket: u64) -> &End {
        &self.done.get(&ticket).unwrap_or_else(|| panic!("{ticket} has not ended")).1
    }

    fn version(&self, ticket: u64) -> String {
        match self.end(ticket) {
            End::Ok(record, _) => String::from_utf8(record.bytes.to_vec()).unwrap(),
            other => panic!("{ticket} ended {other:?}"),
        }
    }
}

fn answer(found: Vec<Found>) -> Input {
    Input::Answered { lookup: 0, found, more: false }
}

fn failed(trouble: Trouble, reason: Reason) -> Input {
    Input::Failed(0, trouble, reason)
}

/// An API that has every conversation, and lists every client that it is asked about as changed at 0.
fn good(target: &Target, _: i64) -> Input {
    match target {
        Target::One(_, id) => answer(vec![found(id, 0)]),
        Target::List(..) => answer((0..30).map(|n| found(&n.to_string(), 0)).collect()),
    }
}

#[test]
fn a_thousand_events_about_fifty_conversations_cost_fifty_calls() {
    let mut run = Run::new(200, good);
    for ticket in 0..1_000 {
        run.want(want(ticket, What::Conversation, &(ticket % 50).to_string(), run.now));
        run.until(i64::try_from(ticket).unwrap());
    }
    run.until(3_000);
    assert_eq!((run.done.len(), run.calls.len()), (1_000, 50));
    assert!(run.done.values().all(|(_, end, _)| matches!(end, End::Ok(..))));
}

#[test]
fn a_burst_about_clients_costs_one_walk_over_the_list() {
    // 95 clients changed; a page holds 20.
    let mut page = 0;
    let mut run = Run::new(20, move |_, _| {
        page += 1;
        let (first, last) = ((page - 1) * 20, (page * 20).min(95));
        let more = last < 95;
        Input::Answered { lookup: 0, found: (first..last).map(|n| found(&n.to_string(), 2_000)).collect(), more }
    });
    for ticket in 0..95 {
        let now = i64::try_from(ticket).unwrap() * 10;
        run.until(now);
        run.want(Want { version: Some(at(now)), ..want(ticket, What::Client, &ticket.to_string(), now) });
    }
    run.until(4_000);
    assert_eq!((run.done.len(), run.calls.len()), (95, 5));
    assert!(run.done.values().all(|(_, end, _)| matches!(end, End::Ok(..))));
    // What changes again within the moment is known already.
    run.want(Want { version: Some(at(2_000)), ..want(900, What::Client, "7", 4_000) });
    assert!(matches!(run.done[&900], (4_000, End::Ok(..), Source::Cache)));
}

#[test]
fn a_walk_ends_when_everybody_is_found() {
    let mut run = Run::new(20, |_, _| Input::Answered { lookup: 0, found: vec![found("a", 0)], more: true });
    run.want(want(1, What::Client, "a", 0));
    run.until(5_000);
    assert_eq!(run.calls.len(), 1);
}

#[test]
fn a_record_older_than_the_event_is_asked_for_again_and_never_given_out() {
    let mut run = Run::new(20, |target, now| match target {
        Target::One(_, id) => answer(vec![found(id, if now < 3_000 { 0 } else { 1_500 })]),
        Target::List(..) => unreachable!(),
    });
    run.want(Want { version: Some(at(1_500)), ..want(1, What::Conversation, "7", 0) });
    run.want(Want { version: Some(at(9_000)), ..want(2, What::Conversation, "7", 0) });
    run.want(Want { version: Some(at(0)), ..want(3, What::Conversation, "7", 0) });
    run.until(20_000);
    assert_eq!(run.version(1), "{\"v\":1500}");
    assert_eq!(*run.end(2), End::Failed(Reason::Stale));
    assert_eq!(run.version(3), "{\"v\":0}");
    assert_eq!(run.done[&2].0, BUDGET, "to the end of its budget");
}

#[test]
fn what_is_not_there_until_the_end_is_missing_and_known_to_be_for_a_moment() {
    let mut run = Run::new(20, |target, _| match target {
        Target::One(..) => failed(Trouble::NotFound, Reason::Refused),
        Target::List(..) => answer(Vec::new()),
    });
    run.want(want(1, What::Conversation, "7", 0));
    run.want(Want { version: Some(at(0)), ..want(2, What::Client, "a", 0) });
    run.until(BUDGET + 10);
    assert_eq!((run.end(1), run.end(2)), (&End::Missing, &End::Missing));
    let calls = run.calls.len();
    assert!((6..=14).contains(&calls), "{calls}");
    run.want(want(3, What::Conversation, "7", run.now));
    assert_eq!(*run.end(3), End::Missing);
    assert_eq!(run.calls.len(), calls);
}

#[test]
fn what_appears_late_is_found_within_the_budget() {
    let mut run = Run::new(20, |target, now| match target {
        Target::One(_, id) if now > 4_000 => answer(vec![found(id, 0)]),
        Target::One(..) => failed(Trouble::NotFound, Reason::Refused),
        Target::List(what, from, to) => {
            assert_eq!(*what, What::Client);
            // It changed again a while after the event: a wider window has it.
            let listed = *from <= at(-500_000) && at(-500_000) <= *to;
            answer(if listed { vec![found("a", -500_000)] } else { Vec::new() })
        }
    });
    run.want(want(1, What::Conversation, "7", 0));
    run.want(Want { at: at(-1_000_000), ..want(2, What::Client, "a", 0) });
    run.until(BUDGET);
    assert!(matches!(run.end(1), End::Ok(..)) && matches!(run.end(2), End::Ok(..)), "{:?}", run.done);
}

#[test]
fn a_client_that_changed_again_hours_later_is_found_and_one_that_did_not_change_is_not_listed() {
    // The API was down: who is asked for as of two hours ago has changed again ten minutes ago.
    let (pushed, changed) = (-7_200_000, -600_000);
    let mut run = Run::new(20, move |target, _| match target {
        Target::List(What::Client, from, to) => {
            let listed = *from <= at(changed) && at(changed) <= *to;
            answer(if listed { vec![found("a", changed)] } else { Vec::new() })
        }
        _ => unreachable!(),
    });
    run.want(Want { at: at(pushed), version: Some(at(pushed)), ..want(1, What::Client, "a", 0) });
    run.want(want(2, What::Client, "b", 0));
    run.until(BUDGET + 10);
    assert_eq!(run.version(1), "{\"v\":-600000}");
    assert_eq!(*run.end(2), End::Failed(Reason::NotListed));
    run.want(want(3, What::Client, "b", run.now));
    assert_eq!(*run.end(3), End::Failed(Reason::NotListed), "known for a moment");
}

#[test]
fn each_trouble_has_its_consequence() {
    let check = |trouble, reason, calls: std::ops::RangeInclusive<usize>, ends: std::ops::RangeInclusive<i64>| {
        let mut run = Run::new(100, move |_, _| failed(trouble, reason));
        run.want(want(1, What::Conversation, "7", 0));
        run.until(BUDGET + 10);
        assert_eq!(*run.end(1), End::Failed(reason), "{trouble:?}");
        assert!(calls.contains(&run.calls.len()), "{trouble:?}: {} calls", run.calls.len());
        assert!(ends.contains(&run.done[&1].0), "{trouble:?}: at {}", run.done[&1].0);
    };
    let (end, at_once) = (BUDGET..=BUDGET, 200..=260);
    check(Trouble::Again, Reason::VendorError, 5..=8, end.clone());
    check(Trouble::Few, Reason::BadAnswer, 3..=3, 0..=3_000);
    check(Trouble::Slow(None), Reason::RateLimited, 2..=15, end);
    check(Trouble::Closed, Reason::Credentials, 1..=1, at_once.clone());
    check(Trouble::Never, Reason::Refused, 1..=1, at_once);
    check(Trouble::Anew, Reason::Refused, 17..=17, 0..=1_200);
}

#[test]
fn refused_credentials_fail_everybody_at_once_until_a_probe_is_answered() {
    let mut run = Run::new(100, |target, now| match target {
        Target::One(_, id) if now > 60_000 => answer(vec![found(id, 0)]),
        _ => failed(Trouble::Closed, Reason::Credentials),
    });
    for ticket in 0..20 {
        run.want(want(ticket, What::Conversation, &ticket.to_string(), 0));
    }
    run.until(300);
    assert_eq!(run.done.len(), 20);
    run.until(30_000);
    run.want(want(20, What::Conversation, "20", run.now));
    assert_eq!(*run.end(20), End::Failed(Reason::Credentials));
    let before = run.calls.len();
    run.until(70_000);
    run.want(want(21, What::Conversation, "21", run.now));
    run.want(want(22, What::Conversation, "22", run.now));
    assert_eq!(*run.end(22), End::Failed(Reason::Credentials), "one probes, the others do not wait for it");
    run.until(70_300);
    assert!(matches!(run.end(21), End::Ok(..)));
    assert_eq!(run.calls.len(), before + 1);
    run.want(want(23, What::Conversation, "23", run.now));
    run.until(70_600);
    assert!(matches!(run.end(23), End::Ok(..)));
}

#[test]
fn a_list_that_is_refused_by_itself_neither_closes_the_gate_nor_opens_it() {
    let mut run = Run::new(100, |target, now| match target {
        Target::List(What::Agent, ..) => failed(Trouble::Never, Reason::Credentials),
        Target::One(_, id) if now < 2_000 => answer(vec![found(id, 0)]),
        _ => failed(Trouble::Closed, Reason::Credentials),
    });
    run.want(want(1, What::Agent, "a", 0));
    run.until(900);
    assert_eq!(*run.end(1), End::Failed(Reason::Credentials));
    run.want(want(2, What::Conversation, "7", 900));
    run.until(2_000);
    assert!(matches!(run.end(2), End::Ok(..)), "{:?}", run.done);
    run.want(want(3, What::Conversation, "8", 2_000));
    run.until(63_000);
    // The probe of a closed gate is the list: it stays closed.
    run.want(want(4, What::Agent, "a", run.now));
    run.until(64_000);
    run.want(want(5, What::Conversation, "9", run.now));
    assert_eq!(run.done[&5], (64_000, End::Failed(Reason::Credentials), Source::Cache));
}

#[test]
fn an_api_that_is_taken_away_fails_whoever_waits_at_once_and_leaves_nothing_behind() {
    let mut run = Run::new(10, good);
    run.latency = 5_000;
    run.want(want(0, What::Conversation, "c", 0));
    run.want(want(1, What::Client, "3", 0));
    run.until(3_000);
    assert_eq!(run.calls.len(), 2);
    run.want(want(2, What::Client, "4", 3_000));
    run.step(Input::Removed);
    for ticket in 0..3 {
        assert_eq!(run.done[&ticket], (3_000, End::Failed(Reason::NoApi), Source::Asked), "{ticket}");
    }
    run.until(20_000);
    assert_eq!((run.calls.len(), run.tenant.waiting(), run.tenant.calls()), (2, 0, 0));
    // Back again: what came late under the old API may serve; nothing keeps a new call back.
    run.want(want(3, What::Conversation, "d", 20_000));
    run.until(26_000);
    assert_eq!(run.version(3), "{\"v\":0}");
}

#[test]
fn an_api_that_hangs_holds_few_calls_and_nobody_beyond_its_budget() {
    let mut run = Run::new(100, good);
    run.latency = 1_000_000;
    for ticket in 0..100 {
        run.want(want(ticket, What::Conversation, &ticket.to_string(), 0));
    }
    run.want(want(100, What::Client, "a", 0));
    run.until(BUDGET + 1);
    assert_eq!(run.calls.len(), 8);
    assert!(run.done.values().all(|(when, end, _)| *when == BUDGET && *end == End::Failed(Reason::Timeout)));
    assert_eq!(run.done.len(), 101);
}

#[test]
fn what_the_rate_does_not_allow_in_time_is_told_so() {
    let mut run = Run::new(2, good);
    for ticket in 0..100 {
        run.want(want(ticket, What::Conversation, &ticket.to_string(), 0));
    }
    run.until(BUDGET + 10);
    let limited = run.done.values().filter(|(_, end, _)| *end == End::Failed(Reason::RateLimited)).count();
    assert!((65..=70).contains(&limited), "{limited}");
    assert!(run.calls.len() <= 32, "{}", run.calls.len());
}

#[test]
fn too_many_are_told_at_once_also_for_other_tenants_sake() {
    let mut run = Run::new(1, good);
    let full = u64::try_from(WAITING_MAX).unwrap();
    for ticket in 0..full {
        run.want(want(ticket, What::Conversation, "7", 0));
    }
    run.want(want(full, What::Conversation, "7", 0));
    assert_eq!(*run.end(full), End::Failed(Reason::Busy));
    let mut other = Run::new(1, good);
    other.step(Input::Want(want(1, What::Conversation, "7", 0), super::WAITING_ALL_MAX));
    assert_eq!(*other.end(1), End::Failed(Reason::Busy));
}

#[test]
fn when_the_api_fails_what_was_known_serves_if_it_is_no_older_than_the_event() {
    let mut run = Run::new(100, |target, now| match target {
        Target::One(_, id) if now < 1_000 => answer(vec![found(id, 0)]),
        _ => failed(Trouble::Never, Reason::Refused),
    });
    run.want(want(1, What::Conversation, "7", 0));
    run.until(100_000);
    run.want(want(2, What::Conversation, "7", run.now));
    run.want(Want { version: Some(at(99_000)), ..want(3, What::Conversation, "7", run.now) });
    run.until(101_000);
    assert_eq!(run.version(2), "{\"v\":0}");
    assert_eq!(*run.end(3), End::Failed(Reason::Refused));
}

#[test]
fn a_record_that_is_too_large_is_not_passed_on() {
    let mut run = Run::new(100, |_, _| answer(vec![Found { record: None, ..found("7", 0) }]));
    run.want(want(1, What::Conversation, "7", 0));
    run.until(1_000);
    assert_eq!(*run.end(1), End::Failed(Reason::TooLarge));
}

#[test]
fn an_event_that_comes_too_late_gets_what_is_known_and_costs_no_call() {
    let mut run = Run::new(100, good);
    run.want(want(1, What::Conversation, "7", 0));
    run.until(500);
    let calls = run.calls.len();
    let late = |ticket, id| Want { deadline: at(0), ..want(ticket, What::Conversation, id, 500) };
    run.want(late(2, "7"));
    run.want(late(3, "8"));
    assert!(matches!(run.end(2), End::Ok(..)));
    assert_eq!(*run.end(3), End::Failed(Reason::TooLate));
    assert_eq!(run.calls.len(), calls);
}

#[test]
fn all_agents_come_with_one_list() {
    let mut run = Run::new(100, |target, _| {
        assert!(matches!(target, Target::List(What::Agent, ..)));
        answer((0..25).map(|n| found(&n.to_string(), 0)).collect())
    });
    for ticket in 0..25 {
        run.want(want(ticket, What::Agent, &ticket.to_string(), 0));
    }
    run.until(1_000);
    run.want(want(50, What::Agent, "3", run.now));
    run.want(want(51, What::Agent, "nobody", run.now));
    run.until(20_000);
    assert!(run.done.iter().all(|(ticket, (_, end, _))| *ticket == 51 || matches!(end, End::Ok(..))));
    assert_eq!(*run.end(51), End::Missing);
    assert_eq!(run.calls.len(), 3, "one for all, and two for the one who is not there");
}

#[test]
fn a_required_record_is_tried_for_a_while_also_behind_the_budget() {
    let second = Duration::from_secs(1);
    assert_eq!(deadline(at(0), 15 * second, false, at(20_000)), at(15_000));
    assert_eq!(deadline(at(0), 15 * second, true, at(20_000)), at(35_000));
    assert_eq!(deadline(at(0), 3_600 * second, true, at(4_000_000)), at(4_015_000));
    assert_eq!(deadline(at(0), 3_600 * second, true, at(20_000)), at(3_600_000));
}
