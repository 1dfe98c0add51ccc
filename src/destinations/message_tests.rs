//! What consumers receive, field by field.

use super::{Mark, Message, PrefixMap, TypePrefixes};
use crate::{
    destinations::fixtures::{attempt, event},
    domain::{Attempt, Headers, Origin, ReplayJob, SourceName, Timestamp},
};

fn prefixes() -> PrefixMap {
    PrefixMap::from([(SourceName::parse("laigu").unwrap(), "com.laigu.".into())])
}

fn rendered(attempt: &Attempt) -> Message {
    let mut message = Message::default();
    // What was in the buffer before must not show.
    let mut other = event("{}");
    (other.origin, other.key) = (Origin::Poll, Some("another".into()));
    message.render(&self::attempt(other, 99, Vec::new()), &prefixes());
    message.render(attempt, &prefixes());
    message
}

fn lines(message: &Message) -> Vec<String> {
    message
        .marks()
        .filter(|(mark, _)| *mark != Mark::TraceParent)
        .map(|(mark, text)| format!("{} {text}", mark.kafka_header()))
        .collect()
}

#[test]
fn an_ordinary_push_has_the_marks_of_the_contract_and_no_others() {
    let attempt = attempt(event("{\"a\": 1.0}\n"), 42, Vec::new());
    let message = rendered(&attempt);
    assert_eq!(
        lines(&message),
        [
            "ce_specversion 1.0",
            "ce_id evt_01920ebe9118deadbeef000000000000002a",
            "x-delivery evt_01920ebe9118deadbeef000000000000002a/leads",
            "ce_source /laigu/acme",
            "ce_type com.laigu.cus.upsert",
            "ce_time 2024-09-20T09:23:42.989Z",
            "ce_subject trk_1",
            "content-type application/json",
            "x-route leads",
            "x-attempt 1",
            "x-vendor-id sub_1",
        ]
    );
    assert_eq!(message.value(), &attempt.delivery.event().body);
    assert_eq!(message.time().as_millis(), 1_726_824_222_989);
    assert!(message.get(Mark::TraceParent).is_some());
}

#[test]
fn the_delivery_mark_is_the_identity_of_the_delivery() {
    let mut attempt = attempt(event("{}"), 42, Vec::new());
    for (replay, again) in [(None, false), (Some(ReplayJob(5)), false), (Some(ReplayJob(5)), true)] {
        (attempt.delivery.replay, attempt.delivery.again) = (replay, again);
        let message = rendered(&attempt);
        assert_eq!(message.get(Mark::Delivery), Some(attempt.delivery.id().as_str()), "{replay:?} {again}");
        assert_eq!(message.get(Mark::Id), Some(&*attempt.delivery.event().id.to_string()));
        assert_eq!(message.get(Mark::Replay), replay.map(|_| "rep_0000000000000005"));
    }
}

#[test]
fn what_a_push_does_not_have_is_absent() {
    let mut event = event("{}");
    (event.key, event.vendor_id, event.sent_at) = (None, None, None);
    event.origin = Origin::Reconcile;
    event.kind = "".into();
    let conflict = attempt(event, 1, Vec::new());
    let message = rendered(&conflict);
    assert_eq!(message.get(Mark::Subject), None);
    assert_eq!(message.get(Mark::VendorId), None);
    assert_eq!(message.get(Mark::Origin), Some("reconcile"));
    assert_eq!(message.get(Mark::Time), Some("2024-09-20T09:23:43.000Z"));
    assert_eq!(message.get(Mark::Type), Some("com.laigu.unknown"));
}

#[test]
fn ids_and_times_read_as_they_do_everywhere_else() {
    let mut message = Message::default();
    for millis in [0, 1, 999, 1_000, 1_726_824_222_989, 1_726_824_222_001, -1, -1_001, 253_402_207_200_000] {
        let mut event = event("{}");
        event.sent_at = Some(Timestamp::from_millis(millis));
        event.received_at = Timestamp::from_millis(millis.max(0));
        let attempt = attempt(event, 0xabc_0000_0007, Vec::new());
        message.render(&attempt, &prefixes());
        assert_eq!(message.get(Mark::Time), Some(&*Timestamp::from_millis(millis).to_string()));
        assert_eq!(message.get(Mark::Id), Some(&*attempt.delivery.event().id.to_string()));
    }
}

#[test]
fn the_trace_of_the_push_goes_on() {
    let mut event = event("{}");
    event.headers = Headers("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into());
    let attempt = attempt(event, 1, Vec::new());
    let message = rendered(&attempt);
    let parent = message.get(Mark::TraceParent).unwrap();
    assert!(parent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{parent}");
}

#[test]
fn prefixes_are_replaced_for_every_holder() {
    let first = TypePrefixes::default();
    let second = first.clone();
    first.replace(prefixes());
    assert_eq!(*second.snapshot(), prefixes());
}

#[test]
fn no_two_marks_share_a_name_and_members_are_plain_words() {
    let marks = [
        Mark::SpecVersion,
        Mark::Id,
        Mark::Source,
        Mark::Type,
        Mark::Time,
        Mark::Subject,
        Mark::ContentType,
        Mark::Delivery,
        Mark::Route,
        Mark::Attempt,
        Mark::Replay,
        Mark::VendorId,
        Mark::Origin,
        Mark::IdConflict,
        Mark::TraceParent,
    ];
    for names in [marks.map(Mark::member), marks.map(Mark::kafka_header)] {
        let unique: std::collections::BTreeSet<_> = names.into_iter().collect();
        assert_eq!(unique.len(), marks.len());
    }
    for mark in marks {
        assert!(mark.member().bytes().all(|byte| byte.is_ascii_lowercase()), "{mark:?}");
    }
}
