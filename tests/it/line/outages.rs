//! A broker that is not there, goes away or hangs: the others are in time, and its own backlog drains in order.

use super::{ALL, EVERYTHING, Line, files, on_one_line, push_all, wait_for_state};
use crate::{
    crash::{
        brokers::Topic,
        campaign::Reader,
        load::Senders,
        push::{Push, SOURCES},
    },
    kafka::support::{OwnNode, create_topic, fresh_topic},
    program::{Home, PATIENCE, wait_for},
    proxy::Mode,
};
use std::time::{Duration, Instant};

/// What design says of SIGTERM, beside the delay, which is 0 here.
const STOP_MAX: Duration = Duration::from_secs(10);
const KEYS: std::ops::Range<usize> = 0..8;

/// So many pushes of each key arrive, in order for each; says how many copies came too many.
fn arrives(name: &'static str, reader: &mut impl Reader, value: fn(Push) -> Vec<u8>, each: usize) -> usize {
    super::arrives(name, reader, ALL, value, &Senders::that_sent(KEYS, each))
}

#[test]
fn it_starts_while_both_brokers_are_down_and_drains_in_order_when_they_come() {
    let mut line = Line::new(Mode::Refuse, Mode::Refuse);
    let home = line.home(EVERYTHING);
    let program = home.start();
    push_all(&home, KEYS, 0..10);
    assert_eq!(arrives("archive", &mut files(&home), on_one_line, 10), 0);
    for destination in ["crm", "lake"] {
        wait_for_state(&program, destination, "down");
        program.wait_for("laigu_router_lag_events", &[destination], 80.0);
        program.wait_for("laigu_router_delivered_total", &[destination], 0.0);
    }
    assert!(program.metric("laigu_router_lag_seconds", &["crm"]) > 0.0);
    // Of the next process nothing came in: it has all of it from the store.
    assert!(program.terminate(STOP_MAX).success(), "{}", home.log());
    let program = home.start();
    wait_for("the age of what the process before had taken", PATIENCE, || {
        let age = |destination: &str| program.metric("laigu_router_lag_seconds", &[destination]);
        (age("crm") > 0.0 && age("lake") > 0.0).then_some(())
    });
    line.amqp.set(Mode::Pass);
    line.kafka.set(Mode::Pass);
    assert_eq!(arrives("crm", &mut line.queue, Push::body, 10), 0);
    assert_eq!(arrives("lake", &mut line.topic, Push::body, 10), 0);
    for destination in ["crm", "lake"] {
        wait_for_state(&program, destination, "up");
        program.wait_for("laigu_router_lag_events", &[destination], 0.0);
        program.wait_for("laigu_router_client_sessions_total", &[destination], 1.0);
    }
    wait_for("librdkafka's own numbers", PATIENCE, || {
        let known = |name: &str| program.metric(&format!("laigu_router_kafka_{name}"), &["lake"]) > 0.0;
        (known("brokers_up") && known("round_trip_seconds")).then_some(())
    });
    assert!(program.terminate(STOP_MAX).success(), "{}", home.log());
    line.end();
}

#[test]
fn while_one_broker_is_away_the_other_destinations_are_in_time() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home(EVERYTHING);
    let program = home.start();
    push_all(&home, KEYS, 0..5);
    program.wait_for("laigu_router_delivered_total", &["crm"], 40.0);
    line.amqp.set(Mode::Refuse);
    wait_for_state(&program, "crm", "down");
    push_all(&home, KEYS, 5..15);
    assert_eq!(arrives("archive", &mut files(&home), on_one_line, 15), 0);
    assert_eq!(arrives("lake", &mut line.topic, Push::body, 15), 0);
    program.wait_for("laigu_router_lag_events", &["crm"], 80.0);
    program.wait_for("laigu_router_lag_events", &["lake"], 0.0);
    assert!(program.metric("laigu_router_delivered_total", &["crm"]) < 40.5);
    line.amqp.set(Mode::Pass);
    // All that had gone out was confirmed before the cut: nothing is repeated.
    assert_eq!(arrives("crm", &mut line.queue, Push::body, 15), 0);
    wait_for_state(&program, "crm", "up");
    assert!(program.terminate(STOP_MAX).success(), "{}", home.log());
    line.end();
}

#[test]
fn a_stop_ends_in_time_although_both_brokers_hang_and_loses_nothing() {
    let mut line = Line::new(Mode::Pass, Mode::BlackHole);
    let home = line.home(EVERYTHING);
    let program = home.start();
    push_all(&home, KEYS, 0..2);
    program.wait_for("laigu_router_delivered_total", &["crm"], 16.0);
    line.amqp.set(Mode::BlackHole);
    push_all(&home, KEYS, 2..4);
    program.wait_for("laigu_router_lag_events", &["crm"], 16.0);
    let began = Instant::now();
    let status = program.terminate(STOP_MAX);
    assert_eq!(status.code(), Some(0), "{}", home.log());
    println!("stopped in {:?}", began.elapsed());
    line.amqp.set(Mode::Pass);
    line.kafka.set(Mode::Pass);
    let program = home.start();
    // What was out when the broker hung may have arrived: one of each key, and only those, may come twice.
    assert!(arrives("crm", &mut line.queue, Push::body, 4) <= KEYS.len());
    assert_eq!(arrives("lake", &mut line.topic, Push::body, 4), 0);
    assert_eq!(arrives("archive", &mut files(&home), on_one_line, 4), 0);
    assert!(program.terminate(STOP_MAX).success(), "{}", home.log());
    line.end();
}

#[test]
fn a_stop_ends_in_time_although_kafka_hangs_with_records_out_and_loses_nothing() {
    let (own, topic) = (OwnNode::start(), fresh_topic());
    let brokers = own.node.brokers();
    tokio::runtime::Runtime::new().unwrap().block_on(create_topic(brokers, &topic, 1, &[]));
    let mut reader = Topic::new(brokers, &topic, 1);
    let lake = format!("  lake: {{ type: kafka, brokers: '{brokers}', topic: {topic} }}\n");
    let route = "routes:\n  - { name: everything, to: [lake] }\n";
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}destinations:\n{lake}{route}"));
    let program = home.start();
    push_all(&home, KEYS, 0..2);
    program.wait_for("laigu_router_delivered_total", &["lake"], 16.0);
    own.signal("-STOP");
    push_all(&home, KEYS, 2..4);
    program.wait_for("laigu_router_lag_events", &["lake"], 16.0);
    let status = program.terminate(STOP_MAX);
    own.signal("-CONT");
    assert_eq!(status.code(), Some(0), "{}", home.log());
    let program = home.start();
    assert!(arrives("lake", &mut reader, Push::body, 4) <= KEYS.len());
    assert!(program.terminate(STOP_MAX).success(), "{}", home.log());
}
