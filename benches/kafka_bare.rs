//! How fast Kafka takes records from bare rdkafka, by records in flight, and from our outlet, in one run.
//!
//! `scripts/kafka start`, then `cargo bench --bench kafka_bare`, perhaps with `-- SECONDS` for each row (default 3).
//! Values are 1 KB, keys are many, properties are those of the outlet; some rows show what `linger.ms` is worth.
#![allow(clippy::indexing_slicing, reason = "a panic ends a bench, not a service")]

use anyhow::Context as _;
use bytes::Bytes;
use laigu_router::{
    config::settings::Kafka,
    destinations::{Common, Order, Outcome, OutletState, Report, kafka, message::TypePrefixes},
    domain::{
        Attempt, Decision, Delivery, DestinationName, Fingerprint, Headers, Incarnation, NewEvent, Origin, Partition,
        RouteName, Routed, RoutedRow, SourceName, Target, TenantName, Timestamp,
    },
};
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer},
};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

const WINDOWS: [usize; 5] = [64, 256, 1_024, 4_096, 8_192];
const PARTITIONS: i32 = 4;
const VALUE_BYTES: usize = 1_024;

/// As many, and as long together, as those that the outlet sends.
const HEADERS: [(&str, &str); 12] = [
    ("ce_specversion", "1.0"),
    ("ce_id", "evt_01920ebe910ddeadbeef000300000000002a"),
    ("ce_source", "/laigu/acme"),
    ("ce_type", "com.laigu.cus.upsert"),
    ("ce_time", "2024-09-20T09:23:42.989Z"),
    ("ce_subject", "trk_1726824222989"),
    ("content-type", "application/json"),
    ("x-delivery", "evt_01920ebe910ddeadbeef000300000000002a/leads"),
    ("x-route", "leads"),
    ("x-attempt", "1"),
    ("x-vendor-id", "sub_1726824222989"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
];

fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(3);
    let span = Duration::from_secs(seconds);
    let brokers = brokers()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let topic = format!("bench-{}", Timestamp::now().as_millis());
    runtime.block_on(create_topic(&brokers, &topic))?;
    println!("| what | records in flight | records/s |\n| --- | --- | --- |");
    for window in WINDOWS {
        println!("| bare | {window} | {:.0} |", bare(&brokers, &topic, window, span, "5", &[])?);
    }
    for window in WINDOWS {
        println!("| bare, 12 headers | {window} | {:.0} |", bare(&brokers, &topic, window, span, "5", &HEADERS)?);
    }
    for linger in ["0", "1", "20"] {
        let rate = bare(&brokers, &topic, 8_192, span, linger, &HEADERS)?;
        println!("| bare, 12 headers, linger.ms={linger} | 8192 | {rate:.0} |");
    }
    for window in WINDOWS {
        println!("| our outlet | {window} | {:.0} |", runtime.block_on(ours(&brokers, &topic, window, span))?);
    }
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    runtime.block_on(admin.delete_topics(&[&topic], &AdminOptions::new()))?;
    Ok(())
}

fn brokers() -> anyhow::Result<String> {
    if let Ok(brokers) = std::env::var("KAFKA_BROKERS") {
        return Ok(brokers);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/brokers/kafka.env");
    let text = std::fs::read_to_string(file).context("no Kafka: run scripts/kafka start, or set KAFKA_BROKERS")?;
    let line = text.lines().find_map(|line| line.strip_prefix("KAFKA_BROKERS="));
    Ok(line.context("the env file names no brokers")?.to_owned())
}

async fn create_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    // Kept small: the bench writes gigabytes.
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1))
        .set("retention.bytes", "67108864")
        .set("segment.bytes", "67108864");
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(topic, code)| anyhow::anyhow!("cannot create topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Counts what is out, and wakes the sender when there is room again.
#[derive(Default)]
struct Count {
    out: Mutex<(usize, u64)>,
    room: Condvar,
}

struct Counting(Arc<Count>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a delivery failed");
        let mut out = self.0.out.lock().expect("no panic under the lock");
        out.0 -= 1;
        out.1 += 1;
        self.0.room.notify_one();
    }
}

