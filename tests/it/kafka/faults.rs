//! A node of its own that is killed, frozen and started again while records flow.

use super::{
    lane::Lane,
    support::{OwnNode, attempt, create_topic, fresh_topic, repeats, settings},
};
use laigu_router::{destinations::kafka::Timing, domain::StopReason};
use std::time::{Duration, Instant};

const WINDOW: usize = 512;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_and_frozen_under_load_loses_nothing_and_keeps_the_order() {
    let (keys, each) = (1_000, 40);
    let mut own = OwnNode::start();
    let (brokers, topic) = (own.node.brokers().to_owned(), fresh_topic());
    create_topic(&brokers, &topic, 4, &[]).await;
    // Shorter than the time it stays frozen, so that this gives the producer up.
    let timing = Timing { silence: Duration::from_secs(4), open: Duration::from_secs(3), ..Timing::default() };
    let mut lane = Lane::start(&settings(&brokers, &topic), WINDOW, timing);
    lane.until_up().await;
    let records = (0..keys * each).map(|number| attempt(number, Some(&format!("k{}", number % keys)), "{}")).collect();
    let mut incidents = vec!["-STOP", "-KILL", "-KILL"];
    let total = (keys * each) as usize;
    let step = total / 4;
    let mut next = step;
    let dead = lane
        .deliver(records, |done| {
            if done < next {
                return;
            }
            next += step;
            match incidents.pop() {
                Some("-KILL") => {
                    own.signal("-KILL");
                    own.restart();
                }
                Some(signal) => {
                    own.signal(signal);
                    let pid = own.node.get("KAFKA_PID").to_owned();
                    std::thread::spawn(move || {
                        std::thread::sleep(Duration::from_secs(7));
                        std::process::Command::new("kill").args(["-CONT", &pid]).status().unwrap();
                    });
                }
                None => {}
            }
        })
        .await;
    assert_eq!(dead.len(), 0);
    assert!(incidents.is_empty(), "not everything happened: {incidents:?}");
    assert!(lane.producers() >= 2, "the frozen node gave no reason for a new producer");
    let repeats = repeats(&brokers, &topic, keys, each);
    assert!(repeats <= 3 * WINDOW, "{repeats} repeats");
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_lane_sees_its_node_die_and_come_back() {
    let mut own = OwnNode::start();
    let (brokers, topic) = (own.node.brokers().to_owned(), fresh_topic());
    create_topic(&brokers, &topic, 1, &[]).await;
    let mut lane = Lane::start(&settings(&brokers, &topic), WINDOW, Timing::default());
    lane.until_up().await;
    lane.publish(vec![attempt(1, None, "{}")]).await;
    let asked = Instant::now();
    own.signal("-KILL");
    let words = lane.until_stopped(StopReason::Down).await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}: {words}", asked.elapsed());
    own.restart();
    let back = Instant::now();
    lane.until_up().await;
    assert!(back.elapsed() < Duration::from_secs(20), "{:?}", back.elapsed());
    lane.publish(vec![attempt(2, None, "{}")]).await;
    lane.end().await;
}
