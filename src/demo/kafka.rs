//! What the demo reads back from Kafka, with an ordinary client that shares no code with the destination.
//!
//! It makes a topic of its own, and takes it away again; it touches nothing else.

use super::Copy;
use anyhow::{Context, anyhow, bail};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    message::Headers as _,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::spawn_blocking, time};

/// How long the cluster may take to answer at all.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to make a topic, or to take it away.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the new topic may take until each partition has a leader.
const LEADERS_WITHIN: Duration = Duration::from_secs(20);
/// More than one, so that keys spread.
const PARTITIONS: i32 = 3;

/// A topic that is read from its beginning.
pub(super) struct Reader {
    consumer: Arc<BaseConsumer<Quiet>>,
    brokers: String,
    topic: String,
}

impl Reader {
    /// Makes the topic.
    ///
    /// # Errors
    /// In words for whoever set `KAFKA_BROKERS`.
    pub(super) async fn open(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let why = match Self::create(brokers, topic).await {
            Ok(reader) => return Ok(reader),
            // The library's own words hold their causes already.
            Err(error) => error.to_string(),
        };
        bail!("KAFKA_BROKERS is set, and Kafka at {brokers} cannot be used: {why}; start it, or unset KAFKA_BROKERS")
    }

    async fn create(brokers: &str, topic: &str) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", topic).set("enable.auto.commit", "false");
        let consumer: Arc<BaseConsumer<Quiet>> = Arc::new(config.create_with_context(Quiet)?);
        let asked = Arc::clone(&consumer);
        // Asked first: what is not there is told at once, and not after all of an admin client's own tries.
        let answered = spawn_blocking(move || asked.fetch_metadata(None, FIRST_ANSWER).map(|_| ())).await?;
        answered.map_err(|error| anyhow!("no broker answers ({error})"))?;
        let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
        let created = admin(brokers)?.create_topics([&new], &options()).await?;
        for result in created {
            result.map_err(|(name, code)| anyhow!("cannot make topic {name}: {code}"))?;
        }
        let reader = Self { consumer, brokers: brokers.to_owned(), topic: topic.to_owned() };
        if let Err(error) = reader.assign().await {
            reader.remove().await;
            return Err(error);
        }
        Ok(reader)
    }

    /// Waits until the topic can be read, and begins.
    async fn assign(&self) -> anyhow::Result<()> {
        let until = Instant::now() + LEADERS_WITHIN;
        while !self.is_led().await? {
            if Instant::now() > until {
                bail!("topic {} has no leaders after {LEADERS_WITHIN:?}", self.topic);
            }
            time::sleep(Duration::from_millis(50)).await;
        }
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(0))?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    async fn is_led(&self) -> anyhow::Result<bool> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let metadata = spawn_blocking(move || consumer.fetch_metadata(Some(&topic), PATIENCE)).await??;
        let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions);
        let led = partitions.into_iter().flatten().filter(|partition| partition.leader() >= 0);
        Ok(i32::try_from(led.count()) == Ok(PARTITIONS))
    }

    /// Everything that has come since the last look.
    pub(super) fn read(&self) -> anyhow::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        while let Some(record) = self.consumer.poll(Duration::ZERO) {
            let record = record?;
            let headers = record.headers();
            let mut ids = headers.into_iter().flat_map(|headers| headers.iter());
            let id = ids.find(|header| header.key == "x-vendor-id").and_then(|header| header.value);
            let id = id.context("a record without the header x-vendor-id")?;
            let vendor_id = String::from_utf8_lossy(id).into_owned();
            let data = serde_json::from_slice(record.payload().unwrap_or_default());
            copies.push(Copy { vendor_id, data: data.context("a record that is not JSON")? });
        }
        Ok(copies)
    }

    /// What was seen, in words.
    pub(super) fn saw(&self) -> String {
        format!("topic {} of {}, {PARTITIONS} partitions", self.topic, self.brokers)
    }

    /// Takes the topic away.
    pub(super) async fn remove(self) {
        let removed = async {
            let removed = admin(&self.brokers)?.delete_topics(&[&self.topic], &options()).await?;
            removed.into_iter().next().transpose().map_err(|(_, code)| anyhow!("{code}"))
        };
        if let Err(error) = removed.await {
            println!("\nThe topic {} is left behind ({error:#}): remove it.", self.topic);
        }
    }
}

/// What goes wrong comes back from the calls; librdkafka's own lines repeat it every second.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

fn admin(brokers: &str) -> anyhow::Result<AdminClient<Quiet>> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).create_with_context(Quiet)?)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}
