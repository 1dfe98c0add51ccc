//! A RabbitMQ node for a test: the shared one of `scripts/rabbitmq`, or one of its own that it may kill.

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use tokio::time::timeout;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A queue from which nothing came for this long is empty.
const QUIET: Duration = Duration::from_millis(500);

/// What `scripts/rabbitmq` says of a node.
#[derive(Debug, Clone)]
pub struct Broker {
    vars: HashMap<String, String>,
    /// The folder of a node that belongs to one test, stopped with it.
    own: Option<PathBuf>,
}

fn script(args: &[&str], home: Option<&Path>, keep_data: bool) -> String {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/rabbitmq"));
    command.args(args).env("RABBITMQ_KEEP_DATA", if keep_data { "1" } else { "0" });
    if let Some(home) = home {
        command.env("RABBITMQ_HOME_DIR", home);
    }
    let output = command.output().expect("scripts/rabbitmq can be run");
    assert!(output.status.success(), "scripts/rabbitmq {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("scripts/rabbitmq prints text")
}

fn parse(text: &str) -> HashMap<String, String> {
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

impl Broker {
    /// The node that all tests share; it must run already.
    pub fn shared() -> Self {
        let mut vars = HashMap::new();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/target/brokers/rabbitmq.env");
        if let Ok(text) = std::fs::read_to_string(file) {
            vars = parse(&text);
        }
        for name in ["AMQP_URL", "AMQPS_URL", "AMQP_CA_FILE", "RABBITMQCTL"] {
            if let Ok(value) = std::env::var(name) {
                vars.insert(name.to_owned(), value);
            }
        }
        assert!(vars.contains_key("AMQP_URL"), "no RabbitMQ: run `scripts/rabbitmq start`, or set AMQP_URL");
        Self { vars, own: None }
    }

    /// Starts a node for one test alone.
    pub fn own(name: &str) -> Self {
        let home = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/brokers"))
            .join(format!("rabbitmq-{name}-{}", std::process::id()));
        let vars = parse(&script(&["start"], Some(&home), false));
        Self { vars, own: Some(home) }
    }

    /// Starts this node again after it was killed, with what it had on disk.
    pub fn restart(&mut self) {
        self.vars = parse(&script(&["start"], self.own.as_deref(), true));
    }

    pub fn var(&self, name: &str) -> String {
        self.vars.get(name).unwrap_or_else(|| panic!("{name} is not known of this broker")).clone()
    }

    pub fn url(&self) -> String {
        self.var("AMQP_URL")
    }

    /// The port of the plain listener.
    pub fn port(&self) -> u16 {
        let url = self.url();
        url.rsplit(':').next().and_then(|port| port.split('/').next()?.parse().ok()).expect("AMQP_URL names a port")
    }

    /// Runs `rabbitmqctl` on this node.
    pub fn ctl(&self, args: &[&str]) -> String {
        let output = Command::new(self.var("RABBITMQCTL")).args(args).output().expect("rabbitmqctl can be run");
        assert!(output.status.success(), "rabbitmqctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Has the node write down which exchanges, queues and bindings there are: it answers that they are made before a
    /// `kill -9` would leave them there.
    pub fn keep_topology(&self) {
        self.ctl(&["eval", "mnesia:dump_log()."]);
    }

    /// Sends a signal, such as `KILL`, to the node of this test.
    pub fn signal(&self, signal: &str) {
        assert!(self.own.is_some(), "the shared node is not ours to stop");
        let status = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.var("RABBITMQ_PID"))]).status();
        assert!(status.expect("sh can be run").success());
        if signal == "KILL" {
            crate::program::wait_for_end(&self.var("RABBITMQ_PID"));
        }
    }

    /// A channel of the plain client, past the product.
    pub async fn client(&self) -> Client {
        let connection = Connection::connect(&self.url(), ConnectionProperties::default()).await.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        Client { connection, channel }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(home) = self.own.take() {
            script(&["stop"], Some(&home), false);
            let _ = std::fs::remove_dir_all(home);
        }
    }
}

pub struct Client {
    pub connection: Connection,
    pub channel: Channel,
}

impl Client {
    pub async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()).await.expect("an exchange");
    }

    pub async fn delete_exchange(&self, name: &str) {
        self.channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.expect("no exchange");
    }

    /// Declares a durable queue and binds it.
    pub async fn queue(&self, name: &str, exchange: &str, key: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(name.into(), options, table).await.expect("a queue");
        let bind = self.channel.queue_bind(
            name.into(),
            exchange.into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.expect("a binding");
    }

    /// Takes everything out of a queue: until at least `expected` messages came, and then no more for a while.
    pub async fn drain(&self, queue: &str, expected: usize) -> Vec<Received> {
        let channel = self.connection.create_channel().await.expect("a channel");
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        let mut consumer = consumer.await.expect("a consumer");
        let mut received: Vec<Received> = Vec::new();
        loop {
            let patience = if received.len() < expected { PATIENCE } else { QUIET };
            match timeout(patience, consumer.next()).await {
                Ok(Some(delivery)) => received.push(delivery.expect("a delivery").into()),
                Ok(None) => panic!("the consumer was cancelled"),
                Err(_) if received.len() < expected => panic!("{} of {expected} messages came", received.len()),
                Err(_) => return received,
            }
        }
    }
}

/// A message as a consumer sees it.
#[derive(Debug)]
pub struct Received {
    pub value: Vec<u8>,
    pub routing_key: String,
    pub properties: BasicProperties,
}

impl Received {
    /// A header's text; absent headers are empty.
    pub fn header(&self, name: &str) -> String {
        let headers = self.properties.headers().as_ref();
        match headers.and_then(|headers| headers.inner().get(name)) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(other) => panic!("{name} is {other:?}"),
            None => String::new(),
        }
    }
}

impl From<Delivery> for Received {
    fn from(delivery: Delivery) -> Self {
        let routing_key = delivery.routing_key.to_string();
        Self { value: delivery.data, routing_key, properties: delivery.properties }
    }
}
