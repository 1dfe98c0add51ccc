//! On a real RabbitMQ and a real Kafka: what was dead, delivered or unrouted goes out once more, and ordinary clients
//! read it.

use super::{edit, get, job, letters, post, preview, push, replay, until, wait_for_letters};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::{Queue, Topic, remove},
        push::SOURCES,
    },
    kafka::support::{Node, create_topic, fresh_topic},
    program::{Home, PATIENCE, Program, wait_for},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};
use tokio::runtime::Runtime;

/// More than one, so that keys run in parallel.
const PARTITIONS: i32 = 3;
/// Of both destinations: what a crash may repeat.
const WINDOW: usize = 16;
/// A condition that fails on texts.
const LEADS: &str = "routes:\n  - { name: leads, when: body.n > 0, to: [crm, lake] }\n";

/// Both brokers, with a queue and a topic that nothing else uses.
struct Both {
    runtime: Runtime,
    rabbitmq: Broker,
    node: Node,
    name: String,
    queue: Queue,
    topic: Topic,
}

/// What a client reads, whichever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copy {
    /// The destination.
    at: &'static str,
    id: String,
    delivery: String,
    replay: String,
    /// The routing key, or the record's key.
    address: String,
    value: Vec<u8>,
}

impl Both {
    /// The queue takes what has routing keys like this.
    fn new(binding: &str) -> Self {
        let (rabbitmq, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
        let runtime = Runtime::new().unwrap();
        runtime.block_on(create_topic(node.brokers(), &name, PARTITIONS, &[]));
        let queue = Queue::bound(&rabbitmq, &name, binding);
        let topic = Topic::new(node.brokers(), &name, PARTITIONS);
        Self { runtime, rabbitmq, node, name, queue, topic }
    }

    /// A home whose destinations are `crm`, `lake` and `out`.
    fn home(&self, routes: &str) -> Home {
        let (url, brokers, name) = (self.rabbitmq.url(), self.node.brokers(), &self.name);
        let text = format!(
            "{SOURCES}destinations:
  crm: {{ type: rabbitmq, url: '{url}', exchange: {{ name: {name}, declare: false }}, window: {WINDOW} }}
  lake: {{ type: kafka, brokers: '{brokers}', topic: {name}, window: {WINDOW} }}
  out: {{ type: file, path: ./out }}
retry: {{ backoff: 20ms..50ms, unroutable: 100ms, max_age: 1h }}
{routes}"
        );
        Home::new("{ path: ./data }", &text)
    }

    /// Everything that came since the last look.
    fn look(&mut self) -> Vec<Copy> {
        let mut copies = Vec::new();
        for message in self.queue.look() {
            let id = message.header("cloudEvents_id");
            assert_eq!(message.properties.message_id().as_ref().map(|id| id.as_str()), Some(&*id));
            let (delivery, replay) = (message.header("x-delivery"), message.header("x-replay"));
            copies.push(Copy { at: "crm", id, delivery, replay, address: message.routing_key, value: message.value });
        }
        for record in self.topic.look() {
            let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
            let (id, delivery, replay) = (header("ce_id"), header("x-delivery"), header("x-replay"));
            let address = record.key.clone().unwrap_or_default();
            copies.push(Copy { at: "lake", id, delivery, replay, address, value: record.value });
        }
        copies
    }

    /// Looks until so many have come.
    fn wait_for(&mut self, count: usize) -> Vec<Copy> {
        let mut all = Vec::new();
        wait_for(&format!("{count} copies"), PATIENCE, || {
            all.extend(self.look());
            (all.len() >= count).then_some(())
        });
        assert_eq!(all.len(), count);
        all
    }

    fn end(self, home: &Home, program: Program) {
        assert!(program.terminate(PATIENCE).success(), "{}", home.log());
        self.runtime.block_on(remove(&self.rabbitmq, &self.node, &self.name));
    }
}

/// The events at a destination, each once.
fn ids_at(copies: &[Copy], at: &str) -> BTreeSet<String> {
    copies.iter().filter(|copy| copy.at == at).map(|copy| copy.id.clone()).collect()
}

fn event_ids(list: &[Value], member: &str) -> BTreeSet<String> {
    list.iter().map(|one| one[member].as_str().unwrap().to_owned()).collect()
}

/// Events of a state, once there are so many.
fn wait_for_events(home: &Home, state: &str, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} events that are {state}"), PATIENCE, || {
        let list = get(home, &format!("events?state={state}&limit=500"));
        Some(list["items"].as_array().unwrap().clone()).filter(|all| all.len() == count)
    })
}

