//! The Kafka destination against a real node, read back by an ordinary consumer.

mod faults;
mod lane;
mod mock;
mod secure;
pub mod support;

use laigu_router::{
    destinations::{Order, Outcome, OutletState, kafka::Timing},
    domain::{DeadCause, Failure, FailureKind, StopReason},
};
use lane::Lane;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use support::{Node, attempt, create_topic, delete_topic, event_id, fresh_topic, read_back, settings};

fn lane_to(node: &Node, topic: &str) -> Lane {
    Lane::start(&settings(node.brokers(), topic), 1_024, Timing::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_arrives_byte_for_byte_with_its_key_headers_and_time() {
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 3, &[]).await;
    let mut lane = lane_to(&node, &topic);
    lane.until_up().await;
    let body = "{ \"event\" : \"cus.upsert\",\n \"body\": {\"n\": 1.50, \"姓名\": \"\\u0041\"} }";
    let outcomes = lane.publish(vec![attempt(1, Some("acme/trk_1"), body), attempt(2, None, "{}")]).await;
    for (ticket, outcome) in &outcomes {
        assert!(
            matches!(outcome, Outcome::Taken { answer } if answer.starts_with("partition ")),
            "{ticket}: {outcome:?}"
        );
    }
    let seen = read_back(node.brokers(), &topic);
    assert_eq!(seen.len(), 2);
    let first = seen.iter().find(|seen| seen.key.is_some()).unwrap();
    assert_eq!(first.key.as_deref(), Some("acme/trk_1"));
    assert_eq!(first.value, body.as_bytes());
    assert_eq!(first.timestamp, Some(1_726_824_222_989));
    let mut headers = first.headers.clone();
    assert!(headers.remove("traceparent").is_some_and(|parent| parent.starts_with("00-")), "{headers:?}");
    let id = event_id(1).to_string();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", "/laigu/acme"),
        ("ce_type", "com.laigu.cus.upsert"),
        ("ce_time", "2024-09-20T09:23:42.989Z"),
        ("ce_subject", "acme/trk_1"),
        ("content-type", "application/json"),
        ("x-delivery", &format!("{id}/all")),
        ("x-route", "all"),
        ("x-attempt", "1"),
        ("x-vendor-id", "sub_1"),
    ];
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(headers, expected);
    let second = seen.iter().find(|seen| seen.key.is_none()).unwrap();
    assert_eq!(second.headers.get("ce_subject"), None);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_record_of_a_new_producer_waits_for_nothing() {
    const TRIES: u64 = 20;
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 1, &[]).await;
    // Left alone, librdkafka looks for its producer's id after 500 ms and again after as much: never is it quicker.
    let limit = Duration::from_millis(400);
    let mut fastest = Duration::MAX;
    for number in 0..TRIES {
        let mut lane = lane_to(&node, &topic);
        lane.until_up().await;
        let began = Instant::now();
        let outcomes = lane.publish(vec![attempt(number, None, "{}")]).await;
        assert!(matches!(&outcomes[&number], Outcome::Taken { .. }), "{outcomes:?}");
        fastest = fastest.min(began.elapsed());
        lane.end().await;
        if fastest < limit {
            return;
        }
    }
    panic!("{fastest:?} at best");
}

