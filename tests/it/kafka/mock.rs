//! Faults that a real node does not produce on demand, from librdkafka's own mock cluster.

use super::{
    lane::Lane,
    support::{attempt, repeats, settings},
};
use laigu_router::{
    destinations::{Order, Outcome, OutletState, Report, kafka::Timing},
    domain::{Failure, FailureKind, StopReason},
};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use std::time::{Duration, Instant};

const TOPIC: &str = "t";

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    cluster.create_topic(TOPIC, 4, 3).unwrap();
    cluster
}

/// Times short enough for a test.
fn timing() -> Timing {
    Timing {
        silence: Duration::from_secs(4),
        record: Duration::from_secs(8),
        open: Duration::from_secs(2),
        pause_misconfigured: Duration::from_secs(1),
        ..Timing::default()
    }
}

async fn lane(cluster: &MockCluster<'_, DefaultProducerContext>) -> Lane {
    let mut lane = Lane::start(&settings(&cluster.bootstrap_servers(), TOPIC), 256, timing());
    lane.until_up().await;
    lane
}

fn records(from: u64, count: u64) -> Vec<laigu_router::domain::Attempt> {
    (from..from + count).map(|number| attempt(number, Some(&format!("k{number}")), "{}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_of_idempotence_gets_a_new_producer() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    lane.deliver(records(1, 50), |_| ()).await;
    assert_eq!(lane.producers(), 1);
    // A sequence that the broker has lost, although nothing of ours is in doubt: librdkafka gives up for good.
    cluster
        .request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 4]);
    lane.deliver(records(100, 200), |_| ()).await;
    assert!(lane.producers() >= 2, "{}", lane.producers());
    assert!(lane.failures.contains(&FailureKind::Unknown), "{:?}", lane.failures);
    assert!(
        lane.states.iter().any(|state| matches!(state, OutletState::Stopped(StopReason::Down, _))),
        "{:?}",
        lane.states
    );
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_replicas_are_waited_for_inside() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 8]);
    let outcomes = lane.publish(records(1, 50)).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Taken { .. })), "{outcomes:?}");
    assert_eq!((lane.producers(), lane.states.as_slice()), (1, [OutletState::Up].as_slice()));
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_write_is_misconfigured_and_nothing_is_dead() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 4]);
    let dead = lane.deliver(records(1, 50), |_| ()).await;
    assert_eq!(dead.len(), 0);
    assert!(
        lane.states.iter().any(|state| matches!(state, OutletState::Stopped(StopReason::Misconfigured, _))),
        "{:?}",
        lane.states
    );
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_trouble_one_record_goes_ahead_and_the_others_wait_for_it() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    // Four partitions at most in the first session, one record in each that follows.
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 6]);
    lane.deliver(records(1, 50), |_| ()).await;
    assert!((3..=7).contains(&lane.producers()), "{}", lane.producers());
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_outage_is_left_to_the_producer_and_makes_no_doubt() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    lane.publish(records(1, 10)).await;
    cluster.broker_down(-1).unwrap();
    lane.order(Order::Publish(records(100, 100))).await;
    lane.until_stopped(StopReason::Down).await;
    cluster.broker_up(-1).unwrap();
    let mut taken = 0;
    while taken < 100 {
        match lane.report().await {
            Report::Outcomes(outcomes) => {
                assert!(outcomes.iter().all(|(_, end)| matches!(end, Outcome::Taken { .. })), "{outcomes:?}");
                taken += outcomes.len();
            }
            Report::State { state, .. } => panic!("{state:?} before all that was out is reported"),
        }
    }
    lane.until_up().await;
    assert_eq!(lane.producers(), 1);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_outage_gives_the_producer_up_and_everything_an_end() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    lane.publish(records(1, 10)).await;
    cluster.broker_down(-1).unwrap();
    let asked = Instant::now();
    let outcomes = lane.publish(records(100, 100)).await;
    assert!(asked.elapsed() >= timing().silence, "{:?}", asked.elapsed());
    assert!(
        outcomes.values().all(|end| matches!(end, Outcome::Failed(Failure { kind: FailureKind::Unknown, .. }))),
        "{outcomes:?}"
    );
    lane.until_stopped(StopReason::Down).await;
    cluster.broker_up(-1).unwrap();
    lane.until_up().await;
    assert_eq!(lane.deliver(records(100, 100), |_| ()).await.len(), 0);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_lane_sees_its_brokers_go_and_come() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    lane.publish(records(1, 10)).await;
    cluster.broker_down(-1).unwrap();
    lane.until_stopped(StopReason::Down).await;
    let outcomes = lane.publish(records(20, 1)).await;
    assert!(
        matches!(&outcomes[&20], Outcome::Failed(Failure { kind: FailureKind::Lane(StopReason::Down), .. })),
        "{outcomes:?}"
    );
    cluster.broker_up(-1).unwrap();
    lane.until_up().await;
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_waits_for_no_broker() {
    let cluster = cluster();
    let lane = lane(&cluster).await;
    cluster.broker_round_trip_time(-1, Duration::from_secs(30)).unwrap();
    lane.order(Order::Publish(records(1, 200))).await;
    cluster.broker_down(1).unwrap();
    let asked = Instant::now();
    lane.end().await;
    assert!(asked.elapsed() < timing().silence, "{:?}", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_moves_under_load_keeps_the_order_without_repeats() {
    let (keys, each) = (50, 40);
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    let records = (0..keys * each).map(|number| attempt(number, Some(&format!("k{}", number % keys)), "{}")).collect();
    let (mut moves, mut leader) = (0, 1);
    lane.deliver(records, |done| {
        if done > moves * 400 {
            moves += 1;
            leader = leader % 3 + 1;
            for partition in 0..4 {
                cluster.partition_leader(TOPIC, partition, Some(leader)).unwrap();
            }
        }
    })
    .await;
    assert!(moves >= 4, "{moves} moves");
    assert_eq!(lane.failures, []);
    assert_eq!(repeats(&cluster.bootstrap_servers(), TOPIC, keys, each), 0);
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_producer_has_no_room_for_waits() {
    let cluster = cluster();
    let mut lane = lane(&cluster).await;
    // Together more than the producer's 64 MiB.
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1_000_000));
    let outcomes =
        lane.publish((1..=90).map(|number| attempt(number, Some(&format!("k{number}")), &body)).collect()).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Taken { .. })), "{outcomes:?}");
    assert_eq!(lane.producers(), 1);
    lane.end().await;
}
