//! The broker dies, stops, or is out of memory. Each test has a node of its own.

use super::{attempts, check_all_came, exchange_and_queue, lane, settings};
use crate::{brokers::rabbitmq::Broker, lane::attempt};
use laigu_router::{
    destinations::{Outcome, OutletState},
    domain::{DeadCause, FailureKind, StopReason},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_killed_under_load_costs_at_most_a_window_of_duplicates() {
    let mut broker = Broker::own("killed");
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    broker.keep_topology();
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    let (attempts, taken) = (attempts(12_000, 400, 500), AtomicUsize::new(0));
    let nemesis = async {
        while taken.load(Ordering::Relaxed) < 3_000 {
            sleep(Duration::from_millis(5)).await;
        }
        broker.signal("KILL");
        sleep(Duration::from_secs(1)).await;
        tokio::task::block_in_place(|| broker.restart());
    };
    let deliver = lane.deliver(attempts.clone(), |count| taken.store(count, Ordering::Relaxed));
    let (tally, ()) = tokio::join!(deliver, nemesis);
    assert!(tally.stops.iter().any(|(reason, _)| *reason == StopReason::Down), "{:?}", tally.stops);
    let copies = check_all_came(&broker, &queue, &attempts).await;
    assert!(copies <= super::WINDOW, "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stands_still_is_given_up_and_found_again() {
    let broker = Broker::own("stopped");
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    let (attempts, taken) = (attempts(6_000, 400, 500), AtomicUsize::new(0));
    let began = std::time::Instant::now();
    let nemesis = async {
        while taken.load(Ordering::Relaxed) < 2_000 {
            sleep(Duration::from_millis(5)).await;
        }
        broker.signal("STOP");
        // Twice the heartbeat, the deadline, and some.
        sleep(Duration::from_secs(40)).await;
        broker.signal("CONT");
    };
    let deliver = lane.deliver(attempts.clone(), |count| taken.store(count, Ordering::Relaxed));
    let (tally, ()) = tokio::join!(deliver, nemesis);
    assert!(began.elapsed() > Duration::from_secs(40));
    assert!(tally.stops.iter().any(|(reason, _)| *reason == StopReason::Down), "{:?}", tally.stops);
    let copies = check_all_came(&broker, &queue, &attempts).await;
    assert!(copies <= super::WINDOW, "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_blocks_the_lane_and_costs_no_duplicate() {
    let broker = Broker::own("blocked");
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]));
    lane.publish((0..300).map(|n| attempt(n, n, "a", vec![b' '; 16 << 10])).collect()).await;
    let words = lane.until_stopped(StopReason::Blocked).await;
    assert!(words.contains("memory"), "{words}");
    // Longer than the deadline of a confirm: it does not count while we are blocked.
    let waited = tokio::time::timeout(Duration::from_secs(35), lane.report()).await;
    assert!(waited.is_err(), "{waited:?}");
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "absolute", "2GB"]));
    let outcomes = lane.outcomes(300).await;
    assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Taken { .. })), "{outcomes:?}");
    lane.until_up().await;
    assert_eq!(broker.client().await.drain(&queue, 300).await.len(), 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_message_that_closes_the_channel_is_found_among_its_neighbours() {
    let broker = Broker::own("small");
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    // Smaller than what we send at most, as an operator may have set it.
    tokio::task::block_in_place(|| {
        broker.ctl(&[
            "eval",
            "persistent_term:put(max_message_size, 100000), application:set_env(rabbit, max_message_size, 100000).",
        ])
    });
    let mut lane = lane(&settings(broker.url(), &queue));
    lane.until_up().await;
    let body = |n: u64| vec![b' '; if n == 77 { 200_000 } else { 100 }];
    let mut open: BTreeMap<u64, u32> = (0..200).map(|n| (n, 0)).collect();
    let mut rounds = 0;
    while !open.is_empty() {
        rounds += 1;
        assert!(rounds < 5, "still open: {open:?}");
        lane.publish(open.keys().map(|n| attempt(*n, *n, "a", body(*n))).collect()).await;
        for (ticket, outcome) in lane.outcomes(open.len()).await {
            match outcome {
                Outcome::Taken { .. } => assert_ne!(ticket, 77),
                Outcome::Failed(failure) if failure.kind == FailureKind::Unknown => continue,
                Outcome::Failed(failure) => {
                    assert_eq!((ticket, failure.kind), (77, FailureKind::Rejected(DeadCause::TooLarge)), "{failure:?}");
                }
            }
            open.remove(&ticket);
        }
    }
    assert_eq!(lane.state, Some(OutletState::Up));
    let received = broker.client().await.drain(&queue, 199).await;
    assert!(received.iter().all(|message| message.header("x-vendor-id") != "sub_77"));
}
