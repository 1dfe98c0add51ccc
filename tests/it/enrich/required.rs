//! Routes that would rather wait: the key is parked, survives a crash, and comes back in order.

use super::{Line, Vendor, home, lines, push, wait_for_lines};
use crate::program::{Home, PATIENCE, get, wait_for};
use laigu_router::{
    domain::Timestamp,
    sandbox::{
        faults::{Endpoint, Fault},
        world::is_customer,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

const REQUIRED: &str = "routes:
  - { name: talks, enrich: [conversation], required: true, enrich_within: 500ms, to: [archive] }
";

/// Pushes some events of some conversations in turn.
fn push_rounds(vendor: &Vendor, home: &Home, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for index in 0..5 {
            let (_, mut body) = vendor.conversation(index, "conversation.updated");
            body.truncate(body.len() - 1);
            body.extend_from_slice(format!(",\"round\":{round}}}").as_bytes());
            push(home, &body);
        }
    }
}

/// Checks that all came, each with its record, and those of a conversation in order. After a crash some come again.
fn check(home: &Home, rounds: usize) {
    let firsts = |lines: Vec<Line>| {
        let mut seen = BTreeSet::new();
        lines.into_iter().filter(|line| seen.insert(line.delivery.clone())).collect::<Vec<_>>()
    };
    let what = format!("{rounds} rounds");
    let lines = wait_for(&what, PATIENCE, || Some(firsts(lines(home))).filter(|lines| lines.len() >= rounds * 5));
    assert_eq!(lines.len(), rounds * 5);
    let mut last = BTreeMap::new();
    for line in &lines {
        assert_eq!(line.ended("conversation"), ("ok", ""));
        let round = line.value["round"].as_u64().unwrap();
        let before = last.insert(line.subject.clone(), round);
        assert!(before.is_none_or(|before| before + 1 == round), "{} came after {before:?}", round);
    }
}

#[test]
fn a_required_record_is_waited_for_and_its_keys_events_come_in_order() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(Endpoint::Conversation, u32::MAX, Fault::Status(500));
    let home = home(&vendor.api("100/s"), REQUIRED);
    let program = home.start();
    push_rounds(&vendor, &home, 0..4);
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 5.0);
    push_rounds(&vendor, &home, 4..6);
    assert!(lines(&home).is_empty(), "nothing goes on without its record");
    vendor.sandbox.faults().clear();
    check(&home, 6);
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 0.0);
}

#[test]
fn who_waits_waits_on_after_a_crash() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(Endpoint::Conversation, u32::MAX, Fault::Errno(10015));
    let home = home(&vendor.api("100/s"), REQUIRED);
    let program = home.start();
    push_rounds(&vendor, &home, 0..2);
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 5.0);
    // What is parked is durable a moment later.
    wait_for("a settlement", PATIENCE, || parked_in_store(&home).then_some(()));
    program.kill();
    let program = home.start();
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 5.0);
    push_rounds(&vendor, &home, 2..4);
    vendor.sandbox.faults().clear();
    check(&home, 4);
    program.kill();
    // What was decided once is not decided again.
    let program = home.start();
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 0.0);
    push_rounds(&vendor, &home, 4..5);
    check(&home, 5);
    program.wait_for("laigu_router_routed_total", &[], 5.0);
}

/// Whether the events of a list of the admin API are said to be parked.
fn parked_in_store(home: &Home) -> bool {
    get(home.admin, "/api/v1/events?state=parked").is_some_and(|(status, text)| {
        assert_eq!(status, 200, "{text}");
        text.contains("\"parked\"")
    })
}

