//! A node to talk to, tries to publish, and an ordinary consumer that reads back.

use crate::program::wait_for_end;
use bytes::Bytes;
use laigu_router::{
    config::settings::{Kafka, KafkaSecurity, PemFile},
    domain::{
        Attempt, Decision, Delivery, DestinationName, EventId, Fingerprint, Headers, Incarnation, NewEvent, Origin,
        Partition, Position, RouteName, Routed, RoutedRow, SourceName, Target, TenantName, Timestamp,
    },
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers as _},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

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
        Self::start_with(&[])
    }

    /// One that also listens on `port`, and sends who asks there on to `proxy`.
    pub fn start_behind(port: u16, proxy: u16) -> Self {
        Self::start_with(&[("KAFKA_BEHIND", &format!("{port}:{proxy}"))])
    }

    fn start_with(variables: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        script_with(home.path(), "start", false, variables);
        let node = Node::parse(&fs::read_to_string(home.path().join("node.env")).unwrap());
        Self { home, node }
    }

    /// Starts it again, on the same ports and with its data.
    pub fn restart(&mut self) {
        script(self.home.path(), "start", true);
        self.node = Node::parse(&fs::read_to_string(self.home.path().join("node.env")).unwrap());
    }

    /// Stops it, and waits until it has ended.
    pub fn stop(&self) {
        script(self.home.path(), "stop", true);
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.node.get("KAFKA_PID");
        let done = Command::new("kill").args([signal, pid]).status().unwrap();
        assert!(done.success(), "kill {signal}");
        if signal == "-KILL" {
            wait_for_end(pid);
        }
    }
}

impl Drop for OwnNode {
    fn drop(&mut self) {
        script(self.home.path(), "stop", true);
    }
}

fn script(home: &Path, verb: &str, keep_data: bool) {
    script_with(home, verb, keep_data, &[]);
}

fn script_with(home: &Path, verb: &str, keep_data: bool, variables: &[(&str, &str)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
    let home: PathBuf = home.join("node");
    let done = Command::new(script)
        .arg(verb)
        .env("KAFKA_HOME_DIR", home)
        .env("KAFKA_KEEP_DATA", if keep_data { "1" } else { "0" })
        .envs(variables.iter().copied())
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

/// Makes a topic that keeps everything: records carry the pushes' own time, and the tests' pushes are years old, so that
/// retention by time would take them as soon as it looks.
pub async fn create_topic(brokers: &str, topic: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
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
        let (offset, record) = self::seen(&record.unwrap());
        if ends.get(&record.partition).is_some_and(|end| offset + 1 >= *end) {
            ends.remove(&record.partition);
        }
        seen.push(record);
    }
    seen
}

/// A record with its offset.
pub fn seen(record: &BorrowedMessage<'_>) -> (i64, Seen) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let headers = record
        .headers()
        .map(|headers| headers.iter().map(|header| (header.key.to_owned(), text(header.value.unwrap()))).collect());
    let seen = Seen {
        partition: record.partition(),
        key: record.key().map(text),
        value: record.payload().unwrap().to_vec(),
        timestamp: record.timestamp().to_millis(),
        headers: headers.unwrap_or_default(),
    };
    (record.offset(), seen)
}

/// Each key's numbers go up in the order of first copies; gives back how many copies are repeats.
pub fn repeats(brokers: &str, topic: &str, keys: u64, each: u64) -> usize {
    let seen = read_back(brokers, topic);
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut repeats = 0;
    for record in &seen {
        let number: u64 = record.headers["x-vendor-id"].trim_start_matches("sub_").parse().unwrap();
        let turn = number / keys;
        let next = next.entry(record.key.clone().unwrap()).or_default();
        assert!(turn <= *next, "{:?}: {turn} came before {next}", record.key);
        if turn == *next {
            *next += 1;
        } else {
            repeats += 1;
        }
    }
    assert_eq!(next.len() as u64, keys);
    assert!(next.values().all(|count| *count == each), "{next:?}");
    repeats
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
        ca_file: ca_file.map(|path| PemFile::new(path, b"")),
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
        fingerprint: Fingerprint::default(),
        superseded: false,
    };
    let event = event.at(Partition(0), number, Incarnation(7), false);
    let target = Target {
        route: RouteName::parse("all").unwrap(),
        destination: DestinationName::parse("lake").unwrap(),
        address: key.map(Into::into),
        parts: Default::default(),
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
