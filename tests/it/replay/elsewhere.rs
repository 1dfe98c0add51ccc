//! Where a replay sends things, and what becomes of those that fail again.

use super::{home_with_expired, job, letters, lines, post, preview, push, replay, replayed, until, wait_for_letters};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::{Queue, Topic, remove},
        push::SOURCES,
    },
    kafka::support::{Node, create_topic, fresh_topic},
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn other_destinations_get_what_the_preview_said_and_the_own_one_gets_nothing() {
    let (broker, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &name, 1, &[]));
    let (mut queue, mut topic) = (Queue::new(&broker, &name), Topic::new(node.brokers(), &name, 1));
    let (url, brokers) = (broker.url(), node.brokers());
    let text = format!(
        "destinations:
  crm: {{ type: rabbitmq, url: '{url}', exchange: {{ name: {name}, type: topic }} }}
  lake: {{ type: kafka, brokers: '{brokers}', topic: {name} }}
  out: {{ type: file, path: ./out }}
retry: {{ max_age: 1s }}
routes:
  - {{ name: all, to: [crm] }}
"
    );
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{text}"));
    let program = home.start();
    post(&home, "destinations/crm/pause", Value::Null);
    (0..20).for_each(|id| push(&home, id, &format!("k{id}"), "\"n\":1"));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    post(&home, "destinations/crm/resume", Value::Null);
    let dead = wait_for_letters(&home, 20);
    assert!(dead.iter().all(|letter| letter["cause"] == "expired" && letter["destination"] == "crm"));

    let body = json!({"filter": {"cause": "expired", "source": "laigu", "tenant": "acme", "type": "cus.upsert",
        "route": "all", "destination": "crm"}, "destinations": ["lake", "out"]});
    let seen = preview(&home, body.clone());
    assert_eq!((&seen["matched"], &seen["by_route"]), (&json!(40), &json!({"all": 40})));
    for other in [json!({"key": "k99"}), json!({"cause": "condition"}), json!({"to": "2024-01-01T00:00:00Z"})] {
        assert_eq!(preview(&home, json!({"filter": other}))["matched"], 0);
    }
    let id = replay(&home, body);
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"], &done["failed"]), (&json!(40), &json!(40), &json!(0)));
    let records = topic.look();
    let ids: BTreeSet<_> = records.iter().map(|record| record.headers["ce_id"].clone()).collect();
    assert_eq!((records.len(), ids.len()), (20, 20));
    assert!(records.iter().all(|record| record.headers["x-replay"] == id));
    let lines = replayed(&home, "out", &id);
    assert_eq!(lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), ids);
    assert!(queue.look().is_empty());
    assert!(letters(&home, "").is_empty());
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    runtime.block_on(remove(&broker, &node, &name));
}

#[test]
fn what_fails_again_goes_back_to_the_shelf_with_its_new_cause_and_more_tries() {
    let (broker, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &name, 1, &[("max.message.bytes", "2000")]));
    let topic = Topic::new(node.brokers(), &name, 1);
    let brokers = node.brokers();
    let text = format!(
        "destinations:
  lake: {{ type: kafka, brokers: '{brokers}', topic: {name} }}
  out: {{ type: file, path: ./out }}
retry: {{ max_age: 1s, backoff: 20ms..100ms }}
routes:
  - {{ name: all, to: [lake] }}
"
    );
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{text}"));
    let program = home.start();
    post(&home, "destinations/lake/pause", Value::Null);
    push(&home, 0, "small", "\"n\":1");
    push(&home, 1, "large", &format!("\"n\":\"{}\"", "x".repeat(10_000)));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    post(&home, "destinations/lake/resume", Value::Null);
    let dead = wait_for_letters(&home, 2);
    assert!(dead.iter().all(|letter| letter["cause"] == "expired"));
    let id = replay(&home, json!({"filter": {}}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(1), &json!(1)), "{done}");
    assert!(done["last_error"].as_str().unwrap().contains("too_large"), "{done}");
    let left = letters(&home, "");
    assert_eq!((left.len(), &left[0]["cause"]), (1, &json!("too_large")));
    assert!(left[0]["attempts"].as_u64() > dead[0]["attempts"].as_u64(), "{left:?}");
    assert_eq!(left[0]["destination"], "lake");
    // Once more, by its id, and to where there is room.
    let id = replay(&home, json!({"ids": [left[0]["id"]], "destinations": ["out"]}));
    until(&home, &id, "done");
    assert_eq!(replayed(&home, "out", &id).len(), 1);
    assert!(letters(&home, "").is_empty());
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    drop(topic);
    runtime.block_on(async {
        crate::kafka::support::delete_topic(node.brokers(), &name).await;
    });
    drop(broker);
}

#[test]
fn a_key_stays_held_when_its_dead_letter_is_decided_anew_and_dies_again() {
    let (node, name) = (Node::shared(), fresh_topic());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &name, 1, &[("max.message.bytes", "2000")]));
    let mut topic = Topic::new(node.brokers(), &name, 1);
    let text = format!(
        "destinations:\n  lake: {{ type: kafka, brokers: '{}', topic: {name} }}\n\
         routes:\n  - {{ name: all, on_dead: park, to: [lake] }}\n",
        node.brokers()
    );
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{text}"));
    let program = home.start();
    push(&home, 0, "held", &format!("\"n\":\"{}\"", "x".repeat(10_000)));
    push(&home, 1, "held", "\"n\":1");
    let dead = wait_for_letters(&home, 1);
    program.wait_for("laigu_router_parked_keys", &["lake"], 1.0);
    let id = replay(&home, json!({"ids": [dead[0]["id"]], "routes": "today"}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(0), &json!(1)), "{done}");
    let again = wait_for_letters(&home, 1);
    assert_eq!(again[0]["cause"], "too_large");
    // A later event of another key shows that the lane goes on.
    push(&home, 2, "free", "\"n\":2");
    let first = wait_for("the free one", PATIENCE, || topic.look().pop());
    assert_eq!(first.headers["ce_subject"], "free", "the one behind the dead letter went out");
    program.wait_for("laigu_router_parked_keys", &["lake"], 1.0);
    let done = post(&home, "dead-letters/discard", json!({"ids": [again[0]["id"]], "reason": "too large for ever"}));
    assert_eq!(done["discarded"], 1);
    let next = wait_for("the one behind it", PATIENCE, || topic.look().pop());
    assert_eq!(next.headers["ce_subject"], "held");
    program.wait_for("laigu_router_parked_keys", &["lake"], 0.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    drop(topic);
    runtime.block_on(crate::kafka::support::delete_topic(node.brokers(), &name));
}

#[test]
fn two_jobs_over_one_dead_letter_deliver_it_once() {
    let (home, program) = home_with_expired(300);
    let body = || json!({"filter": {}, "rate": "400/s"});
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| replay(&home, body()));
        let second = scope.spawn(|| replay(&home, body()));
        (first.join().unwrap(), second.join().unwrap())
    });
    let matched = |id: &str| until(&home, id, "done")["matched"].as_u64().unwrap();
    assert_eq!(matched(&first) + matched(&second), 300);
    let all = lines(&home, "out");
    let ids: BTreeSet<_> = all.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((all.len(), ids.len()), (300, 300));
    assert_eq!(job(&home, &first)["remaining"], 0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