/// A program with so many dead letters for a condition, and the condition mended: each is worth two deliveries.
fn mended(both: &Both, count: usize) -> (Home, Program, BTreeSet<String>) {
    let home = both.home(LEADS);
    let program = home.start();
    thread::scope(|scope| {
        for part in 0..4 {
            let home = &home;
            scope.spawn(move || {
                for id in (part..count).step_by(4) {
                    push(home, id, &format!("k{id}"), "\"n\":\"one\"");
                }
            });
        }
    });
    let dead = wait_for_letters(&home, count);
    edit(&home, "body.n > 0", "has(body.n)");
    (home, program, event_ids(&dead, "event_id"))
}

#[test]
fn dead_letters_of_four_causes_reach_both_brokers_and_what_had_arrived_stays_alone() {
    const EACH: usize = 5;
    let mut both = Both::new("ok.leads");
    let home = both.home(
        "routes:
  - name: leads
    when: body.n > 0
    to:
      - { destination: crm, routing_key: '{{ body.way }}.leads' }
      - { destination: lake, key: '{{ body.way }}' }
",
    );
    let program = home.start();
    let push_each = |from: usize, members: &str| {
        (from..from + EACH).for_each(|id| push(&home, id, &format!("k{id}"), members));
    };
    push_each(0, "\"n\":1,\"way\":\"ok\"");
    push_each(10, "\"n\":1,\"way\":\"lost\"");
    push_each(20, "\"n\":\"one\",\"way\":\"ok\"");
    push_each(30, "\"n\":1");
    wait_for_letters(&home, 3 * EACH);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    post(&home, "destinations/lake/pause", Value::Null);
    push_each(40, "\"n\":1,\"way\":\"ok\"");
    program.wait_for("laigu_router_delivered_total", &["crm"], (2 * EACH) as f64);
    thread::sleep(Duration::from_millis(1_100));
    edit(&home, "max_age: 1h", "max_age: 1s");
    post(&home, "destinations/lake/resume", Value::Null);
    let dead = wait_for_letters(&home, 4 * EACH);
    let mut causes = BTreeMap::new();
    for letter in &dead {
        let text = |member: &str| letter[member].as_str().unwrap().to_owned();
        causes.entry((text("cause"), text("destination"))).or_insert_with(BTreeSet::new).insert(text("event_id"));
    }
    let of = |cause: &str, at: &str| causes.get(&(cause.to_owned(), at.to_owned())).cloned().unwrap_or_default();
    let (lost, late) = (of("unroutable", "crm"), of("expired", "lake"));
    let decided: BTreeSet<_> = of("condition", "").union(&of("template", "")).cloned().collect();
    assert_eq!((lost.len(), late.len(), decided.len()), (EACH, EACH, 2 * EACH), "{causes:?}");
    let before = both.wait_for(2 * EACH + 2 * EACH);
    assert!(before.iter().all(|copy| copy.replay.is_empty() && copy.delivery == format!("{}/leads", copy.id)));

    // A delivery is replayed, not its route's others; what failed on decision fails as long as the file is wrong.
    let body = json!({"filter": {}, "routes": "today"});
    let seen = preview(&home, body.clone());
    assert_eq!((&seen["matched"], &seen["kept"]), (&json!(2 * EACH), &json!(2 * EACH)), "{seen}");
    edit(&home, "body.n > 0", "has(body.n)");
    edit(&home, "{{ body.way }}", "{{ body.way | default(\"new\") }}");
    both.runtime.block_on(async {
        both.rabbitmq.client().await.queue(&both.name, &both.name, "*.leads", &[]).await;
    });
    let seen = preview(&home, body.clone());
    assert_eq!(seen["by_route"], json!({"leads": 6 * EACH}), "{seen}");
    assert!(both.look().is_empty(), "a preview sends nothing");

    let id = replay(&home, body);
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"]), (&seen["matched"], &json!(6 * EACH)), "{done}");
    let copies = both.look();
    assert_eq!(copies.len(), 6 * EACH, "each once");
    assert_eq!(ids_at(&copies, "crm"), lost.union(&decided).cloned().collect());
    assert_eq!(ids_at(&copies, "lake"), late.union(&decided).cloned().collect());
    for copy in &copies {
        assert_eq!((&copy.replay, &copy.delivery), (&id, &format!("{}/leads", copy.id)), "it may have arrived");
        let body: Value = serde_json::from_slice(&copy.value).unwrap();
        let way = body["body"]["way"].as_str().unwrap_or("new");
        assert_eq!(copy.address, if copy.at == "crm" { format!("{way}.leads") } else { way.to_owned() });
    }
    assert!(letters(&home, "").is_empty());
    both.end(&home, program);
}

