//! A broker is killed, stands still, is started again, or the network before it breaks, all under load: nothing is lost,
//! each key stays in order, and each fault repeats at most what was under way.

use super::{ALL, Line, PARTITIONS, arrives, settle, wait_for_state};
use crate::{
    brokers::rabbitmq::Broker,
    crash::{
        brokers::{Queue, Topic},
        load::Senders,
        oracle::History,
        push::{Push, SOURCES},
    },
    kafka::support::{OwnNode, create_topic, fresh_topic},
    program::{Home, PATIENCE, Program, free_port, wait_for},
    proxy::{Mode, Proxy},
};
use lapin::ExchangeKind;
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// Deliveries under way at most.
const WINDOW: usize = 128;
/// Shorter than what makes us give a connection up.
const STILL: Duration = Duration::from_secs(3);

/// A home with one destination.
fn home(name: &str, destination: &str) -> Home {
    let text = format!(
        "{SOURCES}destinations:\n  {name}: {destination}\nretry: {{ backoff: 50ms..500ms }}\n\
         routes:\n  - {{ name: everything, to: [{name}] }}\n"
    );
    Home::new("{ path: ./data }", &text)
}

fn delivered(program: &Program, name: &str) -> f64 {
    program.metric("laigu_router_delivered_total", &[&format!("\"{name}\"")])
}

/// Something happens in the middle of a load: before it deliveries flow, during it pushes are taken, and after it all is
/// delivered that was taken.
fn under_load(home: &Home, program: &Program, name: &str, senders: Senders, fault: impl FnOnce()) -> Senders {
    let (before, running) = (delivered(program, name), senders.start(home.hooks));
    wait_for("a load", PATIENCE, || (delivered(program, name) > before + 200.0).then_some(()));
    let accepted = || program.metric("laigu_router_accepted_total", &[]);
    let taken = accepted();
    fault();
    wait_for("pushes are taken", PATIENCE, || (accepted() > taken + 200.0).then_some(()));
    running.send_no_more();
    let (senders, load) = running.join(None);
    println!("{name}: {} answered", load.answered);
    senders
}

#[test]
fn rabbitmq_killed_standing_still_and_started_again_under_load_loses_nothing() {
    let (mut broker, name) = (Broker::own("line"), fresh_topic());
    // Nobody reads while it may die: what is on its way to a consumer then is gone for it.
    Runtime::new().unwrap().block_on(async {
        let client = broker.client().await;
        client.exchange(&name, ExchangeKind::Topic).await;
        client.queue(&name, &name, "#", &[]).await;
    });
    broker.keep_topology();
    let url = broker.url();
    let home = home(
        "crm",
        &format!("{{ type: rabbitmq, url: '{url}', window: {WINDOW}, exchange: {{ name: {name}, declare: false }} }}"),
    );
    let program = home.start();
    wait_for_state(&program, "crm", "up");
    let mut history = History::new("crm", ALL, Push::body);
    let mut all_came = |broker: &Broker, senders: &Senders| {
        program.wait_for("laigu_router_lag_events", &[], 0.0);
        settle(&mut history, &mut Queue::new(broker, &name), senders)
    };
    let senders = Senders::new(fastrand::u64(..));

    let senders = under_load(&home, &program, "crm", senders, || broker.signal("STOP"));
    thread::sleep(STILL);
    broker.signal("CONT");
    assert_eq!(all_came(&broker, &senders), 0, "it only stood still");

    let senders = under_load(&home, &program, "crm", senders, || broker.signal("KILL"));
    wait_for_state(&program, "crm", "down");
    broker.restart();
    let repeats = all_came(&broker, &senders);
    assert!(repeats <= WINDOW, "killed: {repeats} repeats");

    let senders = under_load(&home, &program, "crm", senders, || {
        broker.ctl(&["stop_app"]);
    });
    wait_for_state(&program, "crm", "down");
    broker.ctl(&["start_app"]);
    let repeats = all_came(&broker, &senders);
    assert!(repeats <= WINDOW, "started again: {repeats} repeats");
    wait_for_state(&program, "crm", "up");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_connection_to_rabbitmq_that_is_cut_or_swallowed_under_load_loses_nothing() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let port = line.amqp.port();
    let name = &line.name;
    let home = home(
        "crm",
        &format!(
            "{{ type: rabbitmq, url: 'amqp://guest:guest@127.0.0.1:{port}', window: {WINDOW}, \
             exchange: {{ name: {name}, declare: false }} }}"
        ),
    );
    let program = home.start();
    wait_for_state(&program, "crm", "up");
    let mut history = History::new("crm", ALL, Push::body);
    let mut senders = Senders::new(fastrand::u64(..));
    for mode in [Mode::Refuse, Mode::CutAfter(700), Mode::BlackHole] {
        let began = Instant::now();
        senders = under_load(&home, &program, "crm", senders, || line.amqp.set(mode));
        wait_for_state(&program, "crm", "down");
        line.amqp.set(Mode::Pass);
        program.wait_for("laigu_router_lag_events", &[], 0.0);
        let repeats = settle(&mut history, &mut line.queue, &senders);
        println!("{mode:?}: {repeats} repeats, {:?}", began.elapsed());
        assert!(repeats <= WINDOW, "{mode:?}: {repeats} repeats");
    }
    wait_for_state(&program, "crm", "up");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    line.end();
}

