//! Which calls are made, and what consumers get of them.

use super::{
    CLIENTS, CONVERSATIONS, Vendor, calls_max, client, conversation, home, lines, push, push_to, wait_for_lines,
};
use crate::{
    crash::push::{ENTERPRISE, SECRET},
    program::{Home, PATIENCE},
};
use laigu_router::{
    domain::Timestamp,
    sandbox::{faults::Endpoint, world::is_customer},
};
use serde_json::json;
use std::time::Instant;

#[test]
fn a_thousand_pushes_over_fifty_conversations_cost_at_most_fifty_calls() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("200/s"), CONVERSATIONS);
    let program = home.start();
    let sent: Vec<_> = std::thread::scope(|scope| {
        let (vendor, home) = (&vendor, &home);
        let worker = |worker: usize| {
            scope.spawn(move || {
                let one = |number: usize| {
                    let index = (worker * 250 + number) % 50;
                    push(home, &vendor.conversation(index, "conversation.updated").1);
                    (index, Instant::now())
                };
                (0..250).map(one).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let lines = wait_for_lines(&home, 1_000);
    assert!(lines.iter().all(|line| line.ended("conversation") == ("ok", "")));
    let id = |line: &super::Line| line.part("conversation")["record"]["conv_id"].as_u64();
    assert!(lines.iter().all(|line| id(line) == line.subject.parse().ok()));
    let (calls, most) = (vendor.sandbox.calls(Endpoint::Conversation), calls_max(&sent));
    println!("it cost {calls}");
    assert!(calls <= most, "{calls} of {most}");
    assert_eq!(vendor.calls(), calls, "and no others");
    let metric = |name: &str, labels: &[&str]| program.metric(&format!("laigu_router_{name}"), labels) as u64;
    assert_eq!(metric("enrichment_total", &["what=\"conversation\"", "status=\"ok\""]), 1_000);
    assert_eq!(metric("api_calls_total", &["tenant=\"acme\"", "outcome=\"ok\""]), calls);
    assert!(
        metric("enrichment_cache_hits_total", &[]) >= 1_000 - calls,
        "a call for one, and the cache for the others"
    );
}

#[test]
fn a_burst_about_clients_costs_a_walk_over_those_that_changed() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), CLIENTS);
    let _program = home.start();
    let pushes: Vec<_> = vendor.sandbox.with_world(|world| {
        let now = Timestamp::now();
        let ids: Vec<String> = world.clients.iter().filter(|row| is_customer(row)).map(|row| row.id.clone()).collect();
        for id in ids.iter().take(70) {
            assert!(world.touch_client(id, now));
        }
        let row = |id: &String| world.clients.iter().find(|row| row.id == *id).unwrap();
        ids.iter().take(70).map(|id| client(row(id))).collect()
    });
    pushes.iter().for_each(|body| push(&home, body));
    let lines = wait_for_lines(&home, 70);
    assert!(lines.iter().all(|line| line.ended("client") == ("ok", "")), "{:?}", lines[0].ended("client"));
    for line in &lines {
        let record = &line.part("client")["record"];
        assert_eq!(record["track_id"], *line.subject);
        assert_eq!(record["updated_on"], line.value["body"]["updated_on"]);
        assert_eq!(record["enterprise_token"], ENTERPRISE, "the API's record, beside the push and not merged into it");
        assert!(line.value["body"].get("enterprise_token").is_none());
    }
    let calls = vendor.calls();
    assert!(calls <= 70_u64.div_ceil(20) + 1, "{calls}");
}

#[test]
fn who_cannot_be_in_the_api_is_not_asked_for() {
    let vendor = Vendor::start();
    let routes = "routes:\n  - { name: all, enrich: [client, conversation], required: true, to: [archive] }\n";
    let home = home(&vendor.api("50/s"), routes);
    let _program = home.start();
    let visitor =
        vendor.sandbox.with_world(|world| client(world.clients.iter().find(|row| !is_customer(row)).unwrap()));
    push(&home, &visitor);
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].ended("client"), ("not_applicable", "no_contact"));
    assert_eq!(lines[0].ended("conversation"), ("not_applicable", "no_id"));
    assert_eq!(vendor.calls(), 0);
}

