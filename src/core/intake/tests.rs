//! Re-sends, conflicts, fingerprints; batches that fail; ids across rolls and sealing.

use super::{Done, Intake};
use crate::{
    domain::{Fingerprint, Incarnation, NewEvent, Origin, Partition, Timestamp, Version},
    ingress::Answer,
    journal::{
        Appended, NewRouted,
        ids::{Known, SealedIds},
        samples,
    },
};
use std::sync::Arc;

/// A store with no sealed segments.
struct Nothing;

impl SealedIds for Nothing {
    fn find(&self, _: u64, _: u64) -> Known {
        Known::New
    }
}

fn event(id: u64, body: u64) -> NewEvent {
    NewEvent { id_hash: id, body_hash: body, ..samples::event("a", 10) }
}

fn row(offset: u64) -> NewRouted {
    samples::routed(&Arc::new(event(offset, 0).at(Partition(0), offset, Incarnation(1), false)), &["crm"])
}

type Told = Vec<Done<&'static str, &'static str>>;

const FIRST: Appended = Appended { first_event: 1, first_routed: 1 };

#[test]
fn a_resend_of_a_committed_push_is_answered_at_once_and_one_in_the_batch_shares_its_fate() {
    let mut intake = Intake::new(Nothing);
    let mut told = Told::new();
    assert_eq!(intake.offer(event(1, 1), "first"), None);
    assert_eq!(intake.offer(event(1, 1), "again"), None);
    assert_eq!(intake.take_batch().events.len(), 1);
    intake.committed(FIRST, &mut told);
    assert_eq!(told, [Done::Answer("first", Answer::Stored), Done::Answer("again", Answer::Duplicate)]);
    assert_eq!(intake.offer(event(1, 1), "later"), Some(("later", Answer::Duplicate)));
}

#[test]
fn the_same_id_with_another_body_is_a_new_event_and_flagged() {
    let mut intake = Intake::new(Nothing);
    assert_eq!(intake.offer(event(1, 1), "a"), None);
    assert_eq!(intake.offer(event(1, 2), "b"), None);
    assert_eq!(intake.take_batch().events.len(), 2);
    intake.committed(FIRST, &mut Told::new());
    assert_eq!(intake.offer(event(1, 3), "c"), None);
    assert_eq!(intake.offer(event(1, 2), "d"), Some(("d", Answer::Duplicate)));
    let flags: Vec<bool> = intake.take_batch().events.iter().map(|(_, conflict)| *conflict).collect();
    assert_eq!(flags, [true]);
}

#[test]
fn a_batch_that_finds_no_room_forgets_its_ids_and_keeps_its_decisions() {
    let mut intake = Intake::new(Nothing);
    let mut told = Told::new();
    assert_eq!(intake.offer(event(1, 1), "a"), None);
    intake.add_rows(vec![row(7)], "rows");
    let batch = intake.take_batch();
    intake.no_room(batch, &mut told);
    assert!(matches!(told.as_slice(), [Done::Answer("a", Answer::Full { .. })]), "{told:?}");
    let batch = intake.take_batch();
    assert_eq!((batch.events.len(), batch.routed.as_slice()), (0, [row(7)].as_slice()));
    intake.no_room(batch, &mut told);
    assert_eq!(told.pop(), Some(Done::NoRoom("rows", vec![row(7)])));
    assert!(intake.is_empty());
    assert_eq!(intake.offer(event(1, 1), "a"), None, "a refused push is new when it comes again");
}

#[test]
fn ids_of_the_batch_that_begins_a_segment_stay_when_the_one_before_is_sealed() {
    // The appender rolled before it wrote the batch, or after it: either way the intake hears of it first.
    for (rolled, kept) in [(1, true), (2, false)] {
        let mut intake = Intake::new(Nothing);
        assert_eq!(intake.offer(event(1, 1), "a"), None);
        intake.rolled(rolled);
        intake.committed(FIRST, &mut Told::new());
        intake.sealed(rolled);
        assert_eq!(intake.offer(event(1, 1), "b").is_some(), kept, "rolled at {rolled}");
    }
}

#[test]
fn ids_stay_known_across_a_roll_and_go_to_the_sealed_file_with_their_segment() {
    let mut intake = Intake::new(Nothing);
    intake.offer(event(1, 1), "a");
    intake.committed(FIRST, &mut Told::new());
    intake.rolled(2);
    assert_eq!(intake.offer(event(1, 1), "b"), Some(("b", Answer::Duplicate)));
    intake.sealed(2);
    assert_eq!(intake.unsealed(), 1);
    assert_eq!(intake.offer(event(1, 1), "c"), None, "nothing sealed knows it here");
}