/// The hashes are those of the Java client's own test of `Utils.murmur2`.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_lands_where_the_java_client_puts_it() {
    let golden: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let partitions = 12;
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, partitions, &[]).await;
    let mut lane = lane_to(&node, &topic);
    lane.until_up().await;
    lane.publish((1..).zip(golden).map(|(number, (key, _))| attempt(number, Some(key), "{}")).collect()).await;
    let seen = read_back(node.brokers(), &topic);
    for (key, hash) in golden {
        let found = seen.iter().find(|seen| seen.key.as_deref() == Some(key)).unwrap();
        assert_eq!(found.partition, (hash & 0x7fff_ffff) % partitions, "{key}");
    }
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_stops_the_lane_and_its_creation_starts_it() {
    let (node, topic) = (Node::shared(), fresh_topic());
    let mut lane = lane_to(&node, &topic);
    let asked = Instant::now();
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(words.contains(&topic) && words.contains("does not exist"), "{words}");
    let outcomes = lane.publish(vec![attempt(1, None, "{}")]).await;
    assert!(
        matches!(&outcomes[&1], Outcome::Failed(Failure { kind: FailureKind::Lane(StopReason::Misconfigured), .. })),
        "{outcomes:?}"
    );
    create_topic(node.brokers(), &topic, 1, &[]).await;
    lane.order(Order::Probe).await;
    lane.until_up().await;
    assert!(matches!(&lane.publish(vec![attempt(2, None, "{}")]).await[&2], Outcome::Taken { .. }));
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_under_load_stops_the_lane_and_loses_nothing_of_what_follows() {
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 1, &[]).await;
    let mut lane = lane_to(&node, &topic);
    lane.until_up().await;
    lane.publish(vec![attempt(1, None, "{}")]).await;
    delete_topic(node.brokers(), &topic).await;
    let asked = Instant::now();
    let outcomes = lane.publish((2..50).map(|number| attempt(number, None, "{}")).collect()).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Failed(_))), "{outcomes:?}");
    lane.until_stopped(StopReason::Misconfigured).await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    create_topic(node.brokers(), &topic, 1, &[]).await;
    let again: Vec<_> = (2..50).map(|number| attempt(number, Some(&format!("k{number}")), "{}")).collect();
    assert_eq!(lane.deliver(again, |_| ()).await.len(), 0);
    assert_eq!(read_back(node.brokers(), &topic).len(), 48);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_alone_and_its_batch_goes_through_once() {
    let (node, topic) = (Node::shared(), fresh_topic());
    create_topic(node.brokers(), &topic, 1, &[("max.message.bytes", "20000")]).await;
    let mut lane = lane_to(&node, &topic);
    lane.until_up().await;
    let kib = |count: usize| format!("{{\"text\":\"{}\"}}", "x".repeat(count << 10));
    let mut attempts: Vec<_> = (1..=200).map(|number| attempt(number, Some(&format!("k{number}")), &kib(1))).collect();
    attempts.push(attempt(201, Some("too large for the topic"), &kib(50)));
    attempts.push(attempt(202, Some("too large for the producer"), &kib(1_100)));
    attempts.push(attempt(203, Some(&"k".repeat(1_025)), &kib(1)));
    let dead = lane.deliver(attempts, |_| ()).await;
    let too_large = FailureKind::Rejected(DeadCause::TooLarge);
    assert_eq!(dead, [(201, too_large), (202, too_large), (203, FailureKind::Rejected(DeadCause::Rejected))].into());
    let mut keys: Vec<_> = read_back(node.brokers(), &topic).into_iter().filter_map(|seen| seen.key).collect();
    keys.sort();
    let mut expected: Vec<_> = (1..=200).map(|number| format!("k{number}")).collect();
    expected.sort();
    assert_eq!(keys, expected);
    assert_eq!(lane.states, [OutletState::Up], "what is one record's affair stops no lane");
    assert!(lane.producers() >= 2, "the batches never became smaller");
    let alone = |kind: &FailureKind| matches!(kind, FailureKind::Nacked | FailureKind::Rejected(_));
    assert!(lane.failures.iter().all(alone), "{:?}", lane.failures);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_librdkafka_does_not_know_is_named_and_its_value_is_not() {
    let node = Node::shared();
    let mut settings = settings(node.brokers(), "t");
    settings.properties.insert("compression.typ".into(), "hush".into());
    let mut lane = Lane::start(&settings, 16, Timing::default());
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("compression.typ") && !words.contains("hush"), "{words}");
    lane.end().await;
}