#[test]
fn a_route_that_fetches_nothing_passes_the_push_on_byte_for_byte_beside_one_that_does() {
    let vendor = Vendor::start();
    let routes = "routes:
  - { name: raw, to: [archive] }
  - { name: rich, enrich: [conversation], to: [archive] }
  - { name: both, enrich: [client, conversation], to: [archive] }
";
    let home = home(&vendor.api("50/s"), routes);
    let _program = home.start();
    let id = vendor.conversation(0, "x").0;
    let body = format!(
        "{{\"event\": \"conversation.updated\",\t\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
         \"conversation\":{{\"conv_id\": {id}, \"n\":1.00e2,\"名\":\"鸭\\u00e9\\/\"}} ,\"id\":\"sub_raw\"}}"
    );
    push(&home, body.as_bytes());
    let lines = wait_for_lines(&home, 3);
    let of = |route: &str| lines.iter().find(|line| line.route == route).unwrap();
    assert_eq!(of("raw").data, body);
    let head = body.strip_suffix('}').unwrap();
    assert!(
        of("rich").data.starts_with(&format!("{head},\"enrichment\":{{\"conversation\":{{")),
        "{}",
        of("rich").data
    );
    assert_eq!(of("rich").ended("client").0, "none", "it sees what it asked for alone");
    assert_eq!(of("both").ended("client"), ("not_applicable", "no_id"));
    assert_eq!(of("both").part("conversation"), of("rich").part("conversation"));
    assert_eq!(vendor.calls(), 1);
}

#[test]
fn a_route_may_decide_by_the_record() {
    let vendor = Vendor::start();
    let chosen = vendor.sandbox.with_world(|world| world.conversations[0].json["agent_name"].clone());
    let routes = format!(
        "routes:
  - name: first
    enrich: [conversation]
    when_enriched: enrichment.conversation.record.agent_name == {chosen}
    to: [archive]
"
    );
    let home = home(&vendor.api("50/s"), &routes);
    let program = home.start();
    let (mut expected, mut pushed) = (0, 0);
    for index in 0..20 {
        let (row, body) = vendor.sandbox.with_world(|world| {
            let row = world.conversations[index].clone();
            // The push does not say whose it is: only the record does.
            let mut silent = row.clone();
            silent.json.remove("agent_name");
            (row, conversation(&silent, "conversation.updated").1)
        });
        expected += usize::from(row.json["agent_name"] == chosen);
        pushed += 1;
        push(&home, &body);
    }
    program.wait_for("laigu_router_unrouted_total", &[], f64::from(pushed - i32::try_from(expected).unwrap()));
    assert!(expected > 0 && expected < 20, "{expected}");
    let lines = wait_for_lines(&home, expected);
    assert_eq!(lines.len(), expected);
    assert!(lines.iter().all(|line| line.part("conversation")["record"]["agent_name"] == chosen));
}

#[test]
fn a_record_older_than_the_push_is_asked_for_again_until_it_is_new_enough() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), CONVERSATIONS);
    let _program = home.start();
    // The push tells of a summary that the API does not show yet.
    let (id, at) = (vendor.conversation(3, "x").0, Timestamp::now());
    let body = vendor.sandbox.with_world(|world| {
        let before = world.conversations[3].clone();
        assert!(world.summarise(&id, at));
        let body = conversation(&world.conversations[3], "conversation.updated").1;
        world.conversations[3] = before;
        body
    });
    push(&home, &body);
    crate::program::wait_for("a call", PATIENCE, || (vendor.calls() >= 2).then_some(()));
    assert!(lines(&home).is_empty(), "an older record is never given out");
    vendor.sandbox.with_world(|world| world.summarise(&id, at));
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].ended("conversation"), ("ok", ""));
    let written = |value: &serde_json::Value| value["summary_update_at"].as_str().unwrap().to_owned();
    assert_eq!(written(&lines[0].part("conversation")["record"]), written(&lines[0].value["conversation"]));
}

