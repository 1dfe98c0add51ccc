//! The exchange: declared when we may, looked for when we may not, and tried without leaving a message behind.

use crate::{
    config::settings::Exchange,
    destinations::rabbitmq::{envelope::short, trouble::Trouble},
};
use lapin::{
    BasicProperties, Connection, ExchangeKind,
    options::{BasicPublishOptions, ExchangeDeclareOptions},
    types::{FieldTable, ShortString},
};

/// Whether the exchange may be made where it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// From the start, and from a `resume`, until it is made, if the settings allow it.
    Declare,
    /// Afterwards: an exchange made again by itself would have lost its bindings, and swallow everything.
    Look,
}

/// Finds out on a channel of its own whether the exchange takes messages.
///
/// A publish inside a transaction that is rolled back is checked for existence and permission like any other, and
/// reaches nobody; `keys` are the routing keys to try, for brokers that grant permission by them.
///
/// # Errors
/// [`Trouble`]: `Misconfigured` with the broker's words, or `Channel` when it refused without our hearing them.
pub(super) async fn check(
    connection: &Connection,
    exchange: &Exchange,
    mode: Mode,
    keys: &[ShortString],
) -> Result<(), Trouble> {
    let name =
        short("the exchange's name", &exchange.name).map_err(|failure| Trouble::Misconfigured(failure.detail))?;
    short("the exchange's type", &exchange.kind).map_err(|failure| Trouble::Misconfigured(failure.detail))?;
    let check = async {
        let channel = connection.create_channel().await?;
        let passive = !(exchange.declare && mode == Mode::Declare);
        let options = ExchangeDeclareOptions { passive, durable: exchange.durable, ..Default::default() };
        channel.exchange_declare(name.clone(), kind(exchange), options, FieldTable::default()).await?;
        if !keys.is_empty() {
            channel.tx_select().await?;
            for key in keys {
                let (options, nothing) = (BasicPublishOptions::default(), BasicProperties::default());
                // Answered by nothing but the end of the channel, if it is refused.
                drop(channel.basic_publish(name.clone(), key.clone(), options, b"", nothing).await?);
            }
            channel.tx_rollback().await?;
        }
        channel.close(200, ShortString::default()).await
    };
    check.await.map_err(|error| Trouble::of_declaration(&error))
}

fn kind(exchange: &Exchange) -> ExchangeKind {
    match exchange.kind.as_str() {
        "topic" => ExchangeKind::Topic,
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        other => ExchangeKind::Custom(other.to_owned()),
    }
}
