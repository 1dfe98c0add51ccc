//! A broker that is there and takes nothing, or not this: the lane stops and says why, or the delivery dies alone;
//! the other destinations are in time, and nothing is lost.

use super::{ALL, EVERYTHING, Line, arrives, destination, files, items, on_one_line, push_all, wait_for_state};
use crate::{
    brokers::rabbitmq::Broker,
    cli::said,
    crash::{
        brokers::{Queue, Topic, remove},
        load::Senders,
        oracle::Route,
        push::{KEYS, Push, SOURCES},
    },
    kafka::support::{Node, create_topic, fresh_topic},
    program::{Home, PATIENCE, wait_for},
    proxy::Mode,
};
use laigu_router::domain::Timestamp;
use lapin::ExchangeKind;
use std::collections::BTreeSet;
use tokio::runtime::Runtime;

const FEW: std::ops::Range<usize> = 0..8;
/// The default of RabbitMQ destinations.
const WINDOW: usize = 1_024;

/// A home with all three destinations; nothing at the brokers is made by us.
fn home(amqp_url: &str, kafka_brokers: &str, name: &str, routes: &str) -> Home {
    let destinations = format!(
        "destinations:
  crm: {{ type: rabbitmq, url: '{amqp_url}', exchange: {{ name: {name}, declare: false }} }}
  lake: {{ type: kafka, brokers: '{kafka_brokers}', topic: {name} }}
  archive: {{ type: file, path: ./archive }}
retry: {{ backoff: 100ms..1s }}
"
    );
    Home::new("{ path: ./data }", &format!("{SOURCES}{destinations}{routes}"))
}

#[test]
fn a_missing_exchange_and_a_missing_topic_stop_their_lanes_alone_until_someone_makes_them() {
    let (rabbitmq, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
    let home = home(&rabbitmq.url(), node.brokers(), &name, EVERYTHING);
    let began = Timestamp::now().to_string();
    let program = home.start();
    push_all(&home, FEW, 0..10);
    let senders = Senders::that_sent(FEW, 10);
    assert_eq!(arrives("archive", &mut files(&home), ALL, on_one_line, &senders), 0);
    for (lane, words) in [("crm", "NOT_FOUND"), ("lake", "does not exist")] {
        wait_for_state(&program, lane, "misconfigured");
        program.wait_for("laigu_router_lag_events", &[lane], 80.0);
        let shown = destination(&home, lane);
        assert_eq!(shown["state"], "misconfigured", "{shown}");
        let error = shown["last_error"].as_str().unwrap();
        assert!(error.contains(words) && error.contains(&name), "{error}");
        assert!(shown["since"].as_str().unwrap() >= &*began, "{shown}");
        let listed = said(&home, &["destinations", "list"]);
        let line = listed.lines().find(|line| line.starts_with(lane)).unwrap();
        assert!(line.contains("misconfigured") && line.contains(words), "{listed}");
    }
    let mut queue = Queue::new(&rabbitmq, &name);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &name, 1, &[]));
    let mut topic = Topic::new(node.brokers(), &name, 1);
    assert_eq!(arrives("crm", &mut queue, ALL, Push::body, &senders), 0);
    assert_eq!(arrives("lake", &mut topic, ALL, Push::body, &senders), 0);
    for lane in ["crm", "lake"] {
        wait_for_state(&program, lane, "up");
        program.wait_for("laigu_router_lag_events", &[lane], 0.0);
    }
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    drop(queue);
    runtime.block_on(remove(&rabbitmq, &node, &name));
}

#[test]
fn an_exchange_that_is_deleted_under_load_stops_its_lane_alone_and_nothing_is_lost() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home(EVERYTHING);
    let program = home.start();
    wait_for_state(&program, "crm", "up");
    let running = Senders::new(fastrand::u64(..)).start(home.hooks);
    let delivered = |lane: &str| program.metric("laigu_router_delivered_total", &[lane]);
    wait_for("a load", PATIENCE, || (delivered("crm") > 300.0).then_some(()));
    let client = line.runtime.block_on(line.rabbitmq.client());
    line.runtime.block_on(client.delete_exchange(&line.name));
    wait_for_state(&program, "crm", "misconfigured");
    assert!(destination(&home, "crm")["last_error"].as_str().unwrap().contains("NOT_FOUND"));
    let before = [delivered("lake"), delivered("archive")];
    wait_for("the others go on", PATIENCE, || {
        (delivered("lake") > before[0] + 300.0 && delivered("archive") > before[1] + 300.0).then_some(())
    });
    // It may declare its exchange, and does not: one made again by itself would have no bindings.
    assert!(!line.rabbitmq.ctl(&["list_exchanges", "-q", "name"]).lines().any(|found| found == line.name));
    line.runtime.block_on(async {
        client.exchange(&line.name, ExchangeKind::Topic).await;
        client.queue(&line.name, &line.name, "#", &[]).await;
    });
    wait_for_state(&program, "crm", "up");
    running.send_no_more();
    let (senders, load) = running.join(None);
    println!("{} answered", load.answered);
    let repeats = arrives("crm", &mut line.queue, ALL, Push::body, &senders);
    assert!(repeats <= WINDOW, "{repeats} repeats");
    assert_eq!(arrives("lake", &mut line.topic, ALL, Push::body, &senders), 0);
    assert_eq!(arrives("archive", &mut files(&home), ALL, on_one_line, &senders), 0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    line.end();
}