#[test]
fn a_conversation_that_was_scheduled_after_it_was_fetched_is_fetched_again() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), CONVERSATIONS);
    let _program = home.start();
    let agent = vendor.sandbox.with_world(|world| world.conversations[0].json.remove("agent_ID").unwrap());
    push(&home, &vendor.conversation(0, "conversation.created").1);
    assert!(wait_for_lines(&home, 1)[0].part("conversation")["record"]["agent_ID"].is_null());
    vendor.sandbox.with_world(|world| world.conversations[0].json.insert("agent_ID".into(), agent.clone()));
    push(&home, &vendor.conversation(0, "conversation.scheduled").1);
    let lines = wait_for_lines(&home, 2);
    assert_eq!(lines[1].part("conversation")["record"]["agent_ID"], agent);
    assert_eq!(vendor.calls(), 2);
}

#[test]
fn easemobs_sessions_and_agents_are_found_in_its_lists() {
    let vendor = Vendor::start();
    let url = vendor.sandbox.url();
    let text = format!(
        "sources:
  kefu:
    type: easemob-kefu
    tenants:
      acme:
        tenant_id: 1
        path_secret: {SECRET}-and-more
        api: {{ base_url: '{url}', client_id: sandbox-client-id, secret_id: sandbox-secret-id, rate: 50/s }}
destinations:
  archive: {{ type: file, path: ./archive }}
routes:
  - {{ name: all, enrich: [session, agent], to: [archive] }}
"
    );
    let home = Home::new("{ path: ./data }", &text);
    let _program = home.start();
    let sessions: Vec<_> = vendor.sandbox.with_world(|world| world.sessions.iter().rev().take(10).cloned().collect());
    for (number, row) in sessions.iter().enumerate() {
        let body = json!({
            "eventId": format!("e{number}"), "timestamp": Timestamp::now().as_millis(), "event": "ServiceSessionClosedEvent",
            "payload": {"serviceSession": {
                "id": row.id, "state": "Terminal", "timestamp": {"create": row.created.as_millis()},
                "agent": {"id": row.json["agentUserId"], "name": "x"},
            }},
        });
        push_to(&home, &format!("kefu/acme/{SECRET}-and-more"), body.to_string().as_bytes());
    }
    let lines = wait_for_lines(&home, 10);
    for line in &lines {
        assert_eq!((line.ended("session"), line.ended("agent")), (("ok", ""), ("ok", "")));
        assert_eq!(line.part("session")["record"]["serviceSessionId"], *line.subject);
        assert_eq!(line.part("agent")["record"]["userId"], line.part("session")["record"]["agentUserId"]);
        // Beyond 2^53: byte for byte, not by way of a float.
        assert!(line.data.contains(&line.part("session")["record"]["chatGroupId"].to_string()));
    }
    assert_eq!(vendor.sandbox.calls(Endpoint::Agents), 1, "one list of all agents serves everybody");
    assert_eq!(vendor.sandbox.calls(Endpoint::AccessToken), 1);
}

#[test]
fn an_id_that_could_change_the_path_is_never_sent() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("50/s"), CONVERSATIONS);
    let _program = home.start();
    let hostile =
        ["../clients/updated", "..", "7/../../v2/clients", "7?limit=1", "7%2e%2e", "7#x", "7 HTTP/1.1", "线索"];
    for (number, id) in hostile.iter().enumerate() {
        let body = json!({
            "id": format!("sub_{number}"), "event": "conversation.updated", "enterprise_token": ENTERPRISE,
            "created_at": 1_726_824_224, "conversation": {"conv_id": id},
        });
        push(&home, body.to_string().as_bytes());
    }
    let lines = wait_for_lines(&home, hostile.len());
    assert!(lines.iter().all(|line| line.ended("conversation") == ("failed", "bad_id")));
    assert_eq!(vendor.calls(), 0);
}
