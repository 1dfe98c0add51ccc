//! The whole line: a push comes in over HTTP, and ordinary clients read it from RabbitMQ, from Kafka and from a file.

mod doors;
mod enriched;
mod fanout;
mod faults;
mod marks;
mod outages;
mod oversize;
mod rabbitmq;
mod refusals;
mod reloads;
mod restarts;
mod secure;
mod shipped;
mod signatures;
mod steered;

use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::{Queue, Topic, remove},
        campaign::Reader,
        files::Files,
        load::{Senders, answer},
        oracle::{History, Route},
        push::{Push, SOURCES},
    },
    kafka::support::{Node, create_topic, fresh_topic},
    program::{Home, PATIENCE, Program, get, wait_for},
    proxy::{Mode, Proxy},
};
use std::{io::Write, net::TcpStream};
use tokio::runtime::Runtime;

/// More than one, so that keys run in parallel.
const PARTITIONS: i32 = 3;

/// Both brokers, each behind a proxy that breaks, with a queue and a topic that nothing else uses.
struct Line {
    runtime: Runtime,
    rabbitmq: Broker,
    node: Node,
    name: String,
    /// Before RabbitMQ.
    amqp: Proxy,
    /// Before Kafka's first answer; what follows goes to the broker itself.
    kafka: Proxy,
    queue: Queue,
    topic: Topic,
}

impl Line {
    fn new(amqp_mode: Mode, kafka_mode: Mode) -> Self {
        let (rabbitmq, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
        let runtime = Runtime::new().unwrap();
        let kafka_port = node.brokers().rsplit(':').next().and_then(|port| port.parse().ok()).expect("host:port");
        let (amqp, kafka) = runtime.block_on(async {
            create_topic(node.brokers(), &name, PARTITIONS, &[]).await;
            (Proxy::before(rabbitmq.port()).await, Proxy::before(kafka_port).await)
        });
        amqp.set(amqp_mode);
        kafka.set(kafka_mode);
        let (queue, topic) = (Queue::new(&rabbitmq, &name), Topic::new(node.brokers(), &name, PARTITIONS));
        Self { runtime, rabbitmq, node, name, amqp, kafka, queue, topic }
    }

    /// A home whose destinations are `crm`, `lake` and `archive`.
    fn home(&self, routes: &str) -> Home {
        self.home_of(SOURCES, routes)
    }

    /// The same with other sources.
    fn home_of(&self, sources: &str, routes: &str) -> Home {
        Home::new("{ path: ./data }", &self.text(sources, routes))
    }

    /// What its file says of sources, destinations and routes.
    fn text(&self, sources: &str, routes: &str) -> String {
        let (amqp, kafka, name) = (self.amqp.port(), self.kafka.port(), &self.name);
        let destinations = format!(
            "destinations:
  crm:
    type: rabbitmq
    url: amqp://guest:guest@127.0.0.1:{amqp}
    exchange: {{ name: {name}, type: topic, durable: true, declare: true }}
  lake: {{ type: kafka, brokers: '127.0.0.1:{kafka}', topic: {name} }}
  archive: {{ type: file, path: ./archive }}
retry: {{ backoff: 100ms..1s }}
"
        );
        format!("{sources}{destinations}{routes}")
    }

    fn end(self) {
        self.runtime.block_on(remove(&self.rabbitmq, &self.node, &self.name));
    }
}

/// Everything to everyone.
const EVERYTHING: &str = "routes:\n  - { name: everything, to: [crm, lake, archive] }\n";

/// A home without brokers.
fn file_home() -> Home {
    let text = "destinations:\n  archive: { type: file, path: ./archive }\n\
                routes:\n  - { name: everything, to: [archive] }\n";
    Home::new("{ path: ./data }", &format!("{SOURCES}{text}"))
}

fn files(home: &Home) -> Files {
    Files::new(home.path("archive"))
}

/// Sends one request over a connection of its own, and gives the answer's status.
fn post(home: &Home, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(("127.0.0.1", home.hooks)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    answer(&mut stream).unwrap()
}

/// Pushes of each of these keys, in the order of their numbers.
fn push_all(home: &Home, keys: std::ops::Range<usize>, numbers: std::ops::Range<usize>) {
    for number in numbers {
        for key in keys.clone() {
            assert_eq!(post(home, &Push { key, number }.request()), 200);
        }
    }
}

const ALL: &[Route] = &[("everything", |_| true)];

fn on_one_line(push: Push) -> Vec<u8> {
    let mut bytes = push.body();
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    bytes
}

/// Reads until every push is there, in order for each key; says how many copies came too many.
fn arrives(
    name: &'static str,
    reader: &mut impl Reader,
    routes: &'static [Route],
    value: fn(Push) -> Vec<u8>,
    senders: &Senders,
) -> usize {
    settle(&mut History::new(name, routes, value), reader, senders)
}

/// The same, going on with what came before.
fn settle(history: &mut History, reader: &mut impl Reader, senders: &Senders) -> usize {
    let mut repeats = 0;
    wait_for(history.name, PATIENCE, || {
        repeats += history.take(reader.read_new(), senders);
        (history.has() >= history.wanted(senders)).then_some(())
    });
    history.check_whole(senders);
    repeats
}

fn wait_for_state(program: &Program, destination: &str, state: &str) {
    let labels = [&*format!("\"{destination}\""), &*format!("state=\"{state}\"")];
    program.wait_for("laigu_router_destination_state", &labels, 1.0);
}

/// What the admin API lists under this path, all pages of it.
fn items(home: &Home, path: &str) -> Vec<serde_json::Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, text) = get(home.admin, &format!("/api/v1/{path}{cursor}")).expect("the program answers");
        assert_eq!(status, 200, "{text}");
        let body = text.split_once("\r\n\r\n").unwrap().1;
        let page: serde_json::Value = serde_json::from_str(body).unwrap();
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        cursor = format!("&cursor={next}");
    }
}

/// What the admin API says of a destination.
fn destination(home: &Home, name: &str) -> serde_json::Value {
    items(home, "destinations?").into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

/// Waits until both brokers' destinations are told to have this much before them.
fn wait_for_backlogs(home: &Home, events: u64) {
    for name in ["crm", "lake"] {
        wait_for(name, PATIENCE, || (destination(home, name)["lag_events"] == events).then_some(()));
    }
}

/// No reload has cost a connection: what is out at a broker when one ends is sent again.
fn check_one_connection_each(program: &Program) {
    for name in ["\"crm\"", "\"lake\""] {
        assert!((program.metric("laigu_router_client_sessions_total", &[name]) - 1.0).abs() < 0.5, "{name}");
    }
}
