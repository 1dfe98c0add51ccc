//! The broker is there and says no: to the exchange, to us, or to one message.

use super::{attempts, check_all_came, exchange_and_queue, lane, settings, unique};
use crate::{
    brokers::rabbitmq::Broker,
    lane::{Lane, attempt},
    proxy::{Mode, Proxy},
};
use laigu_router::{
    destinations::{Outcome, OutletState},
    domain::{DeadCause, FailureKind, StopReason},
};
use lapin::{ExchangeKind, types::AMQPValue};
use std::time::Duration;
use tokio::time::timeout;

fn kind(outcome: Outcome) -> Option<FailureKind> {
    match outcome {
        Outcome::Taken { .. } => None,
        Outcome::Failed(failure) => Some(failure.kind),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_stops_the_lane_until_someone_makes_it() {
    let (broker, name) = (Broker::shared(), unique("missing"));
    let mut lane = lane(&settings(broker.url(), &name));
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("NOT_FOUND") && words.contains(&name), "{words}");
    let refused = lane.try_one(attempt(1, 1, "a", "{}")).await;
    assert_eq!(kind(refused), Some(FailureKind::Lane(StopReason::Misconfigured)));
    let client = broker.client().await;
    client.exchange(&name, ExchangeKind::Topic).await;
    client.queue(&name, &name, "a", &[]).await;
    lane.until_up().await;
    assert_eq!(kind(lane.try_one(attempt(1, 1, "a", "{}")).await), None);
    assert_eq!(client.drain(&name, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_deleted_under_load_costs_nothing_and_is_declared_again_only_when_asked() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let name = unique("declared");
    let mut settings = settings(broker.url(), &name);
    settings.exchange.declare = true;
    let mut lane = lane(&settings);
    lane.until_up().await;
    // It is there: this would fail otherwise.
    client.queue(&name, &name, "a", &[]).await;

    let first = attempts(2_000, 200, 200);
    assert_eq!(lane.deliver(first.clone(), |_| {}).await.stops, []);
    client.delete_exchange(&name).await;
    let refused = lane.try_one(attempt(9_000, 9_000, "a", "{}")).await;
    assert_eq!(kind(refused), Some(FailureKind::Lane(StopReason::Misconfigured)));
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("NOT_FOUND"), "{words}");
    // Long enough for it to have looked several times.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_ne!(lane.state, Some(OutletState::Up));
    lane.probe().await;
    lane.until_up().await;
    client.queue(&name, &name, "a", &[]).await;
    assert_eq!(kind(lane.try_one(attempt(9_000, 9_000, "a", "{}")).await), None);
    assert_eq!(client.drain(&name, first.len() + 1).await.len(), first.len() + 1);
}

/// Checks that a lane does not go on, for long enough to have looked several times.
async fn stays_stopped(lane: &mut Lane) {
    let waited = timeout(Duration::from_secs(4), lane.until_up()).await;
    assert!(waited.is_err(), "it went on by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_declaration_that_does_not_fit_stops_the_lane_until_it_does() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let name = unique("direct");
    client.exchange(&name, ExchangeKind::Direct).await;
    let mut settings = settings(broker.url(), &name);
    settings.exchange.declare = true;
    let mut lane = lane(&settings);
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("PRECONDITION_FAILED"), "{words}");
    stays_stopped(&mut lane).await;
    client.delete_exchange(&name).await;
    lane.until_up().await;
    client.queue(&name, &name, "a", &[]).await;
    assert_eq!(kind(lane.try_one(attempt(1, 1, "a", "{}")).await), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_declare_goes_on_when_it_may() {
    let broker = Broker::shared();
    let (name, user) = (unique("refused"), unique("user"));
    broker.ctl(&["add_user", &user, "pass-word"]);
    broker.ctl(&["set_permissions", &user, "^$", ".*", ".*"]);
    let mut settings = settings(format!("amqp://{user}:pass-word@127.0.0.1:{}", broker.port()), &name);
    settings.exchange.declare = true;
    let mut lane = lane(&settings);
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("ACCESS_REFUSED"), "{words}");
    broker.ctl(&["set_permissions", &user, ".*", ".*", ".*"]);
    lane.until_up().await;
    broker.client().await.queue(&name, &name, "a", &[]).await;
    assert_eq!(kind(lane.try_one(attempt(1, 1, "a", "{}")).await), None);
    broker.ctl(&["delete_user", &user]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_declared_again_when_asked_while_the_broker_is_away() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let (name, proxy) = (unique("wiped"), Proxy::before(broker.port()).await);
    let mut settings = settings(format!("amqp://guest:guest@127.0.0.1:{}", proxy.port()), &name);
    settings.exchange.declare = true;
    let mut lane = lane(&settings);
    lane.until_up().await;
    for asked in [false, true, true, true] {
        proxy.set(Mode::Refuse);
        lane.until_stopped(StopReason::Down).await;
        client.delete_exchange(&name).await;
        // It connects, in vain, or rests between two tries.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(100..1_000))).await;
        if asked {
            lane.probe().await;
        }
        proxy.set(Mode::Pass);
        if !asked {
            lane.until_stopped(StopReason::Misconfigured).await;
            stays_stopped(&mut lane).await;
            lane.probe().await;
        }
        lane.until_up().await;
    }
    client.queue(&name, &name, "a", &[]).await;
    assert_eq!(kind(lane.try_one(attempt(1, 1, "a", "{}")).await), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_in_flight_when_the_exchange_goes_is_delivered_when_it_is_back() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let name = exchange_and_queue(&client, &[]).await;
    let mut lane = lane(&settings(broker.url(), &name));
    lane.until_up().await;
    let attempts = attempts(6_000, 300, 200);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let nemesis = {
        let (broker, name) = (broker.clone(), name.clone());
        async move {
            while told.recv().await.expect("the lane goes on") < 2_000 {}
            client.delete_exchange(&name).await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let client = broker.client().await;
            client.exchange(&name, ExchangeKind::Topic).await;
            client.queue(&name, &name, "a", &[]).await;
        }
    };
    let deliver = lane.deliver(attempts.clone(), move |taken| _ = tell.send(taken));
    let (tally, ()) = tokio::join!(deliver, nemesis);
    assert!(tally.stops.iter().any(|(reason, _)| *reason == StopReason::Misconfigured), "{:?}", tally.stops);
    let copies = check_all_came(&broker, &name, &attempts).await;
    assert!(copies <= super::WINDOW, "{copies} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_permission_stops_the_lane_until_it_is_given_back() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let (name, user) = (exchange_and_queue(&client, &[]).await, unique("user"));
    let url = format!("amqp://{user}:pass-word@127.0.0.1:{}", broker.port());

    let mut locked_out = lane(&settings(url.clone(), &name));
    let words = locked_out.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("ACCESS_REFUSED") && !words.contains("pass-word"), "{words}");
    broker.ctl(&["add_user", &user, "pass-word"]);
    broker.ctl(&["set_permissions", &user, ".*", ".*", ".*"]);
    locked_out.until_up().await;
    drop(locked_out);

    let mut lane = lane(&settings(url, &name));
    lane.until_up().await;
    assert_eq!(kind(lane.try_one(attempt(1, 1, "a", "{}")).await), None);
    broker.ctl(&["set_permissions", &user, ".*", "^$", ".*"]);
    // The broker remembers a channel's permissions for some seconds of use, or as many different ones.
    let mut ticket = 2;
    let refused = loop {
        match kind(lane.try_one(attempt(ticket, ticket, "a", "{}")).await) {
            None => ticket += 1,
            Some(refused) => break refused,
        }
    };
    assert_eq!(refused, FailureKind::Lane(StopReason::Misconfigured));
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains("ACCESS_REFUSED"), "{words}");
    // Looking at the exchange is allowed still; publishing is not, and that is what counts.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    assert_ne!(lane.state, Some(OutletState::Up));
    broker.ctl(&["set_permissions", &user, ".*", ".*", ".*"]);
    lane.until_up().await;
    assert_eq!(kind(lane.try_one(attempt(ticket, ticket, "a", "{}")).await), None);
    assert_eq!(client.drain(&name, usize::try_from(ticket).unwrap()).await.len(), usize::try_from(ticket).unwrap());
    broker.ctl(&["delete_user", &user]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vhost_that_is_not_there_is_for_a_person_to_mend() {
    let (broker, vhost) = (Broker::shared(), unique("vhost"));
    let mut settings = settings(format!("{}/{vhost}", broker.url()), "out");
    settings.exchange.declare = true;
    let mut lane = lane(&settings);
    let words = lane.until_stopped(StopReason::Misconfigured).await;
    assert!(words.contains(&vhost), "{words}");
    broker.ctl(&["add_vhost", &vhost]);
    broker.ctl(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
    lane.until_up().await;
    // Taken away again while we are on it.
    broker.ctl(&["delete_vhost", &vhost]);
    lane.until_stopped(StopReason::Misconfigured).await;
    lane.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_that_rejects_makes_nacks_and_loses_nothing() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let arguments =
        [("x-max-length", AMQPValue::LongInt(50)), ("x-overflow", AMQPValue::LongString("reject-publish".into()))];
    let name = exchange_and_queue(&client, &arguments).await;
    let mut lane = lane(&settings(broker.url(), &name));
    lane.until_up().await;
    lane.publish((0..200).map(|n| attempt(n, n, "a", "{}")).collect()).await;
    let kinds: Vec<_> = lane.outcomes(200).await.into_values().map(kind).collect();
    let nacked = kinds.iter().filter(|kind| **kind == Some(FailureKind::Nacked)).count();
    let taken = kinds.iter().filter(|kind| kind.is_none()).count();
    assert_eq!(nacked + taken, 200, "{kinds:?}");
    assert!(taken >= 50 && nacked > 0, "{taken} taken");
    assert_eq!(lane.state, Some(OutletState::Up));
    assert_eq!(client.drain(&name, taken).await.len(), taken);
    assert_eq!(kind(lane.try_one(attempt(999, 1, "a", "{}")).await), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_sent_is_refused_alone() {
    let broker = Broker::shared();
    let client = broker.client().await;
    let name = exchange_and_queue(&client, &[]).await;
    let mut lane = lane(&settings(broker.url(), &name));
    lane.until_up().await;
    let large = vec![b' '; laigu_router::destinations::rabbitmq::VALUE_BYTES_MAX + 1];
    let largest = large[1..].to_vec();
    lane.publish(vec![
        attempt(1, 1, "a", "{}"),
        attempt(2, 2, &"k".repeat(256), "{}"),
        attempt(3, 3, "a", large),
        attempt(4, 4, "a", largest),
        attempt(5, 5, "a\n", "{}"),
    ])
    .await;
    let kinds: Vec<_> = lane.outcomes(5).await.into_values().map(kind).collect();
    let rejected = |cause| Some(FailureKind::Rejected(cause));
    let (bad, large) = (rejected(DeadCause::Rejected), rejected(DeadCause::TooLarge));
    assert_eq!(kinds, [None, bad, large, None, bad]);
    assert_eq!(client.drain(&name, 2).await.len(), 2);
    assert_eq!(lane.state, Some(OutletState::Up));
}
