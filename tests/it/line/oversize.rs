//! One message is larger than its broker takes: it dies, alone, and its neighbours go on.

use super::{ALL, arrives, items, post, wait_for_state};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::{Queue, Topic},
        campaign::Reader,
        load::Senders,
        push::{ENTERPRISE, Push, SOURCES, signed},
    },
    kafka::support::{Node, create_topic, delete_topic, fresh_topic},
    program::{Home, PATIENCE, wait_for},
};
use std::collections::BTreeSet;
use tokio::runtime::Runtime;

/// How many oversize pushes there are.
const COUNT: usize = 3;
/// Deliveries under way at most.
const WINDOW: usize = 256;

/// A push of a key, larger than so many bytes.
fn oversize(key: usize, bytes: usize) -> Vec<u8> {
    let (track_id, filler) = (Push { key, number: 0 }.track_id(), "x".repeat(bytes));
    format!(
        "{{\"event\":\"cus.upsert\",\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
         \"body\":{{\"remark\":\"{filler}\",\"track_id\":\"{track_id}\"}},\"id\":\"large_{key}\"}}"
    )
    .into_bytes()
}

/// Sends some in the middle of a load. All else arrives, in order for each key; says how many copies came too many.
fn die_alone(name: &'static str, destination: &str, bytes: usize, reader: &mut impl Reader) -> usize {
    let text = format!(
        "{SOURCES}destinations:\n  {name}: {destination}\nretry: {{ backoff: 50ms..200ms }}\n\
         routes:\n  - {{ name: everything, to: [{name}] }}\n"
    );
    let home = Home::new("{ path: ./data }", &text);
    let program = home.start();
    wait_for_state(&program, name, "up");
    let running = Senders::new(fastrand::u64(..)).start(home.hooks);
    let label = format!("\"{name}\"");
    let delivered = || program.metric("laigu_router_delivered_total", &[&label]);
    for key in 0..COUNT {
        let before = delivered();
        wait_for("a load", PATIENCE, || (delivered() > before + 100.0).then_some(()));
        assert_eq!(post(&home, &signed(&oversize(key, bytes))), 200);
    }
    program.wait_for("laigu_router_dead_letters_total", &[&label, "cause=\"too_large\""], COUNT as f64);
    let before = delivered();
    wait_for("the neighbours go on", PATIENCE, || (delivered() > before + 100.0).then_some(()));
    running.send_no_more();
    let (senders, load) = running.join(None);
    let repeats = arrives(name, reader, ALL, Push::body, &senders);
    println!("{name}: {} answered, {repeats} repeats", load.answered);

    program.wait_for("laigu_router_lag_events", &[], 0.0);
    program.wait_for("laigu_router_dead_letters_total", &[], COUNT as f64);
    let dead = items(&home, "dead-letters?cause=too_large");
    let ids: BTreeSet<_> = dead.iter().map(|letter| letter["vendor_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, (0..COUNT).map(|key| format!("large_{key}")).collect());
    assert_eq!(dead.len(), COUNT);
    assert!(dead.iter().all(|letter| !letter["detail"].as_str().unwrap().contains("xxx")), "{}", dead[0]);
    wait_for_state(&program, name, "up");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    repeats
}

#[test]
fn what_rabbitmq_finds_too_large_dies_alone_under_load() {
    let (broker, name) = (Broker::own("oversize"), fresh_topic());
    // Smaller than what we send at most, as an operator may have set it.
    broker.ctl(&[
        "eval",
        "persistent_term:put(max_message_size, 100000), application:set_env(rabbit, max_message_size, 100000).",
    ]);
    let mut queue = Queue::new(&broker, &name);
    let url = broker.url();
    let destination =
        format!("{{ type: rabbitmq, url: '{url}', window: {WINDOW}, exchange: {{ name: {name}, declare: false }} }}");
    // Its channel is closed with all that was on it, and the confirms of that may be lost.
    let repeats = die_alone("crm", &destination, 200_000, &mut queue);
    assert!(repeats <= COUNT * WINDOW, "{repeats} repeats");
}

#[test]
fn what_a_topic_finds_too_large_dies_alone_under_load() {
    let (node, topic) = (Node::shared(), fresh_topic());
    let runtime = Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &topic, 3, &[("max.message.bytes", "20000")]));
    let mut reader = Topic::new(node.brokers(), &topic, 3);
    let brokers = node.brokers();
    let destination = format!("{{ type: kafka, brokers: '{brokers}', topic: {topic}, window: {WINDOW} }}");
    // What was refused is not there: nothing comes twice.
    assert_eq!(die_alone("lake", &destination, 50_000, &mut reader), 0);
    runtime.block_on(delete_topic(brokers, &topic));
}