#[test]
fn a_memory_alarm_blocks_its_lane_alone_and_repeats_nothing_when_it_is_over() {
    let (rabbitmq, name) = (Broker::own("alarm"), fresh_topic());
    let mut queue = Queue::new(&rabbitmq, &name);
    let routes = "routes:\n  - { name: everything, to: [crm, archive] }\n";
    let home = home(&rabbitmq.url(), "127.0.0.1:1", &name, routes);
    let program = home.start();
    push_all(&home, FEW, 0..5);
    program.wait_for("laigu_router_delivered_total", &["crm"], 40.0);
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    push_all(&home, FEW, 5..15);
    wait_for_state(&program, "crm", "blocked");
    let shown = destination(&home, "crm");
    assert!(shown["last_error"].as_str().unwrap().contains("memory"), "{shown}");
    let senders = Senders::that_sent(FEW, 15);
    assert_eq!(arrives("archive", &mut files(&home), ALL, on_one_line, &senders), 0);
    assert!(program.metric("laigu_router_delivered_total", &["crm"]) < 40.5);
    rabbitmq.ctl(&["set_vm_memory_high_watermark", "absolute", "2GB"]);
    assert_eq!(arrives("crm", &mut queue, ALL, Push::body, &senders), 0);
    wait_for_state(&program, "crm", "up");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn of_ten_thousand_pushes_exactly_the_unroutable_ones_become_dead_letters() {
    const ROUTABLE: &[Route] = &[("everything", |push| !push.is_vip())];
    const COUNT: f64 = 10_000.0;
    let (rabbitmq, name) = (Broker::shared(), fresh_topic());
    let mut queue = Queue::bound(&rabbitmq, &name, "B");
    let text = format!(
        "{SOURCES}destinations:
  crm: {{ type: rabbitmq, url: '{}', exchange: {{ name: {name}, declare: false }} }}
retry: {{ backoff: 50ms..100ms, unroutable: 100ms }}
routes:
  - name: everything
    to: [{{ destination: crm, routing_key: \"{{{{ body.level | default('B') }}}}\" }}]
",
        rabbitmq.url()
    );
    let home = Home::new("{ path: ./data }", &text);
    let program = home.start();
    let running = Senders::new(fastrand::u64(..)).start(home.hooks);
    wait_for("ten thousand pushes", PATIENCE, || {
        (program.metric("laigu_router_accepted_total", &[]) >= COUNT).then_some(())
    });
    running.send_no_more();
    let (senders, _) = running.join(None);
    assert_eq!(arrives("crm", &mut queue, ROUTABLE, Push::body, &senders), 0);
    let pushes = (0..KEYS).flat_map(|key| (0..senders.sent(key)).map(move |number| Push { key, number }));
    let unroutable: BTreeSet<_> = pushes.filter(|push| push.is_vip()).map(Push::id).collect();
    let deaths = ["\"crm\"", "cause=\"unroutable\""];
    program.wait_for("laigu_router_dead_letters_total", &deaths, unroutable.len() as f64);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let dead = items(&home, "dead-letters?limit=500&cause=unroutable");
    assert_eq!(dead.len(), unroutable.len());
    assert!(dead.iter().all(|letter| letter["detail"].as_str().unwrap().contains("NO_ROUTE")), "{}", dead[0]);
    let ids: BTreeSet<_> = dead.iter().map(|letter| letter["vendor_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, unroutable);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    drop(queue);
    Runtime::new().unwrap().block_on(async {
        let client = rabbitmq.client().await;
        client.channel.queue_delete(name.as_str().into(), Default::default()).await.unwrap();
        client.delete_exchange(&name).await;
    });
}
