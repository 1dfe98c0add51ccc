//! A lane in small, a node to talk to, and an ordinary consumer that reads back.

use bytes::Bytes;
use laigu_router::{
    config::settings::{Kafka, KafkaSecurity},
    destinations::{
        Common, Order, Outcome, Outlet, OutletState, Report,
        kafka::{self, Timing, gauges::Gauges},
        message::TypePrefixes,
    },
    domain::{
        Attempt, Decision, Delivery, DestinationName, EventId, FailureKind, Headers, Incarnation, NewEvent, Origin,
        Partition, Position, RouteName, Routed, RoutedRow, SourceName, StopReason, Target, TenantName, Timestamp,
    },
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::Headers as _,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};

/// What `scripts/kafka start` wrote, or the environment says.
pub struct Node(BTreeMap<String, String>);

impl Node {
    /// The node that the tests share.
    pub fn shared() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/brokers/kafka.env");
        let mut values = fs::read_to_string(&file).map(|text| Self::parse(&text).0).unwrap_or_default();
        values.extend(std::env::vars().filter(|(name, _)| name.starts_with("KAFKA_")));
        assert!(values.contains_key("KAFKA_BROKERS"), "no Kafka: run scripts/kafka start, or set KAFKA_BROKERS");
        Self(values)
    }

    fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is not set: run scripts/kafka start"))
    }

    pub fn brokers(&self) -> &str {
        self.get("KAFKA_BROKERS")
    }
}

/// A node that a test may kill; stopped when dropped.
pub struct OwnNode {
    home: tempfile::TempDir,
    pub node: Node,
}

impl OwnNode {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        script(home.path(), "start", false);
        let node = Node::parse(&fs::read_to_string(home.path().join("node.env")).unwrap());
        Self { home, node }
    }

    /// Starts it again, on the same ports and with its data.
    pub fn restart(&mut self) {
        script(self.home.path(), "start", true);
        self.node = Node::parse(&fs::read_to_string(self.home.path().join("node.env")).unwrap());
    }

    pub fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, self.node.get("KAFKA_PID")]).status().unwrap();
        assert!(done.success(), "kill {signal}");
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        script(self.home.path(), "stop", true);
    }
}

fn script(home: &Path, verb: &str, keep_data: bool) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let home: PathBuf = home.join("node");
    let done = Command::new(script)
        .arg(verb)
        .env("KAFKA_HOME_DIR", home)
        .env("KAFKA_KEEP_DATA", if keep_data { "1" } else { "0" })
        .status()
        .unwrap();
    assert!(done.success(), "scripts/kafka {verb}");
}

/// A name that no other test and no other run uses.
pub fn fresh_topic() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = Timestamp::now().as_millis();
    format!("it-{now}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub async fn create_topic(brokers: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in config {
        new = new.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let created = admin(brokers).create_topics([&new], &options).await.unwrap();
    assert_eq!(created, vec![Ok(topic.to_owned())]);
}

pub async fn delete_topic(brokers: &str, topic: &str) {
    let deleted = admin(brokers).delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
    assert_eq!(deleted, vec![Ok(topic.to_owned())]);
}

fn admin(brokers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap()
}

/// A record as an ordinary consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Vec<u8>,
    pub timestamp: Option<i64>,
    pub headers: BTreeMap<String, String>,
}

/// Reads a topic from its beginning to its end, in the order of each partition.
pub fn read_back(brokers: &str, topic: &str) -> Vec<Seen> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "it").create().unwrap();
    let patience = Duration::from_secs(10);
    let metadata = consumer.fetch_metadata(Some(topic), patience).unwrap();
    let mut ends = HashMap::new();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), patience).unwrap();
        if end > 0 {
            ends.insert(partition.id(), end);
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut seen = Vec::new();
    let until = Instant::now() + Duration::from_secs(60);
    while !ends.is_empty() {
        assert!(Instant::now() < until, "read {} records, still to come: {ends:?}", seen.len());
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.unwrap();
        if ends.get(&record.partition()).is_some_and(|end| record.offset() + 1 >= *end) {
            ends.remove(&record.partition());
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers = record
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect());
        seen.push(Seen {
            partition: record.partition(),
            key: record.key().map(text),
            value: record.payload().unwrap().to_vec(),
            timestamp: record.timestamp().to_millis(),
            headers: headers.unwrap_or_default(),
        });
    }
    seen
}

