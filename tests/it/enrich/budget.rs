//! Budgets: who waits for how long, and who does not.

use super::{CONVERSATIONS, Vendor, home, lines, push, push_to, wait_for_lines};
use crate::{
    crash::push::{ENTERPRISE, SECRET},
    program::{Home, PATIENCE, wait_for},
};
use laigu_router::{
    config::settings::Rate,
    sandbox::{Options, faults::Fault},
};
use std::time::{Duration, Instant};

const IN_TWO_SECONDS: &str = "routes:\n  - { name: talks, enrich: [conversation], enrich_within: 2s, to: [archive] }\n";

#[test]
fn at_the_end_of_its_budget_an_event_goes_on_and_says_what_is_missing() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(None, u32::MAX, Fault::Hang);
    let home = home(&vendor.api("50/s"), IN_TWO_SECONDS);
    let _program = home.start();
    let began = Instant::now();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].ended("conversation"), ("failed", "timeout"));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_tenant_whose_api_hangs_delays_no_other_tenant_and_no_event_that_needs_nothing() {
    let (hanging, good) = (Vendor::start(), Vendor::start());
    hanging.sandbox.faults().plan(None, u32::MAX, Fault::Hang);
    let tenant =
        |api: &str| format!("{{ enterprise_token: {ENTERPRISE}, enterprise_id: 104, secret: {SECRET}, api: {api} }}");
    let text = format!(
        "sources:
  laigu:
    type: laigu
    tenants:
      acme: {}
  other:
    type: laigu
    tenants:
      acme: {}
destinations:
  archive: {{ type: file, path: ./archive }}
routes:
  - {{ name: talks, when: event.type.startsWith(\"conversation.\"), enrich: [conversation], enrich_within: 1h, to: [archive] }}
  - {{ name: rest, when: event.type == \"client.updated\", to: [archive] }}
",
        tenant(&hanging.api("50/s")),
        tenant(&good.api("50/s")),
    );
    let home = Home::new("{ path: ./data }", &text);
    let program = home.start();
    // More than may wait, of few keys and of many: the buffer before the decisions is full of them.
    for round in 0..40 {
        for index in 0..250 {
            push(&home, &hanging.conversation(index, "conversation.updated").1);
        }
        if round == 20 {
            program.wait_for("laigu_router_enrichment_waiting", &["source=\"laigu\""], 250.0);
        }
    }
    let began = Instant::now();
    push_to(&home, "other/acme", &good.conversation(299, "conversation.updated").1);
    let plain = format!(
        "{{\"id\":\"sub_plain\",\"event\":\"client.updated\",\"enterprise_token\":\"{ENTERPRISE}\",\
         \"created_at\":1726824224,\"body\":{{\"track_id\":\"trk_plain\"}}}}"
    );
    push(&home, plain.as_bytes());
    let lines = wait_for_lines(&home, 2);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let mut ends: Vec<_> = lines.iter().map(|line| (line.route.as_str(), line.ended("conversation").0)).collect();
    ends.sort_unstable();
    assert_eq!(ends, [("rest", "none"), ("talks", "ok")]);
}

#[test]
fn beyond_a_thousand_waiting_events_best_effort_ones_go_on_as_busy() {
    let vendor = Vendor::new(Options {
        plan: laigu_router::sandbox::world::Plan { conversations: 1_100, ..Options::default().plan },
        ..Options::default()
    });
    vendor.sandbox.faults().plan(None, u32::MAX, Fault::Hang);
    let routes = "routes:\n  - { name: talks, enrich: [conversation], enrich_within: 1h, to: [archive] }\n";
    let home = home(&vendor.api("50/s"), routes);
    let program = home.start();
    for index in 0..1_100 {
        push(&home, &vendor.conversation(index, "conversation.updated").1);
    }
    let lines = wait_for_lines(&home, 76);
    assert!(lines.iter().all(|line| line.ended("conversation") == ("failed", "busy")));
    program.wait_for("laigu_router_enrichment_waiting", &[], 1_024.0);
    assert_eq!(super::lines(&home).len(), 76);
}

#[test]
fn what_the_vendors_limit_keeps_back_goes_on_as_rate_limited() {
    let vendor =
        Vendor::new(Options { rate: Some(Rate { count: 2, per: Duration::from_secs(1) }), ..Options::default() });
    let home = home(&vendor.api("20/s"), IN_TWO_SECONDS);
    let program = home.start();
    for index in 0..60 {
        push(&home, &vendor.conversation(index, "conversation.updated").1);
    }
    let lines = wait_for_lines(&home, 60);
    let limited = lines.iter().filter(|line| line.ended("conversation") == ("failed", "rate_limited")).count();
    let good = lines.iter().filter(|line| line.ended("conversation").0 == "ok").count();
    assert!(good >= 2 && limited + good == 60, "{limited} limited, {good} good");
    assert!(vendor.calls() <= 30, "it backs off: {}", vendor.calls());
    assert!(program.metric("laigu_router_api_rate_share", &["tenant=\"acme\""]) < 1.0);
}

#[test]
fn what_is_not_there_until_the_end_is_missing() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), IN_TWO_SECONDS);
    let _program = home.start();
    let gone = vendor.conversation(5, "conversation.created").1;
    let (id, late) = vendor.conversation(6, "conversation.created");
    // It is pushed before it can be read.
    let row = vendor.sandbox.with_world(|world| {
        let row = world.conversations.remove(6);
        world.conversations.remove(5);
        row
    });
    push(&home, &gone);
    push(&home, &late);
    wait_for("a first look", PATIENCE, || (vendor.calls() >= 2).then_some(()));
    vendor.sandbox.with_world(|world| world.conversations.push(row));
    let lines = wait_for_lines(&home, 2);
    let of = |subject: &str| lines.iter().find(|line| (line.subject == subject) == (subject == id)).unwrap();
    assert_eq!(of(&id).ended("conversation").0, "ok");
    let other = lines.iter().find(|line| line.subject != id).unwrap();
    assert_eq!(other.ended("conversation"), ("missing", ""));
}

#[test]
fn without_a_budget_to_spend_nothing_waits() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), CONVERSATIONS);
    let _program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    wait_for_lines(&home, 1);
    assert_eq!(lines(&home)[0].ended("conversation"), ("ok", ""));
}
