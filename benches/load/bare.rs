//! Bare publishers: what lapin and rdkafka alone reach towards the same broker, with the same properties and the same
//! guarantees, publishing from memory. What we lose against them is the price of keeping, deciding and ordering.

use crate::push::Push;
use anyhow::{Context, bail};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties, PublisherConfirm,
    message::BasicReturnMessage,
    options::{
        BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{DeliveryFuture, FutureProducer, FutureRecord},
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The exchange, the queue and the topic that everything here publishes to.
pub const NAME: &str = "laigu-load";
/// How many publishes are unanswered at most; the best one counts.
const WINDOWS: [usize; 4] = [64, 256, 1024, 4096];
const PARTITIONS: i32 = 6;

/// Makes the exchange, and a queue that keeps the newest messages only, so that no disk fills up.
pub async fn prepare_rabbitmq(url: &str) -> anyhow::Result<Connection> {
    let connection =
        Connection::connect(url, ConnectionProperties::default()).await.context("cannot reach RabbitMQ")?;
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare(NAME.into(), lapin::ExchangeKind::Topic, durable, FieldTable::default())
        .await
        .context("cannot declare the exchange")?;
    let mut bounds = FieldTable::default();
    bounds.insert("x-max-length".into(), AMQPValue::LongInt(100_000));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(NAME.into(), durable, bounds).await.context("cannot declare the queue")?;
    let options = QueueBindOptions::default();
    channel.queue_bind(NAME.into(), NAME.into(), "#".into(), options, FieldTable::default()).await?;
    Ok(connection)
}

/// Makes the topic; its partitions keep the newest messages only.
pub async fn prepare_kafka(brokers: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().context("cannot make a Kafka client")?;
    let topic = NewTopic::new(NAME, PARTITIONS, TopicReplication::Fixed(1))
        .set("retention.bytes", "268435456")
        .set("segment.bytes", "67108864");
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => bail!("cannot create topic {name}: {code}"),
        }
    }
    Ok(())
}

/// The best rate of a bare lapin publisher, with its window.
pub async fn rabbitmq(url: &str, body_bytes: usize, each: Duration) -> anyhow::Result<(f64, usize)> {
    let connection = prepare_rabbitmq(url).await?;
    let mut best = (0.0, 0);
    for window in WINDOWS {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut push = Push::new(body_bytes, 10_000);
        let mut waiting: VecDeque<PublisherConfirm> = VecDeque::with_capacity(window);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let (begin, mut confirmed) = (Instant::now(), 0_u32);
        for number in 0.. {
            if begin.elapsed() >= each {
                break;
            }
            if waiting.len() == window {
                confirm(waiting.pop_front()).await?;
                confirmed += 1;
            }
            push.number(number);
            let properties = properties(number);
            let routing_key = "cus.upsert".into();
            waiting.push_back(channel.basic_publish(NAME.into(), routing_key, options, push.body(), properties).await?);
        }
        let rate = f64::from(confirmed) / begin.elapsed().as_secs_f64();
        while let Some(last) = waiting.pop_front() {
            confirm(Some(last)).await?;
        }
        if rate > best.0 {
            best = (rate, window);
        }
    }
    Ok(best)
}

async fn confirm(waiting: Option<PublisherConfirm>) -> anyhow::Result<()> {
    let Some(waiting) = waiting else { return Ok(()) };
    match waiting.await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            bail!("returned: {}", said(&returned))
        }
        Confirmation::Nack(None) | Confirmation::NotRequested => bail!("not confirmed"),
    }
}

fn said(returned: &BasicReturnMessage) -> String {
    format!("{} {}", returned.reply_code, returned.reply_text)
}

/// The marks that a message of ours has, as many and as long.
fn marks(number: u64) -> [(&'static str, String); 10] {
    [
        ("cloudEvents_specversion", "1.0".to_owned()),
        ("cloudEvents_id", format!("evt_01920f3a5b7c0000{number:020}")),
        ("cloudEvents_source", "/laigu/acme".to_owned()),
        ("cloudEvents_type", "com.laigu.cus.upsert".to_owned()),
        ("cloudEvents_time", "2026-11-24T10:00:00Z".to_owned()),
        ("cloudEvents_subject", format!("trk_{number:012}")),
        ("x-delivery", format!("evt_01920f3a5b7c0000{number:020}/everything")),
        ("x-route", "everything".to_owned()),
        ("x-attempt", "1".to_owned()),
        ("traceparent", format!("00-{number:032x}-{number:016x}-01")),
    ]
}

fn properties(number: u64) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in marks(number) {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(format!("evt_01920f3a5b7c0000{number:020}").into())
        .with_type("com.laigu.cus.upsert".into())
        .with_app_id("laigu-router".into())
        .with_timestamp(1_726_824_224)
        .with_headers(headers)
}

/// The best rate of a bare rdkafka producer, with its window.
pub async fn kafka(brokers: &str, body_bytes: usize, each: Duration) -> anyhow::Result<(f64, usize)> {
    prepare_kafka(brokers).await?;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "none")
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "20000")
        .create()?;
    let mut best = (0.0, 0);
    for window in WINDOWS {
        let mut push = Push::new(body_bytes, 10_000);
        let mut waiting: VecDeque<DeliveryFuture> = VecDeque::with_capacity(window);
        let (begin, mut confirmed) = (Instant::now(), 0_u32);
        for number in 0.. {
            if begin.elapsed() >= each {
                break;
            }
            if waiting.len() == window {
                deliver(waiting.pop_front()).await?;
                confirmed += 1;
            }
            push.number(number);
            let mut headers = OwnedHeaders::new_with_capacity(11);
            for (key, value) in &marks(number) {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let key = format!("acme/trk_{:012}", number % 10_000);
            let record = FutureRecord::to(NAME).key(&key).payload(push.body()).headers(headers);
            match producer.send_result(record) {
                Ok(sent) => waiting.push_back(sent),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    deliver(waiting.pop_front()).await?;
                    confirmed += 1;
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        let rate = f64::from(confirmed) / begin.elapsed().as_secs_f64();
        while let Some(last) = waiting.pop_front() {
            deliver(Some(last)).await?;
        }
        if rate > best.0 {
            best = (rate, window);
        }
    }
    Ok(best)
}

async fn deliver(waiting: Option<DeliveryFuture>) -> anyhow::Result<()> {
    match waiting {
        Some(waiting) => waiting.await?.map(drop).map_err(|(error, _)| error.into()),
        None => Ok(()),
    }
}
