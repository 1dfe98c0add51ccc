//! What a consumer gets, and what counts as delivered.

use super::{WINDOW, attempts, check_all_came, exchange_and_queue, lane, lane_with, settings};
use crate::{brokers::rabbitmq::Broker, lane::attempt};
use laigu_router::{
    destinations::Outcome,
    domain::{Failure, FailureKind},
};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_the_bytes_headers_and_properties_of_the_contract() {
    let (broker, body) = (Broker::shared(), "{\"a\": 1.00,\r\n \"b\": \"线索\"}\n");
    let client = broker.client().await;
    let queue = exchange_and_queue(&client, &[]).await;
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    let attempt = attempt(42, 1, "a", body);
    assert_eq!(lane.try_one(attempt.clone()).await, Outcome::Taken { answer: "ack".into() });
    let received = client.drain(&queue, 1).await;
    let [message] = &received[..] else { panic!("{} messages", received.len()) };
    assert_eq!(message.value, body.as_bytes());
    assert_eq!(message.routing_key, "a");
    let id = attempt.delivery.event().id.to_string();
    for (name, value) in [
        ("cloudEvents_specversion", "1.0"),
        ("cloudEvents_id", &id),
        ("cloudEvents_source", "/laigu/acme"),
        ("cloudEvents_type", "com.laigu.cus.upsert"),
        ("cloudEvents_time", "2024-09-20T09:23:42.989Z"),
        ("cloudEvents_subject", "trk_1"),
        ("x-delivery", &format!("{id}/leads")),
        ("x-route", "leads"),
        ("x-attempt", "1"),
        ("x-vendor-id", "sub_42"),
        ("x-replay", ""),
        ("x-origin", ""),
        ("x-id-conflict", ""),
    ] {
        assert_eq!(message.header(name), value, "{name}");
    }
    assert_eq!(message.header("traceparent").len(), 55);
    let properties = &message.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(text(properties.message_id()), Some(id));
    assert_eq!(text(properties.kind()).as_deref(), Some("com.laigu.cus.upsert"));
    assert_eq!(text(properties.content_type()).as_deref(), Some("application/json"));
    assert_eq!(text(properties.app_id()).as_deref(), Some("laigu-router"));
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(*properties.timestamp(), Some(1_726_824_222));
}

async fn check_attribution(arguments: &[(&str, lapin::types::AMQPValue)], window: usize) {
    const COUNT: u64 = 10_000;
    let broker = Broker::shared();
    let client = broker.client().await;
    let queue = exchange_and_queue(&client, arguments).await;
    let mut lane = lane_with(&settings(broker.url(), &queue), window);
    lane.until_up().await;
    let unroutable = |n: u64| n.is_multiple_of(10);
    let address = |n| if unroutable(n) { "nobody" } else { "a" };
    let (mut returned, mut taken) = (BTreeSet::new(), BTreeSet::new());
    let mut numbers = 0..COUNT;
    let mut out = 0;
    loop {
        let batch: Vec<_> = numbers.by_ref().take(window - out).map(|n| attempt(n, n, address(n), "{}")).collect();
        out += batch.len();
        if out == 0 {
            break;
        }
        if !batch.is_empty() {
            lane.publish(batch).await;
        }
        for (ticket, outcome) in lane.report().await {
            out -= 1;
            match outcome {
                Outcome::Taken { .. } => assert!(taken.insert(ticket)),
                Outcome::Failed(Failure { kind: FailureKind::Returned, detail }) => {
                    assert_eq!(&*detail, "312 NO_ROUTE");
                    assert!(returned.insert(ticket));
                }
                Outcome::Failed(failure) => panic!("{failure:?}"),
            }
        }
    }
    assert!(returned.iter().copied().eq((0..COUNT).filter(|n| unroutable(*n))), "{} returned", returned.len());
    assert!(taken.iter().copied().eq((0..COUNT).filter(|n| !unroutable(*n))), "{} taken", taken.len());
    let received = client.drain(&queue, taken.len()).await;
    let ids: BTreeSet<String> = received.iter().map(|message| message.header("x-vendor-id")).collect();
    assert_eq!((received.len(), ids.len()), (taken.len(), taken.len()));
    assert!(taken.iter().all(|ticket| ids.contains(&format!("sub_{ticket}"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_thousand_messages_exactly_the_unroutable_ones_are_returned() {
    check_attribution(&[], WINDOW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returns_are_attributed_exactly_in_the_larger_batches_of_a_larger_window_too() {
    check_attribution(&[], 4_096).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returns_are_attributed_exactly_on_quorum_queues_too() {
    check_attribution(&[("x-queue-type", lapin::types::AMQPValue::LongString("quorum".into()))], WINDOW).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_everything_comes_once_and_in_order() {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    let attempts = attempts(5_000, 300, 500);
    let tally = lane.deliver(attempts.clone(), |_| {}).await;
    assert!(tally.tries.values().all(|tries| *tries == 1));
    assert_eq!(check_all_came(&broker, &queue, &attempts).await, 0);
}