#[test]
fn delivered_events_are_told_apart_when_both_brokers_get_them_again_by_time_and_key() {
    let mut both = Both::new("#");
    let home = both.home("routes:\n  - { name: all, to: [crm, lake] }\n");
    let program = home.start();
    (0..12).for_each(|id| push(&home, id, &format!("k{}", id % 3), "\"n\":1"));
    let first = both.wait_for(24);
    let events = wait_for_events(&home, "delivered", 12);
    let mut times: Vec<_> = events.iter().map(|event| event["received_at"].as_str().unwrap()).collect();
    times.sort_unstable();
    let (from, to) = (times[4], times[10]);
    let mut wanted = events.clone();
    wanted.retain(|event| event["key"] == "k1" && (from..to).contains(&event["received_at"].as_str().unwrap()));
    let wanted = event_ids(&wanted, "id");
    assert!((1..4).contains(&wanted.len()), "{events:?}");

    let body = json!({"of": "events", "filter": {"key": "k1", "from": from, "to": to}});
    assert_eq!(preview(&home, body.clone())["matched"], 2 * wanted.len());
    let id = replay(&home, body);
    assert_eq!(until(&home, &id, "done")["delivered"], 2 * wanted.len());
    let copies = both.look();
    assert_eq!(copies.len(), 2 * wanted.len());
    for at in ["crm", "lake"] {
        assert_eq!(ids_at(&copies, at), wanted);
    }
    for copy in copies {
        let was = first.iter().find(|was| (was.at, &was.id) == (copy.at, &copy.id)).unwrap();
        let delivery = format!("{}/{id}", was.delivery);
        assert_eq!(copy, Copy { delivery, replay: id.clone(), ..was.clone() }, "all the rest is the same");
    }
    both.end(&home, program);
}

#[test]
fn unrouted_events_go_through_new_routes_and_delivered_ones_to_other_destinations() {
    let mut both = Both::new("#");
    let home = both.home(
        "routes:
  - name: vip
    when: body.n == 7
    to: [{ destination: crm, routing_key: 'vip.{{ event.key }}' }]
",
    );
    let program = home.start();
    (0..6).for_each(|id| push(&home, id, &format!("k{id}"), "\"n\":1"));
    (6..9).for_each(|id| push(&home, id, &format!("k{id}"), "\"n\":7"));
    let unrouted = event_ids(&wait_for_events(&home, "unrouted", 6), "id");
    let vip = event_ids(&wait_for_events(&home, "delivered", 3), "id");
    assert_eq!(ids_at(&both.wait_for(3), "crm"), vip);

    let body = json!({"of": "events", "filter": {"state": "unrouted"}, "routes": "today"});
    assert_eq!(preview(&home, body.clone())["matched"], 0);
    edit(&home, "routes:\n", "routes:\n  - { name: new, when: body.n == 1, to: [crm, lake] }\n");
    assert_eq!(preview(&home, body.clone())["by_route"], json!({"new": 12}));
    let id = replay(&home, body);
    assert_eq!(until(&home, &id, "done")["delivered"], 12);
    let copies = both.look();
    assert_eq!((copies.len(), ids_at(&copies, "crm"), ids_at(&copies, "lake")), (12, unrouted.clone(), unrouted));
    // Nobody had it yet.
    assert!(copies.iter().all(|copy| copy.replay == id && copy.delivery == format!("{}/new", copy.id)));

    for routes in ["as-routed", "today"] {
        let body = json!({"of": "events", "filter": {"route": "vip", "destination": "crm"}, "routes": routes,
            "destinations": ["lake"]});
        assert_eq!(preview(&home, body.clone())["by_route"], json!({"vip": 3}), "{routes}");
        let id = replay(&home, body);
        assert_eq!(until(&home, &id, "done")["delivered"], 3);
        let copies = both.look();
        assert_eq!((copies.len(), ids_at(&copies, "lake")), (3, vip.clone()));
        for copy in copies {
            assert_eq!((copy.delivery, copy.replay), (format!("{}/vip/{id}", copy.id), id.clone()));
            // A routing key is no key of a record.
            assert!(copy.address.starts_with("acme/k"), "{}", copy.address);
        }
    }
    both.end(&home, program);
}

