//! Reads back what the brokers hold with ordinary clients, as it comes.
//!
//! A killed program leaves bytes on their way: a look ends only when nothing came between two looks in a row.

use crate::{
    brokers::rabbitmq::{Broker, Client, Received},
    crash::{campaign::Reader, oracle::Copy},
    kafka::support::{Node, Seen, delete_topic, seen},
    program::{PATIENCE, wait_for},
};
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions},
    types::FieldTable,
};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use std::{
    thread,
    time::{Duration, Instant},
};
use tokio::{runtime::Runtime, time::timeout};

/// How long nothing must come before a look ends.
const QUIET: Duration = Duration::from_millis(30);
/// How long a broker may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// The type of the messages that mark a look's end.
const MARK: &str = "mark";

/// A queue that is read all the time.
pub struct Queue {
    runtime: Runtime,
    client: Client,
    consumer: Consumer,
    name: String,
}

impl Queue {
    /// Declares a topic exchange and a queue of one name that takes everything from it, and reads it.
    pub fn new(broker: &Broker, name: &str) -> Self {
        Self::bound(broker, name, "#")
    }

    /// The same for what has routing keys like this.
    pub fn bound(broker: &Broker, name: &str, key: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, consumer) = runtime.block_on(async {
            let client = broker.client().await;
            client.exchange(name, lapin::ExchangeKind::Topic).await;
            client.queue(name, name, key, &[]).await;
            let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
            let consumer = client.channel.basic_consume(name.into(), "".into(), options, FieldTable::default());
            let consumer = consumer.await.unwrap();
            (client, consumer)
        });
        Self { runtime, client, consumer, name: name.to_owned() }
    }

    /// Everything that the queue took before this call.
    pub fn look(&mut self) -> Vec<Received> {
        let Self { runtime, client, consumer, name } = self;
        runtime.block_on(async {
            let mark = BasicProperties::default().with_type(MARK.into());
            let options = BasicPublishOptions::default();
            client.channel.basic_publish("".into(), name.as_str().into(), options, b"", mark).await.unwrap();
            let mut received = Vec::new();
            loop {
                let delivery = timeout(PATIENCE, consumer.next()).await.expect("the mark comes back");
                let message = Received::from(delivery.expect("the consumer stays").unwrap());
                if message.properties.kind().as_ref().is_some_and(|kind| kind.as_str() == MARK) {
                    return received;
                }
                received.push(message);
            }
        })
    }
}

impl Drop for Queue {
    /// Its end is waited for: what the broker hands to a consumer that is going would be gone.
    fn drop(&mut self) {
        let Self { runtime, client, .. } = self;
        // A broker that is down, or stands still, has no consumer either.
        let _ended = runtime.block_on(async { timeout(GOODBYE, client.connection.close(200, "read".into())).await });
    }
}

impl Reader for Queue {
    fn read_new(&mut self) -> Vec<Copy> {
        until_quiet(|| self.look()).iter().map(of_message).collect()
    }
}

/// A topic that is read from its beginning.
pub struct Topic {
    consumer: BaseConsumer,
    name: String,
    /// The next offset of each partition.
    next: Vec<i64>,
}

impl Topic {
    /// Reads a topic that is there already.
    pub fn new(brokers: &str, name: &str, partitions: i32) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", name);
        // The broker answers a connection's requests one by one: asking for the end would wait behind a fetch.
        config.set("fetch.wait.max.ms", "10");
        config.set("topic.metadata.refresh.interval.ms", "1000");
        // What was removed under the reader is an error, not a reason to begin elsewhere.
        config.set("auto.offset.reset", "error");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        // A topic that was just made is not known everywhere at once, and what is assigned too early may wait long.
        wait_for("the topic's leaders", PATIENCE, || {
            let metadata = consumer.fetch_metadata(Some(name), PATIENCE).ok()?;
            let known = metadata.topics().first()?.partitions();
            let led = known.iter().filter(|partition| partition.error().is_none() && partition.leader() >= 0);
            (led.count() == usize::try_from(partitions).ok()?).then_some(())
        });
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(name, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        Self { consumer, name: name.to_owned(), next: (0..partitions).map(|_| 0).collect() }
    }

    /// Everything that the topic took before this call.
    pub fn look(&mut self) -> Vec<Seen> {
        let end = |at: usize| {
            let partition = i32::try_from(at).unwrap();
            self.consumer.fetch_watermarks(&self.name, partition, PATIENCE).unwrap().1
        };
        let ends: Vec<_> = (0..self.next.len()).map(end).collect();
        let until = Instant::now() + PATIENCE;
        let mut records = Vec::new();
        while self.next.iter().zip(&ends).any(|(next, end)| next < end) {
            assert!(Instant::now() < until, "read up to {:?}, the topic ends at {ends:?}", self.next);
            let Some(record) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let (offset, record) = seen(&record.unwrap());
            let next = &mut self.next[usize::try_from(record.partition).unwrap()];
            assert_eq!(offset, *next, "offsets without gaps");
            *next += 1;
            records.push(record);
        }
        records
    }
}

impl Reader for Topic {
    fn read_new(&mut self) -> Vec<Copy> {
        until_quiet(|| self.look()).iter().map(of_record).collect()
    }
}

/// Removes an exchange, a queue and a topic of this name.
pub async fn remove(rabbitmq: &Broker, node: &Node, name: &str) {
    delete_topic(node.brokers(), name).await;
    let client = rabbitmq.client().await;
    client.channel.queue_delete(name.into(), Default::default()).await.expect("the queue goes");
    client.delete_exchange(name).await;
}

fn until_quiet<T>(mut look: impl FnMut() -> Vec<T>) -> Vec<T> {
    let mut all = look();
    loop {
        thread::sleep(QUIET);
        let more = look();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

fn of_message(message: &Received) -> Copy {
    let id = message.header("cloudEvents_id");
    assert_eq!(message.properties.message_id().as_ref().map(|id| id.as_str()), Some(id.as_str()));
    Copy {
        id,
        delivery: message.header("x-delivery"),
        route: message.header("x-route"),
        vendor_id: message.header("x-vendor-id"),
        subject: message.header("cloudEvents_subject"),
        value: message.value.clone(),
    }
}

fn of_record(record: &Seen) -> Copy {
    let header = |name: &str| record.headers.get(name).cloned().unwrap_or_default();
    Copy {
        id: header("ce_id"),
        delivery: header("x-delivery"),
        route: header("x-route"),
        vendor_id: header("x-vendor-id"),
        subject: header("ce_subject"),
        value: record.value.clone(),
    }
}