#[test]
fn kafka_killed_standing_still_and_started_again_under_load_loses_nothing() {
    let mut own = OwnNode::start();
    let kafka = Kafka::new(&own, own.node.brokers());
    let program = kafka.home.start();
    wait_for_state(&program, "lake", "up");
    let senders = Senders::new(fastrand::u64(..));
    let mut copies = vec![0];

    let senders = under_load(&kafka.home, &program, "lake", senders, || own.signal("-STOP"));
    thread::sleep(STILL);
    own.signal("-CONT");
    copies.push(kafka.copies(&program, &senders));

    let senders = under_load(&kafka.home, &program, "lake", senders, || own.signal("-KILL"));
    wait_for_state(&program, "lake", "down");
    own.restart();
    copies.push(kafka.copies(&program, &senders));

    let senders = under_load(&kafka.home, &program, "lake", senders, || own.signal("-TERM"));
    own.stop();
    wait_for_state(&program, "lake", "down");
    own.restart();
    copies.push(kafka.copies(&program, &senders));

    kafka.end(program, &copies);
}

#[test]
fn a_connection_to_kafka_that_is_cut_or_swallowed_under_load_loses_nothing() {
    let port = free_port();
    let runtime = Runtime::new().unwrap();
    let proxy = runtime.block_on(Proxy::before(port));
    let own = OwnNode::start_behind(port, proxy.port());
    let kafka = Kafka::new(&own, &format!("127.0.0.1:{}", proxy.port()));
    let program = kafka.home.start();
    wait_for_state(&program, "lake", "up");
    let mut senders = Senders::new(fastrand::u64(..));
    let mut copies = vec![0];
    for mode in [Mode::Refuse, Mode::BlackHole, Mode::Deaf] {
        let began = Instant::now();
        senders = under_load(&kafka.home, &program, "lake", senders, || proxy.set(mode));
        wait_for_state(&program, "lake", "down");
        let noticed = began.elapsed();
        proxy.set(Mode::Pass);
        copies.push(kafka.copies(&program, &senders));
        println!("{mode:?}: noticed in {noticed:?}, over in {:?}", began.elapsed());
    }
    kafka.end(program, &copies);
}

/// A topic at a node of the test's own, and a home that publishes to it.
struct Kafka {
    home: Home,
    brokers: String,
    topic: String,
}

impl Kafka {
    /// The program is told to ask at `address`.
    fn new(own: &OwnNode, address: &str) -> Self {
        let (brokers, topic) = (own.node.brokers().to_owned(), fresh_topic());
        Runtime::new().unwrap().block_on(create_topic(&brokers, &topic, PARTITIONS, &[]));
        // librdkafka takes a minute to give a silent connection up, unless it is told.
        let destination = format!(
            "{{ type: kafka, brokers: '{address}', topic: {topic}, window: {WINDOW}, \
             properties: {{ socket.timeout.ms: 4000 }} }}"
        );
        Self { home: home("lake", &destination), brokers, topic }
    }

    /// Waits until all came, in order; says how many copies too many there are since the beginning: a consumer that
    /// lived through a fault would tell of it, so each time a new one reads all.
    fn copies(&self, program: &Program, senders: &Senders) -> usize {
        program.wait_for("laigu_router_lag_events", &[], 0.0);
        let mut reader = Topic::new(&self.brokers, &self.topic, PARTITIONS);
        arrives("lake", &mut reader, ALL, Push::body, senders)
    }

    /// No fault added more than a window of `copies`, and all is well.
    fn end(&self, program: Program, copies: &[usize]) {
        println!("lake: copies after each fault {copies:?}");
        assert!(copies.windows(2).all(|pair| pair[1] - pair[0] <= WINDOW), "{copies:?}");
        wait_for_state(&program, "lake", "up");
        assert!(program.metric("laigu_router_dead_letters_total", &[]) < 0.5);
        assert!(program.terminate(PATIENCE).success(), "{}", self.home.log());
    }
}