#[test]
fn a_required_record_that_never_comes_ends_as_a_dead_letter() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(Endpoint::Conversation, u32::MAX, Fault::Errno(10015));
    let routes = format!("{REQUIRED}  - {{ name: rest, to: [archive] }}\n");
    let text = super::text(&vendor.api("100/s"), &routes).replace("backoff:", "max_age: 10s, backoff:");
    let home = Home::new("{ path: ./data }", &text);
    let program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    program.wait_for("laigu_router_dead_letters_total", &["cause=\"enrichment_required\""], 1.0);
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].route, "rest", "the other route of the event fires");
    let (_, text) = get(home.admin, "/api/v1/dead-letters?cause=enrichment_required").unwrap();
    assert!(text.contains("\"route\":\"talks\""), "{text}");
    assert!(program.terminate(Duration::from_secs(20)).success());
}

#[test]
fn a_required_record_of_a_hanging_api_holds_nothing_but_its_key() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(Endpoint::Conversation, u32::MAX, Fault::Hang);
    let routes = format!(
        "{}  - {{ name: rest, when: event.type == \"client.updated\", to: [archive] }}\n",
        REQUIRED.replace("enrich:", "when: event.type.startsWith(\"conversation.\"), enrich:")
    );
    let home = home(&vendor.api("100/s"), &routes);
    let program = home.start();
    for index in 0..200 {
        push(&home, &vendor.conversation(index, "conversation.updated").1);
    }
    program.wait_for("laigu_router_enrichment_parked_keys", &[], 200.0);
    let plain =
        "{\"id\":\"sub_plain\",\"event\":\"client.updated\",\"created_at\":1726824224,\"body\":{\"track_id\":\"t\"}}";
    push(&home, plain.as_bytes());
    assert_eq!(wait_for_lines(&home, 1)[0].route, "rest");
}

#[test]
fn a_customer_who_did_not_change_around_a_conversation_is_no_reason_to_wait_for_days() {
    let vendor = Vendor::start();
    let routes = "routes:
  - { name: talks, enrich: [client], required: true, enrich_within: 2s, to: [archive] }
  - { name: rest, to: [archive] }
";
    let home = home(&vendor.api("100/s"), routes);
    let program = home.start();
    // Everyone changed last hours ago at the least, but for whom it is told.
    vendor.sandbox.with_world(|world| world.clients.iter_mut().for_each(|row| row.updated = Timestamp::EPOCH));
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    program.wait_for("laigu_router_dead_letters_total", &["cause=\"enrichment_required\""], 1.0);
    assert_eq!(wait_for_lines(&home, 1)[0].route, "rest", "the other route of the event fires");
}

#[test]
fn a_customer_who_changed_again_hours_after_the_push_is_found() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("100/s"), super::CLIENTS);
    let _program = home.start();
    let now = Timestamp::now().as_millis();
    let (pushed, changed) = (Timestamp::from_millis(now - 7_200_000), Timestamp::from_millis(now - 600_000));
    let body = vendor.sandbox.with_world(|world| {
        let id = world.clients.iter().find(|row| is_customer(row)).unwrap().id.clone();
        assert!(world.touch_client(&id, pushed));
        let body = super::client(world.clients.iter().find(|row| row.id == id).unwrap());
        assert!(world.touch_client(&id, changed));
        body
    });
    push(&home, &body);
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].ended("client"), ("ok", ""));
    assert_eq!(lines[0].part("client")["record"]["updated_on"], changed.to_string());
}

#[test]
fn a_required_record_that_may_never_be_asked_for_is_a_dead_letter_at_once() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("100/s"), &format!("{REQUIRED}  - {{ name: rest, to: [archive] }}\n"));
    let program = home.start();
    let (id, body) = vendor.conversation(0, "conversation.updated");
    let body = String::from_utf8(body).unwrap().replace(&format!("\"conv_id\":{id}"), "\"conv_id\":\"../clients\"");
    assert!(body.contains("../clients"), "{body}");
    push(&home, body.as_bytes());
    assert_eq!(wait_for_lines(&home, 1)[0].route, "rest", "the other route of the event fires");
    program.wait_for("laigu_router_dead_letters_total", &["cause=\"enrichment_required\""], 1.0);
    assert_eq!(vendor.calls(), 0);
}
