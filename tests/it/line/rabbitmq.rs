//! RabbitMQ says no for a while: to us, or to whatever comes.

use super::{ALL, arrives, destination, files, on_one_line, push_all, settle, wait_for_state};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::Queue,
        load::Senders,
        oracle::History,
        push::{Push, SOURCES},
    },
    kafka::support::fresh_topic,
    program::{Home, PATIENCE, Program, wait_for},
};
use lapin::ExchangeKind;
use tokio::runtime::Runtime;

const KEYS: std::ops::Range<usize> = 0..8;
/// What these homes say.
const WINDOW: usize = 256;

/// A home with one exchange, declared by someone else, and a file.
fn home(url: &str, name: &str, routes: &str) -> Home {
    let destinations = format!(
        "destinations:
  crm: {{ type: rabbitmq, url: '{url}', window: {WINDOW}, exchange: {{ name: {name}, declare: false }} }}
  archive: {{ type: file, path: ./archive }}
retry: {{ backoff: 100ms..1s }}
"
    );
    Home::new("{ path: ./data }", &format!("{SOURCES}{destinations}{routes}"))
}

const TO_BOTH: &str = "routes:\n  - { name: everything, to: [crm, archive] }\n";
const TO_CRM: &str = "routes:\n  - { name: everything, to: [crm] }\n";

fn delivered(program: &Program, lane: &str) -> f64 {
    program.metric("laigu_router_delivered_total", &[lane])
}

/// Removes what a test made at the shared node.
fn remove(broker: &Broker, name: &str) {
    Runtime::new().unwrap().block_on(async {
        let client = broker.client().await;
        client.channel.queue_delete(name.into(), Default::default()).await.unwrap();
        client.delete_exchange(name).await;
    });
}

#[test]
fn a_permission_revoked_under_load_stops_its_lane_alone_until_it_is_given_back() {
    let (broker, name) = (Broker::shared(), fresh_topic());
    let mut queue = Queue::new(&broker, &name);
    broker.ctl(&["add_user", &name, "pass-word"]);
    let permit = |write: &str| broker.ctl(&["set_permissions", &name, ".*", write, ".*"]);
    permit(".*");
    let home = home(&format!("amqp://{name}:pass-word@127.0.0.1:{}", broker.port()), &name, TO_BOTH);
    let program = home.start();
    wait_for_state(&program, "crm", "up");
    let running = Senders::new(fastrand::u64(..)).start(home.hooks);
    wait_for("a load", PATIENCE, || (delivered(&program, "crm") > 300.0).then_some(()));
    permit("^$");
    // The broker remembers what a channel may for as long as the channel is busy.
    broker.ctl(&["close_all_user_connections", &name, "revoked"]);
    wait_for_state(&program, "crm", "misconfigured");
    let error = destination(&home, "crm")["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("ACCESS_REFUSED") && !error.contains("pass-word"), "{error}");
    let before = [delivered(&program, "crm"), delivered(&program, "archive")];
    wait_for("the file goes on", PATIENCE, || (delivered(&program, "archive") > before[1] + 300.0).then_some(()));
    assert!((delivered(&program, "crm") - before[0]).abs() < 0.5);
    running.send_no_more();
    let (senders, load) = running.join(None);
    println!("{} answered", load.answered);
    permit(".*");
    let repeats = arrives("crm", &mut queue, ALL, Push::body, &senders);
    assert!(repeats <= WINDOW, "{repeats} repeats");
    wait_for_state(&program, "crm", "up");
    assert_eq!(arrives("archive", &mut files(&home), ALL, on_one_line, &senders), 0);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    assert!(program.metric("laigu_router_dead_letters_total", &[]) < 0.5);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    drop(queue);
    broker.ctl(&["delete_user", &name]);
    remove(&broker, &name);
}

#[test]
fn a_full_queue_that_rejects_is_tried_again_until_there_is_room() {
    let (broker, name) = (Broker::shared(), fresh_topic());
    Runtime::new().unwrap().block_on(async {
        let client = broker.client().await;
        client.exchange(&name, ExchangeKind::Topic).await;
        client.queue(&name, &name, "#", &[]).await;
    });
    let (pattern, full) = (format!("^{name}$"), "{\"max-length\":1,\"overflow\":\"reject-publish\"}");
    broker.ctl(&["set_policy", &name, &pattern, full, "--apply-to", "queues"]);
    let home = home(&broker.url(), &name, TO_CRM);
    let program = home.start();
    let retried = || program.metric("laigu_router_retried_total", &["\"crm\""]);
    let mut history = History::new("crm", ALL, Push::body);

    // Someone empties it.
    push_all(&home, KEYS, 0..3);
    wait_for("tries again", PATIENCE, || (retried() > 8.0).then_some(()));
    assert!(program.metric("laigu_router_lag_events", &["\"crm\""]) > 0.5);
    assert_eq!(destination(&home, "crm")["state"], "up", "a full queue is not the lane's trouble");
    let mut queue = Queue::new(&broker, &name);
    assert_eq!(settle(&mut history, &mut queue, &Senders::that_sent(KEYS, 3)), 0);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    drop(queue);

    // Someone lifts the limit.
    let before = retried();
    push_all(&home, KEYS, 3..6);
    wait_for("tries again", PATIENCE, || (retried() > before + 8.0).then_some(()));
    broker.ctl(&["clear_policy", &name]);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    assert_eq!(settle(&mut history, &mut Queue::new(&broker, &name), &Senders::that_sent(KEYS, 6)), 0);
    assert!(program.metric("laigu_router_dead_letters_total", &[]) < 0.5);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    remove(&broker, &name);
}
