//! The way to the broker breaks: cut, swallowed, delayed, or not to be trusted.

use super::{WINDOW, attempts, check_all_came, common, exchange_and_queue, lane, settings, unique};
use crate::{
    brokers::rabbitmq::Broker,
    lane::{Lane, attempt},
    proxy::{Mode, Proxy},
};
use laigu_router::{
    config::settings::{PemFile, Tls},
    destinations::{
        Outcome,
        rabbitmq::{self, Timing},
    },
    domain::{Secret, StopReason},
};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep};

fn through(proxy: &Proxy) -> String {
    format!("amqp://guest:guest@127.0.0.1:{}", proxy.port())
}

/// Breaks the connection in this way in the middle of a delivery, then heals it. Returns the duplicates.
async fn deliver_through(mode: Mode, broken_for: Duration) -> usize {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let proxy = Proxy::before(broker.port()).await;
    let mut lane = lane(&settings(through(&proxy), &queue));
    lane.until_up().await;
    let (attempts, taken) = (attempts(4_000, 300, 300), AtomicUsize::new(0));
    let nemesis = async {
        while taken.load(Ordering::Relaxed) < 1_000 {
            sleep(Duration::from_millis(2)).await;
        }
        proxy.set(mode);
        sleep(broken_for).await;
        proxy.set(Mode::Pass);
    };
    let deliver = lane.deliver(attempts.clone(), |count| taken.store(count, Ordering::Relaxed));
    let (tally, ()) = tokio::join!(deliver, nemesis);
    if !matches!(mode, Mode::Delay(_)) {
        assert!(tally.stops.iter().any(|(reason, _)| *reason == StopReason::Down), "{:?}", tally.stops);
    }
    check_all_came(&broker, &queue, &attempts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_reset_costs_at_most_a_window_of_duplicates() {
    let copies = deliver_through(Mode::Refuse, Duration::from_secs(2)).await;
    assert!(copies <= WINDOW, "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_inside_a_frame_loses_nothing() {
    for bytes in [1, 300, 700, 1_111, 2_000] {
        let copies = deliver_through(Mode::CutAfter(bytes), Duration::from_millis(500)).await;
        assert!(copies <= WINDOW, "{copies} duplicates after {bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_noticed_and_everything_sent_again() {
    let copies = deliver_through(Mode::BlackHole, Duration::from_secs(45)).await;
    assert!(copies <= WINDOW, "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_line_takes_its_time_and_nothing_is_sent_twice() {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let proxy = Proxy::before(broker.port()).await;
    let timing = Timing { silence: Duration::from_secs(3), channel: Duration::from_secs(90) };
    let mut lane = Lane::new(rabbitmq::start_with(common(WINDOW), &settings(through(&proxy), &queue), timing));
    lane.until_up().await;
    proxy.set(Mode::Narrow(256 << 10));
    // 4 MiB, all of them out at once: every channel's batch takes longer than the silence that is allowed.
    let (attempts, began) = (attempts(256, 256, 16 << 10), Instant::now());
    let tally = lane.deliver(attempts.clone(), |_| {}).await;
    assert!(began.elapsed() > 3 * timing.silence, "{:?}", began.elapsed());
    assert_eq!(tally.stops, []);
    assert_eq!(check_all_came(&broker, &queue, &attempts).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_confirms_make_duplicates_and_no_disorder() {
    let copies = deliver_through(Mode::Deaf, Duration::from_secs(25)).await;
    // The broker had them all; each was sent again.
    assert!((1..=WINDOW).contains(&copies), "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outlet_ends_soon_with_its_lane_whatever_the_broker_does() {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    for mode in [Mode::Pass, Mode::BlackHole] {
        let proxy = Proxy::before(broker.port()).await;
        let mut connected = lane(&settings(through(&proxy), &queue));
        connected.until_up().await;
        proxy.set(mode);
        connected.publish(attempts(100, 100, 100)).await;
        let connecting = lane(&settings(through(&proxy), &queue));
        let began = std::time::Instant::now();
        connected.end().await;
        connecting.end().await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_is_no_fault() {
    assert_eq!(deliver_through(Mode::Delay(Duration::from_millis(40)), Duration::from_secs(3)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_nodes_the_one_that_lives_is_found() {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let (dead, deaf) = (Proxy::before(broker.port()).await, Proxy::before(broker.port()).await);
    dead.set(Mode::Refuse);
    deaf.set(Mode::BlackHole);
    let mut settings = settings(through(&dead), &queue);
    settings.urls.extend([Secret::new(through(&deaf)), Secret::new(broker.url())]);
    let mut lane = lane(&settings);
    lane.until_stopped(StopReason::Down).await;
    lane.until_up().await;
    assert!(matches!(lane.try_one(attempt(1, 1, "a", "{}")).await, Outcome::Taken { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_ca_is_trusted_when_named_and_a_client_certificate_is_shown() {
    let broker = Broker::shared();
    let queue = exchange_and_queue(&broker.client().await, &[]).await;
    let mut settings = settings(broker.var("AMQPS_URL"), &queue);
    settings.ca_file = Some(PemFile::new(broker.var("AMQP_CA_FILE"), b""));
    settings.client_cert = Some(Tls {
        cert_file: PemFile::new(broker.var("AMQP_CLIENT_CERT_FILE"), b""),
        key_file: PemFile::new(broker.var("AMQP_CLIENT_KEY_FILE"), b""),
    });
    let mut lane = lane(&settings);
    lane.until_up().await;
    let attempts = attempts(2_000, 300, 300);
    lane.deliver(attempts.clone(), |_| {}).await;
    assert_eq!(check_all_came(&broker, &queue, &attempts).await, 0);
    let seen = broker.ctl(&["list_connections", "ssl", "peer_cert_subject", "client_properties"]);
    let ours = seen.lines().any(|line| line.starts_with("true") && line.contains("CN=client"));
    assert!(ours, "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_cannot_prove_who_it_is_gets_nothing() {
    let broker = Broker::shared();
    // Nobody of the system's list signed its certificate.
    let mut lane = lane(&settings(broker.var("AMQPS_URL"), &unique("never")));
    let words = lane.until_stopped(StopReason::Down).await;
    assert!(words.to_lowercase().contains("certificate"), "{words}");
    // The right CA, the wrong name.
    let wrong_name = broker.var("AMQPS_URL").replace("localhost", "127.0.0.2");
    let mut settings = settings(wrong_name, &unique("never"));
    settings.ca_file = Some(PemFile::new(broker.var("AMQP_CA_FILE"), b""));
    let words = super::lane(&settings).until_stopped(StopReason::Down).await;
    assert!(!words.is_empty());
    // A file that is not there is for a person to mend.
    settings.ca_file = Some(PemFile::new("/nowhere/ca.pem", b""));
    let words = super::lane(&settings).until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("/nowhere/ca.pem"), "{words}");
}