fn bare(
    brokers: &str,
    topic: &str,
    window: usize,
    span: Duration,
    linger: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<f64> {
    let count = Arc::new(Count::default());
    let producer: ThreadedProducer<Counting> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", linger)
        .set("queue.buffering.max.messages", (window * 2).max(1_000).to_string())
        .create_with_context(Counting(Arc::clone(&count)))?;
    let value = vec![b'x'; VALUE_BYTES];
    let mut sent = 0_u64;
    let mut started = Instant::now();
    let mut before = 0;
    let mut warm = false;
    loop {
        if !warm && started.elapsed() > Duration::from_secs(1) {
            (warm, started) = (true, Instant::now());
            before = count.out.lock().expect("no panic under the lock").1;
        }
        if warm && started.elapsed() >= span {
            break;
        }
        let free = {
            let mut out = count.out.lock().expect("no panic under the lock");
            while out.0 >= window {
                out = count.room.wait(out).expect("no panic under the lock");
            }
            let free = window - out.0;
            out.0 = window;
            free
        };
        for _ in 0..free {
            sent += 1;
            let key = format!("acme/trk_{}", sent % 10_007);
            let mut record = BaseRecord::to(topic).payload(&value).key(&key).timestamp(1_726_824_222_989);
            if !headers.is_empty() {
                let all = OwnedHeaders::new_with_capacity(headers.len());
                record.headers =
                    Some(headers.iter().fold(all, |all, (key, value)| all.insert(Header { key, value: Some(*value) })));
            }
            producer.send(record).map_err(|(error, _)| error)?;
        }
    }
    let done = count.out.lock().expect("no panic under the lock").1 - before;
    let rate = done as f64 / started.elapsed().as_secs_f64();
    producer.flush(Duration::from_secs(30))?;
    Ok(rate)
}

async fn ours(brokers: &str, topic: &str, window: usize, span: Duration) -> anyhow::Result<f64> {
    let settings =
        Kafka { brokers: vec![brokers.into()], topic: topic.into(), security: None, properties: BTreeMap::new() };
    let name = DestinationName::parse("lake")?;
    let (mut outlet, task) = kafka::start(Common { name, window, prefixes: TypePrefixes::default() }, &settings);
    let task = tokio::spawn(task);
    while !matches!(outlet.reports.recv().await, Some(Report::State { state: OutletState::Up, .. })) {}
    // Made beforehand, as the lane finds them in memory; only tickets and offsets differ from turn to turn.
    let events: Vec<_> = (0..10_007).map(routed).collect::<anyhow::Result<_>>()?;
    let (mut ticket, mut done) = (0_u64, 0_u64);
    let mut free = window;
    let (mut started, mut warm) = (Instant::now(), false);
    loop {
        if !warm && started.elapsed() > Duration::from_secs(1) {
            (warm, started, done) = (true, Instant::now(), 0);
        }
        if warm && started.elapsed() >= span {
            break;
        }
        if free > 0 {
            let batch = (0..free).map(|_| {
                ticket += 1;
                let routed = Arc::clone(&events[usize::try_from(ticket).unwrap_or(0) % events.len()]);
                Attempt { ticket, delivery: Delivery::first(routed, 0), number: 1, at: Timestamp::EPOCH }
            });
            outlet.orders.send(Order::Publish(batch.collect())).await?;
        }
        free = match outlet.reports.recv().await {
            Some(Report::Outcomes(outcomes)) => {
                anyhow::ensure!(outcomes.iter().all(|(_, end)| matches!(end, Outcome::Taken { .. })), "a failure");
                outcomes.len()
            }
            other => anyhow::bail!("{other:?}"),
        };
        done += free as u64;
    }
    let rate = done as f64 / started.elapsed().as_secs_f64();
    drop(outlet);
    task.await?;
    Ok(rate)
}

fn routed(number: u64) -> anyhow::Result<Arc<Routed>> {
    let key = format!("acme/trk_{number}");
    let event = NewEvent {
        source: SourceName::parse("laigu")?,
        tenant: TenantName::parse("acme")?,
        kind: "cus.upsert".into(),
        key: Some(key.as_str().into()),
        vendor_id: Some(format!("sub_{number}").into()),
        origin: Origin::Push,
        sent_at: Some(Timestamp::from_millis(1_726_824_222_989)),
        received_at: Timestamp::from_millis(1_726_824_223_000),
        headers: Headers::default(),
        body: Bytes::from(vec![b'x'; VALUE_BYTES]),
        payload: None,
        order: None,
        id_hash: number,
        body_hash: number,
        fingerprint: Fingerprint::default(),
        superseded: false,
    };
    let event = event.at(Partition(0), number, Incarnation(7), false);
    let target = Target {
        route: RouteName::parse("leads")?,
        destination: DestinationName::parse("lake")?,
        address: Some(key.into()),
        parts: Default::default(),
    };
    let decision = Decision { targets: vec![target], ..Decision::default() };
    let row = RoutedRow { event: event.position(), job: 0, generation: 1, decision, enrichment: Vec::new() };
    Ok(Arc::new(Routed { offset: number, row, event: Arc::new(event) }))
}