#[test]
fn what_was_discarded_reaches_neither_broker() {
    let mut both = Both::new("#");
    let (home, program, dead) = mended(&both, 8);
    let filter = json!({"cause": "condition", "key": "k3"});
    assert_eq!(preview(&home, json!({"filter": filter}))["matched"], 2);
    let done = post(&home, "dead-letters/discard", json!({"filter": filter, "reason": "a test of the vendor"}));
    assert_eq!(done["discarded"], 1);
    assert_eq!(preview(&home, json!({"filter": filter}))["matched"], 0);
    let id = replay(&home, json!({"filter": filter}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"], &done["kept"]), (&json!(0), &json!(0), &json!(0)), "{done}");
    assert!(both.look().is_empty());
    let id = replay(&home, json!({"filter": {"cause": "condition"}}));
    assert_eq!(until(&home, &id, "done")["delivered"], 14);
    let copies = both.look();
    let (at_crm, at_lake) = (ids_at(&copies, "crm"), ids_at(&copies, "lake"));
    assert_eq!((copies.len(), at_crm.len()), (14, 7));
    assert!(at_crm == at_lake && at_crm.is_subset(&dead));
    both.end(&home, program);
}

#[test]
fn a_job_that_a_stop_interrupts_goes_on_after_it_and_both_brokers_get_each() {
    const COUNT: usize = 200;
    let mut both = Both::new("#");
    let (home, program, dead) = mended(&both, COUNT);
    let id = replay(&home, json!({"filter": {}, "routes": "today", "rate": "100/s"}));
    let delivered = || usize::try_from(job(&home, &id)["delivered"].as_u64().unwrap()).unwrap();
    wait_for("some are sent", PATIENCE, || (delivered() >= 40).then_some(()));
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    let mut copies = both.look();
    assert!((40..2 * COUNT).contains(&copies.len()), "{} of {} before the stop", copies.len(), 2 * COUNT);
    let program = home.start();
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"]), (&json!(2 * COUNT), &json!(2 * COUNT)), "{done}");
    assert_eq!((&done["failed"], &done["remaining"], &done["kept"]), (&json!(0), &json!(0), &json!(0)), "{done}");
    copies.extend(both.look());
    for at in ["crm", "lake"] {
        let ids = ids_at(&copies, at);
        assert_eq!(ids, dead, "each is there");
        let repeats = copies.iter().filter(|copy| copy.at == at).count() - ids.len();
        assert!(repeats <= WINDOW, "{repeats} repeats at {at}");
    }
    assert!(copies.iter().all(|copy| copy.replay == id && copy.delivery == format!("{}/leads", copy.id)));
    assert!(letters(&home, "").is_empty());
    both.end(&home, program);
}

#[test]
fn two_jobs_over_the_same_dead_letters_send_each_to_both_brokers_once() {
    const COUNT: usize = 150;
    let mut both = Both::new("#");
    let (home, program, dead) = mended(&both, COUNT);
    let both_jobs: Vec<_> = thread::scope(|scope| {
        let begin = |routes: &'static str| {
            let home = &home;
            scope.spawn(move || replay(home, json!({"filter": {}, "routes": routes, "rate": "400/s"})))
        };
        let jobs = ["today", "as-routed"].map(begin);
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    let done: Vec<_> = both_jobs.iter().map(|id| until(&home, id, "done")).collect();
    for member in ["matched", "delivered"] {
        let sum: u64 = done.iter().map(|job| job[member].as_u64().unwrap()).sum();
        assert_eq!(sum, 2 * COUNT as u64, "{done:?}");
    }
    let copies = both.look();
    assert_eq!((copies.len(), ids_at(&copies, "crm"), ids_at(&copies, "lake")), (2 * COUNT, dead.clone(), dead));
    assert!(copies.iter().all(|copy| both_jobs.contains(&copy.replay)));
    assert!(letters(&home, "").is_empty());
    both.end(&home, program);
}
