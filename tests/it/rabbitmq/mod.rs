//! The RabbitMQ outlet against a real broker, and against what can happen to it.

mod contract;
mod faults;
mod link;
mod refusals;

use crate::{
    brokers::rabbitmq::{Broker, Client},
    lane::Lane,
};
use laigu_router::{
    config::settings::{Exchange, RabbitMq},
    destinations::{Common, message::TypePrefixes, rabbitmq},
    domain::{Attempt, DestinationName, Secret, SourceName},
};
use lapin::types::AMQPValue;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many tries a lane of these tests has out.
const WINDOW: usize = 512;

/// A name that nothing else on the broker has.
fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Settings for an exchange that must be there already.
fn settings(url: String, exchange: &str) -> RabbitMq {
    RabbitMq {
        urls: vec![Secret::new(url)],
        exchange: Exchange { name: exchange.into(), kind: "topic".into(), durable: true, declare: false },
        mandatory: true,
        ca_file: None,
        client_cert: None,
    }
}

fn lane(settings: &RabbitMq) -> Lane {
    lane_with(settings, WINDOW)
}

/// A lane that has so many tries out: its batches grow with them.
fn lane_with(settings: &RabbitMq, window: usize) -> Lane {
    Lane::new(rabbitmq::start(common(window), settings))
}

fn common(window: usize) -> Common {
    let prefixes = TypePrefixes::new([(SourceName::parse("laigu").unwrap(), "com.laigu.".into())].into());
    Common { name: DestinationName::parse("out").unwrap(), window, prefixes }
}

/// `count` tries of `keys` keys with the routing key `a`; bodies of about `bytes`.
fn attempts(count: u64, keys: u64, bytes: usize) -> Vec<Attempt> {
    let body = |n: u64| format!("{{\"n\":{n},\"filler\":\"{}\"}}", "x".repeat(bytes));
    (0..count).map(|n| crate::lane::attempt(n, n % keys, "a", body(n))).collect()
}

/// A topic exchange with a durable queue on the routing key `a`; both have the returned name.
async fn exchange_and_queue(client: &Client, arguments: &[(&str, AMQPValue)]) -> String {
    let name = unique("out");
    client.exchange(&name, lapin::ExchangeKind::Topic).await;
    client.queue(&name, &name, "a", arguments).await;
    name
}

/// Checks that all of `attempts` came, unchanged and in order for each key when only first copies count, and returns
/// how many copies there were too many.
async fn check_all_came(broker: &Broker, queue: &str, attempts: &[Attempt]) -> usize {
    let received = broker.client().await.drain(queue, attempts.len()).await;
    let mut first: std::collections::BTreeMap<String, (usize, Vec<u8>)> = std::collections::BTreeMap::new();
    for (place, message) in received.iter().enumerate() {
        let known = first.entry(message.header("x-delivery")).or_insert((place, message.value.clone()));
        assert_eq!(known.1, message.value, "two copies differ");
    }
    let mut last_of_key = std::collections::BTreeMap::new();
    for attempt in attempts {
        let id = attempt.delivery.id();
        let (place, value) = first.remove(id.as_str()).unwrap_or_else(|| panic!("{} was lost", id.as_str()));
        assert_eq!(value, attempt.delivery.event().body);
        let before = last_of_key.insert(attempt.delivery.event().order, place);
        assert!(before.is_none_or(|before| before < place), "{} came out of order", id.as_str());
    }
    assert!(first.is_empty(), "came from nowhere: {first:?}");
    received.len() - attempts.len()
}
