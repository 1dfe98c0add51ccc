//! `kill -9` of the real program under load, and what its destinations hold in the end.
//!
//! The oracle shares nothing with the product: pushes are made from (key, number), so it knows every byte, every
//! destination and every order without asking. For each destination it demands that every push answered 200 is there
//! by every route that is for it; that nothing else is; that bytes are equal; that first copies of a key are in the
//! order they were accepted; that a crash repeats no more than the window, and only what had no durable receipt.

pub mod brokers;
pub mod campaign;
pub mod files;
pub mod load;
pub mod oracle;
pub mod push;
mod store;

use crate::{
    brokers::rabbitmq::Broker,
    kafka::support::{Node, create_topic, fresh_topic},
    program::Home,
};
use brokers::{Queue, Topic};
use campaign::Target;
use files::Files;
use oracle::{History, Route};
use push::Push;

/// Kills that must count.
const CYCLES: usize = 50;
/// Stops by SIGTERM.
const STOPS: usize = 10;
/// Deliveries that a file lane has out at most.
const WINDOW: usize = 256;

const FILES: &str = "destinations:
  archive: { type: file, path: ./archive, window: 256 }
  leads: { type: file, path: ./leads, window: 256 }
routes:
  - { name: vip, when: 'has(body.level) && body.level == \"A\"', to: [archive] }
  - { name: leads, when: has(body.tel), to: [leads] }
  - { name: everything, to: [archive] }
";

const ARCHIVE: &[Route] = &[("vip", Push::is_vip), ("everything", |_| true)];
const LEADS: &[Route] = &[("leads", Push::is_lead)];

/// A push as a line's `data`: its bytes without its line breaks.
fn on_one_line(push: Push) -> Vec<u8> {
    let mut bytes = push.body();
    bytes.retain(|byte| !matches!(byte, b'\r' | b'\n'));
    bytes
}

fn file_targets(home: &Home) -> [Target; 2] {
    let target =
        |name, routes| Target::new(History::new(name, routes, on_one_line), Files::new(home.path(name)), WINDOW);
    [target("archive", ARCHIVE), target("leads", LEADS)]
}

#[test]
fn killed_under_load_it_loses_and_invents_nothing_in_its_files() {
    let home = campaign::home(FILES);
    campaign::run(&home, &mut file_targets(&home), CYCLES, 150..700);
}

#[test]
fn stopped_under_load_it_repeats_nothing_either() {
    let home = campaign::home(FILES);
    campaign::run_stops(&home, &mut file_targets(&home), STOPS);
}

const PARTITIONS: i32 = 3;

fn both_brokers(amqp_url: &str, kafka_brokers: &str, name: &str) -> String {
    format!(
        "destinations:
  crm:
    type: rabbitmq
    url: {amqp_url}
    exchange: {{ name: {name}, type: topic, durable: true, declare: true }}
    window: 256
  lake: {{ type: kafka, brokers: '{kafka_brokers}', topic: {name}, window: 256 }}
routes:
  - {{ name: vip, when: 'has(body.level) && body.level == \"A\"', to: [crm] }}
  - {{ name: leads, when: has(body.tel), to: [lake] }}
  - {{ name: everything, to: [crm, lake] }}
"
    )
}

const CRM: &[Route] = &[("vip", Push::is_vip), ("everything", |_| true)];
const LAKE: &[Route] = &[("leads", Push::is_lead), ("everything", |_| true)];

#[test]
fn killed_under_load_it_loses_and_invents_nothing_at_both_brokers() {
    let (rabbitmq, node, name) = (Broker::shared(), Node::shared(), fresh_topic());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(create_topic(node.brokers(), &name, PARTITIONS, &[]));
    let home = campaign::home(&both_brokers(&rabbitmq.url(), node.brokers(), &name));
    let mut targets = [
        Target::new(History::new("crm", CRM, Push::body), Queue::new(&rabbitmq, &name), WINDOW),
        Target::new(History::new("lake", LAKE, Push::body), Topic::new(node.brokers(), &name, PARTITIONS), WINDOW),
    ];
    campaign::run(&home, &mut targets, CYCLES, 300..900);
    runtime.block_on(brokers::remove(&rabbitmq, &node, &name));
}
