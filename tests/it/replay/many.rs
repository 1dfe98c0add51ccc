//! Ten thousand dead letters of three causes: listed, previewed, replayed at a rate, interrupted, resumed, each delivered.

use super::{edit, get, job, post, preview, push, replay, until};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{brokers::Queue, push::SOURCES},
    kafka::support::fresh_topic,
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

const EACH: [usize; 3] = [3_334, 3_333, 3_333];
const ALL: usize = 10_000;
const WINDOW: usize = 64;
const RATE: usize = 1_500;

fn push_all(home: &Home) {
    let kind = |id: usize| match id {
        id if id < EACH[0] => "\"n\":1,\"name\":\"good\"",
        id if id < EACH[0] + EACH[1] => "\"n\":\"one\",\"name\":\"good\"",
        _ => "\"n\":1",
    };
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                for id in (0..ALL).filter(|id| id % 8 == part) {
                    push(home, id, &format!("k{}", id % 500), kind(id));
                }
            });
        }
    });
}

#[test]
fn ten_thousand_dead_letters_are_replayed_over_a_kill_and_each_is_delivered() {
    let (broker, name) = (Broker::shared(), fresh_topic());
    let mut queue = Queue::new(&broker, &name);
    let url = broker.url();
    let text = format!(
        "destinations:
  crm:
    type: rabbitmq
    url: {url}
    exchange: {{ name: {name}, type: topic }}
    window: {WINDOW}
retry: {{ max_age: 1s }}
routes:
  - name: leads
    when: body.n > 0
    to: [{{ destination: crm, routing_key: '{{{{ body.name }}}}' }}]
"
    );
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{text}"));
    let program = home.start();
    post(&home, "destinations/crm/pause", Value::Null);
    push_all(&home);
    program.wait_for("laigu_router_undecided_events", &[], 0.0);
    thread::sleep(Duration::from_millis(1_100));
    post(&home, "destinations/crm/resume", Value::Null);
    program.wait_for("laigu_router_dead_letters_total", &[], ALL as f64);

    let groups = wait_for("three groups", PATIENCE, || {
        let groups = get(&home, "dead-letters/groups")["items"].as_array().unwrap().clone();
        let count = |one: &Value| (one["cause"].as_str().unwrap().to_owned(), one["count"].as_u64().unwrap());
        let groups: BTreeMap<_, _> = groups.iter().map(count).collect();
        (groups.values().sum::<u64>() == ALL as u64).then_some(groups)
    });
    let expected = [("condition", EACH[1]), ("expired", EACH[0]), ("template", EACH[2])];
    assert_eq!(groups, expected.map(|(cause, count)| (cause.to_owned(), count as u64)).into());
    // What failed on decision would fail again; the rest can be sent.
    let seen = preview(&home, json!({"filter": {}}));
    assert_eq!((&seen["matched"], &seen["kept"]), (&json!(EACH[0]), &json!(EACH[1] + EACH[2])));
    edit(&home, "body.n > 0", "has(body.n)");
    edit(&home, "{{ body.name }}", "{{ body.name | default(\"none\") }}");
    let seen = preview(&home, json!({"filter": {}}));
    assert_eq!((&seen["matched"], &seen["by_route"]), (&json!(ALL), &json!({"leads": ALL})));
    assert!(queue.look().is_empty(), "a preview sends nothing");

    let began = Instant::now();
    let id = replay(&home, json!({"filter": {}, "rate": format!("{RATE}/s")}));
    let sent = wait_for("a good part is delivered", PATIENCE, || {
        let delivered = job(&home, &id)["delivered"].as_u64().unwrap();
        (delivered > 3_000).then_some(delivered)
    });
    // The rate may catch up 100 ms after a pause.
    let most = began.elapsed().as_secs_f64() * RATE as f64 * 1.1 + 200.0;
    assert!((sent as f64) < most, "{sent} sent, {most} allowed");
    program.kill();
    let program = home.start();
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["failed"], &done["kept"]), (&json!(ALL), &json!(0), &json!(0)), "{done}");
    assert_eq!((&done["delivered"], &done["remaining"], &done["gone"]), (&json!(ALL), &json!(0), &json!(0)));

    let received = queue.look();
    let mut ids = BTreeSet::new();
    for message in &received {
        let event = message.header("cloudEvents_id");
        assert_eq!(message.header("x-replay"), id);
        assert_eq!(message.header("x-delivery"), format!("{event}/leads"), "it may have arrived after all");
        ids.insert(event);
    }
    let repeats = received.len() - ids.len();
    println!("{} messages, {repeats} repeats, window {WINDOW}", received.len());
    assert_eq!(ids.len(), ALL, "each is delivered");
    assert!(repeats <= WINDOW, "{repeats} repeats");
    assert_eq!(get(&home, "dead-letters/groups")["items"], json!([]));
    assert!(program.metric("laigu_router_replayed_total", &["crm"]) > 0.0);
    program.wait_for("laigu_router_replays_running", &[], 0.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = broker.client().await;
        client.channel.queue_delete(name.as_str().into(), Default::default()).await.expect("the queue goes");
        client.delete_exchange(&name).await;
    });
}