/// An event about a version of a record, `None` where it does not say which.
fn about(origin: Origin, at: Option<i64>) -> NewEvent {
    let (id, body) = (format!("{origin:?}-{at:?}"), format!("{at:?}"));
    let at = at.map(Timestamp::from_millis);
    let version = Version { key: "7".into(), at, stands_for_all: true };
    NewEvent {
        origin,
        id_hash: samples::KEYS.id("laigu", "acme", &id),
        body_hash: samples::KEYS.body(body.as_bytes()),
        fingerprint: Fingerprint::of(&samples::KEYS, ("laigu", "acme"), "conversation.closed", Some(&version), origin),
        ..samples::event("a", 10)
    }
}

/// What becomes of each event: stored, superseded, or known already. In one batch, or a commit after each.
fn fates(events: &[(Origin, Option<i64>)], commits: bool) -> Vec<&'static str> {
    let mut intake = Intake::new(Nothing);
    let mut fates = Vec::new();
    for (origin, at) in events {
        let before = intake.batch.events.len();
        let _ = intake.offer(about(*origin, *at), "");
        fates.push(match intake.batch.events.get(before) {
            None => "known",
            Some((event, _)) if event.superseded => "superseded",
            Some(_) => "stored",
        });
        if commits {
            let _ = intake.take_batch();
            intake.committed(FIRST, &mut Told::new());
        }
    }
    fates
}

#[test]
fn of_a_push_and_its_reconciled_copy_only_the_first_goes_out() {
    let (push, found, other) = (Origin::Push, Origin::Reconcile, Origin::Poll);
    for (events, expected) in [
        // The push came first, or late; each version for itself.
        (vec![(push, Some(1)), (found, Some(1))], vec!["stored", "known"]),
        (vec![(found, Some(1)), (push, Some(1))], vec!["stored", "superseded"]),
        (vec![(found, Some(1)), (push, Some(2))], vec!["stored", "stored"]),
        (vec![(push, Some(1)), (found, Some(2))], vec!["stored", "stored"]),
        (vec![(found, Some(1)), (found, Some(1))], vec!["stored", "known"]),
        // A push that names no version stands for all of them.
        (vec![(push, None), (found, Some(1))], vec!["stored", "known"]),
        (vec![(found, Some(1)), (push, None)], vec!["stored", "superseded"]),
        // Two reconciled versions are two.
        (vec![(found, Some(1)), (found, Some(2))], vec!["stored", "stored"]),
        // Whatever else there is has nothing to do with it.
        (vec![(other, Some(1)), (found, Some(1)), (push, Some(1))], vec!["stored", "stored", "superseded"]),
    ] {
        for commits in [false, true] {
            assert_eq!(fates(&events, commits), expected, "{events:?}, commits: {commits}");
        }
    }
}

#[test]
fn two_pushes_of_one_version_are_both_delivered() {
    let mut intake: Intake<_, _, &str> = Intake::new(Nothing);
    let again = NewEvent { id_hash: 5, ..about(Origin::Push, Some(1)) };
    assert_eq!(intake.offer(about(Origin::Push, Some(1)), "a"), None);
    assert_eq!(intake.offer(again, "b"), None);
    let batch = intake.take_batch();
    assert!(batch.events.iter().all(|(event, _)| !event.superseded) && batch.events.len() == 2);
}

#[test]
fn a_fingerprint_is_known_after_its_commit_and_not_after_a_rollback() {
    let mut intake = Intake::new(Nothing);
    let found = || about(Origin::Reconcile, Some(1));
    assert_eq!(intake.offer(found(), "a"), None);
    let batch = intake.take_batch();
    intake.no_room(batch, &mut Told::new());
    assert_eq!(intake.offer(about(Origin::Push, Some(1)), "b"), None);
    assert!(!intake.take_batch().events[0].0.superseded, "the record was rolled back: nothing went out of it");
    intake.committed(FIRST, &mut Told::new());
    assert_eq!(intake.offer(found(), "c"), Some(("c", Answer::Duplicate)));
    intake.rolled(2);
    intake.sealed(2);
    assert_eq!(intake.offer(found(), "d"), None, "nothing sealed knows it here");
}
