//! What the demo reads back from RabbitMQ, with an ordinary client that shares no code with the destination.
//!
//! It declares an exchange and a queue of its own, and nothing else: the queue belongs to the connection and goes with
//! it, and the exchange goes with its last queue, however the demo ends.

use super::Copy;
use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::{
    Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::timeout;

/// How long the broker may take to let us in and make what the demo needs.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the broker hands over before we have said that we have the others: it bounds what waits in memory.
const AHEAD: u16 = 256;
/// Nothing for so long, and there is nothing to read for the moment.
const QUIET: Duration = Duration::from_millis(20);

/// A queue that takes everything from the demo's exchange.
pub(super) struct Reader {
    connection: Connection,
    consumer: Consumer,
    /// Where the broker is, without the password.
    place: String,
    exchange: String,
    keys: BTreeSet<String>,
}

impl Reader {
    /// Makes the exchange and the queue.
    ///
    /// # Errors
    /// In words for whoever set `AMQP_URL`; the URL's password is not among them.
    pub(super) async fn open(url: &str, exchange: &str) -> anyhow::Result<Self> {
        let place = place(url).context("AMQP_URL is not amqp://user:password@host:port/vhost")?;
        let opened = timeout(PATIENCE, Self::declare(url, &place, exchange)).await;
        let why = match opened {
            Ok(Ok(reader)) => return Ok(reader),
            // The library's own words hold their causes already.
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        bail!("AMQP_URL is set, and RabbitMQ at {place} cannot be used: {why}; start it, or unset AMQP_URL")
    }

    async fn declare(url: &str, place: &str, exchange: &str) -> Result<Self, lapin::Error> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let short = |text: &str| ShortString::try_new(text).unwrap_or_default();
        let own = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
        channel.exchange_declare(short(exchange), ExchangeKind::Topic, own, FieldTable::default()).await?;
        let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare(ShortString::default(), own, FieldTable::default()).await?.name().clone();
        let (all, options) = (short("#"), QueueBindOptions::default());
        channel.queue_bind(queue.clone(), short(exchange), all, options, FieldTable::default()).await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
        let (place, exchange) = (place.to_owned(), exchange.to_owned());
        Ok(Self { connection, consumer, place, exchange, keys: BTreeSet::new() })
    }

    /// Everything that has come since the last look.
    pub(super) async fn read(&mut self) -> anyhow::Result<Vec<Copy>> {
        let mut copies = Vec::new();
        while let Ok(delivery) = timeout(QUIET, self.consumer.next()).await {
            let delivery = delivery.context("RabbitMQ has ended the demo's queue")??;
            delivery.ack(BasicAckOptions::default()).await?;
            self.keys.insert(delivery.routing_key.to_string());
            let vendor_id = header(&delivery, "x-vendor-id").context("a message without the header x-vendor-id")?;
            let data = serde_json::from_slice(&delivery.data).context("a message that is not JSON")?;
            copies.push(Copy { vendor_id, data });
        }
        Ok(copies)
    }

    /// What was seen, in words.
    pub(super) fn saw(&self) -> String {
        let keys = self.keys.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("exchange {} of {}, routing keys {keys}", self.exchange, self.place)
    }

    /// Closes the connection; queue and exchange go with it.
    pub(super) async fn close(self) {
        let goodbye = self.connection.close(200, ShortString::default());
        // Whatever the broker answers: the socket closes with the process.
        let _ = timeout(PATIENCE, goodbye).await;
    }
}

fn header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Host and port of a URL: user and password are nobody's to read.
fn place(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "amqp" | "amqps"))?;
    let host = parsed.host_str()?;
    Some(parsed.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_place_is_a_host_and_a_port_and_no_password() {
        assert_eq!(place("amqp://user:hush@broker:5673/%2f").as_deref(), Some("broker:5673"));
        assert_eq!(place("amqps://user:hush@broker").as_deref(), Some("broker"));
        for wrong in ["", "hush", "user:hush", "amqp:hush", "http://user:hush@broker"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