pub fn settings(brokers: &str, topic: &str) -> Kafka {
    Kafka { brokers: vec![brokers.into()], topic: topic.into(), security: None, properties: BTreeMap::new() }
}

pub fn security(protocol: &str, ca_file: Option<&str>) -> KafkaSecurity {
    KafkaSecurity {
        protocol: protocol.into(),
        mechanism: None,
        username: None,
        password: None,
        ca_file: ca_file.map(PathBuf::from),
        client_cert: None,
    }
}

/// A push with a record key, ready to be tried.
pub fn attempt(number: u64, key: Option<&str>, body: &str) -> Attempt {
    let event = NewEvent {
        source: SourceName::parse("laigu").unwrap(),
        tenant: TenantName::parse("acme").unwrap(),
        kind: "cus.upsert".into(),
        key: key.map(Into::into),
        vendor_id: Some(format!("sub_{number}").into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::from_millis(1_726_824_222_989)),
        received_at: Timestamp::from_millis(1_726_824_223_000),
        headers: Headers::default(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        payload: None,
        order: None,
        id_hash: 1,
        body_hash: 2,
    };
    let event = event.at(Partition(0), number, Incarnation(7), false);
    let target = Target {
        route: RouteName::parse("all").unwrap(),
        destination: DestinationName::parse("lake").unwrap(),
        address: key.map(Into::into),
    };
    let decision = Decision { targets: vec![target], ..Decision::default() };
    let row = RoutedRow { event: event.position(), job: 0, generation: 1, decision, enrichment: Vec::new() };
    let routed = Routed { offset: number, row, event: Arc::new(event) };
    Attempt { ticket: number, delivery: Delivery::first(Arc::new(routed), 0), number: 1, at: Timestamp::now() }
}

pub fn event_id(number: u64) -> EventId {
    EventId {
        received_at: Timestamp::from_millis(1_726_824_223_000),
        incarnation: Incarnation(7),
        position: Position { partition: Partition(0), offset: number },
    }
}

/// What a lane does, in small: one record of a key at a time, tried until it is taken or refused for good.
pub struct Lane {
    outlet: Option<Outlet>,
    task: JoinHandle<()>,
    pub states: Vec<OutletState>,
    pub gauges: Arc<Gauges>,
    ticket: u64,
    pub failures: Vec<FailureKind>,
}

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

impl Lane {
    pub fn start(settings: &Kafka, window: usize, timing: Timing) -> Self {
        let common = Common {
            name: DestinationName::parse("lake").unwrap(),
            window,
            prefixes: TypePrefixes::new([(SourceName::parse("laigu").unwrap(), "com.laigu.".into())].into()),
        };
        let gauges = Arc::new(Gauges::default());
        let (outlet, task) = kafka::start_with(common, settings, timing, Arc::clone(&gauges));
        let task = tokio::spawn(task);
        Self { outlet: Some(outlet), task, states: Vec::new(), gauges, ticket: 0, failures: Vec::new() }
    }

    /// Drops the lane's end; the task must then end at once.
    pub async fn end(mut self) {
        drop(self.outlet.take());
        timeout(Duration::from_secs(1), self.task).await.expect("the task ends with its lane").unwrap();
    }

    pub fn producers(&self) -> u64 {
        self.gauges.producers_total.load(Ordering::Relaxed)
    }

    pub fn is_up(&self) -> bool {
        self.states.last() == Some(&OutletState::Up)
    }

    /// The next report; states are noted.
    pub async fn report(&mut self) -> Report {
        let reports = &mut self.outlet.as_mut().unwrap().reports;
        let report = timeout(PATIENCE, reports.recv()).await;
        let report = report.unwrap_or_else(|_| panic!("no report; states so far: {:?}", self.states)).unwrap();
        if let Report::State { state, .. } = &report {
            self.states.push(state.clone());
        }
        report
    }

    /// Waits for a state.
    pub async fn until(&mut self, wanted: impl Fn(&OutletState) -> bool) -> OutletState {
        if let Some(state) = self.states.last().filter(|state| wanted(state)) {
            return state.clone();
        }
        loop {
            if let Report::State { state, .. } = self.report().await
                && wanted(&state)
            {
                return state;
            }
        }
    }

    pub async fn until_up(&mut self) {
        self.until(|state| *state == OutletState::Up).await;
    }

    /// Waits until it stands still for a reason; gives back the words.
    pub async fn until_stopped(&mut self, wanted: StopReason) -> Box<str> {
        match self.until(|state| matches!(state, OutletState::Stopped(reason, _) if *reason == wanted)).await {
            OutletState::Stopped(_, words) => words,
            OutletState::Up => unreachable!("asked for a stop"),
        }
    }

    pub async fn order(&self, order: Order) {
        self.outlet.as_ref().unwrap().orders.send(order).await.unwrap();
    }

    /// Hands tries over as they are, and collects exactly one outcome of each.
    pub async fn publish(&mut self, attempts: Vec<Attempt>) -> HashMap<u64, Outcome> {
        let count = attempts.len();
        self.order(Order::Publish(attempts)).await;
        let mut outcomes = HashMap::new();
        while outcomes.len() < count {
            if let Report::Outcomes(some) = self.report().await {
                for (ticket, outcome) in some {
                    assert_eq!(outcomes.insert(ticket, outcome), None, "two outcomes of ticket {ticket}");
                }
            }
        }
        outcomes
    }

    /// Delivers all, keys in parallel and each in order, as a lane does; gives back what was refused for good, by
    /// number. `each` hears how many are done after each report.
    pub async fn deliver(&mut self, attempts: Vec<Attempt>, mut each: impl FnMut(usize)) -> HashMap<u64, FailureKind> {
        let count = attempts.len();
        let mut lines: BTreeMap<Option<Box<str>>, VecDeque<Attempt>> = BTreeMap::new();
        for attempt in attempts {
            lines.entry(attempt.delivery.event().key.clone()).or_default().push_back(attempt);
        }
        let mut out: HashMap<u64, Attempt> = HashMap::new();
        let (mut done, mut dead) = (0, HashMap::new());
        while done < count {
            self.hand_over(&mut lines, &mut out).await;
            let Report::Outcomes(outcomes) = self.report().await else { continue };
            for (ticket, outcome) in outcomes {
                let mut attempt = out.remove(&ticket).unwrap_or_else(|| panic!("two outcomes of ticket {ticket}"));
                match outcome {
                    Outcome::Taken { .. } => done += 1,
                    Outcome::Failed(failure) => {
                        self.failures.push(failure.kind);
                        if let FailureKind::Rejected(_) = failure.kind {
                            dead.insert(attempt.delivery.event().position().offset, failure.kind);
                            done += 1;
                        } else {
                            attempt.number += 1;
                            lines.get_mut(&attempt.delivery.event().key).unwrap().push_front(attempt);
                        }
                    }
                }
            }
            each(done);
        }
        dead
    }

    async fn hand_over(
        &mut self,
        lines: &mut BTreeMap<Option<Box<str>>, VecDeque<Attempt>>,
        out: &mut HashMap<u64, Attempt>,
    ) {
        if !self.is_up() {
            return;
        }
        let window = self.outlet.as_ref().unwrap().window;
        let busy: HashSet<_> = out.values().map(|attempt| attempt.delivery.event().key.clone()).collect();
        let mut batch = Vec::new();
        for (_, line) in lines.iter_mut().filter(|(key, _)| !busy.contains(key)) {
            if out.len() >= window {
                break;
            }
            let Some(mut attempt) = line.pop_front() else { continue };
            self.ticket += 1;
            attempt.ticket = self.ticket;
            out.insert(attempt.ticket, attempt.clone());
            batch.push(attempt);
        }
        if !batch.is_empty() {
            self.order(Order::Publish(batch)).await;
        }
    }
}
