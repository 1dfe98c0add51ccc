//! `destinations:`: by type, with what each broker would refuse refused here.

use super::{
    api::is_loopback,
    kafka,
    keys::{self, Keys},
    pem,
    reader::{Field, Reader, Section},
    secrets,
    settings::{Destination, DestinationKind, Exchange, FileFolder, RabbitMq},
};
use crate::domain::{DestinationName, Secret};
use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};
use url::Url;

/// More in flight than any broker makes use of; the progress bitmap ends there too.
const WINDOW_MAX: u64 = 65_536;
/// AMQP 0-9-1: a short string.
const EXCHANGE_NAME_BYTES_MAX: usize = 255;

/// What became of `destinations:`.
pub(super) struct Destinations {
    /// The good ones.
    pub(super) good: BTreeMap<DestinationName, Destination>,
    /// Every name, with its type where it is known: routes are checked against these.
    pub(super) names: BTreeMap<String, Option<Kind>>,
}

/// A destination's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    RabbitMq,
    Kafka,
    File,
}

const KINDS: [(&str, Kind); 3] = [("rabbitmq", Kind::RabbitMq), ("kafka", Kind::Kafka), ("file", Kind::File)];

/// Keys that only one type has: without a `type`, the other mistakes can still be told.
const TELLTALES: [(&str, Kind); 5] = [
    ("brokers", Kind::Kafka),
    ("topic", Kind::Kafka),
    ("exchange", Kind::RabbitMq),
    ("url", Kind::RabbitMq),
    ("path", Kind::File),
];

impl Kind {
    const fn keys(self) -> Keys {
        match self {
            Self::RabbitMq => keys::RABBITMQ,
            Self::Kafka => keys::KAFKA,
            Self::File => keys::FILE_FOLDER,
        }
    }

    const fn window(self) -> usize {
        match self {
            Self::RabbitMq | Self::File => 1_024,
            Self::Kafka => 8_192,
        }
    }
}

/// Reads `destinations:`; `store` is the store's folder.
pub(super) fn read(reader: &mut Reader<'_>, file: &Section<'_>, store: &Path) -> Destinations {
    let mut destinations = Destinations { good: BTreeMap::new(), names: BTreeMap::new() };
    let fields = file.get("destinations").map_or_else(Vec::new, |field| reader.named(field));
    for field in fields {
        let name = reader.name(field, DestinationName::parse);
        let kind = super::kind_of(reader, field, &KINDS, &TELLTALES);
        destinations.names.insert(field.key.to_owned(), kind);
        let Some(destination) = kind.and_then(|kind| destination(reader, field, kind, store)) else { continue };
        let file = matches!(destination.kind, DestinationKind::File(_));
        if file && destinations.good.values().any(|other| other.kind == destination.kind) {
            let label = "two writers would tear each other's lines";
            reader.error("another destination writes to the same `path`", field.key_span, label);
        }
        if let Some(name) = name {
            destinations.good.insert(name, destination);
        }
    }
    destinations
}

fn destination(reader: &mut Reader<'_>, field: Field<'_>, kind: Kind, store: &Path) -> Option<Destination> {
    let section = reader.section(field, kind.keys())?;
    let window = reader.whole(section.get("window"), 1..=WINDOW_MAX);
    let window = window.and_then(|window| usize::try_from(window).ok()).unwrap_or(kind.window());
    let rate = reader.rate(section.get("rate"));
    let kind = match kind {
        Kind::RabbitMq => DestinationKind::RabbitMq(rabbitmq(reader, &section)?),
        Kind::Kafka => DestinationKind::Kafka(kafka::read(reader, &section)?),
        Kind::File => DestinationKind::File(file_folder(reader, &section, store)?),
    };
    Some(Destination { kind, window, rate })
}

fn file_folder(reader: &mut Reader<'_>, section: &Section<'_>, store: &Path) -> Option<FileFolder> {
    let field = reader.required(section, "path", "the folder of its files")?;
    let path = plain(&reader.path(Some(field))?);
    if path.starts_with(plain(store)) {
        let label = "`storage.max_size` counts them, and nothing removes them";
        reader.warn("the files of this destination lie in the store's folder", &field.node.span, label);
    }
    Some(FileFolder { path })
}

/// A path without `.` in it, so that two ways to write it are the same; `.` itself stays.
fn plain(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    if parts.as_os_str().is_empty() { PathBuf::from(".") } else { parts }
}

fn rabbitmq(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<RabbitMq> {
    let ca_file = pem::certificates(reader, section.get("ca_file"));
    let client_cert = pem::client_cert(reader, section, pem::User::Us);
    let exchange = reader.required(section, "exchange", "`exchange: { name: … }`");
    let exchange = exchange.and_then(|field| exchange_of(reader, field));
    let mandatory = reader.flag(section.get("mandatory")).unwrap_or(true);
    let mut urls = Vec::new();
    if let Ok(given) = secrets::all(reader, section, "url", "url_file") {
        if given.is_empty() {
            let place = section.get("url").map_or(section.place, |field| field.key_span);
            reader.error("`url` is missing in `destinations.* (rabbitmq)`", place, "such as `amqp://host:5672/%2f`");
        }
        let tls_given = section.get("ca_file").or(section.get("cert_file")).or(section.get("key_file"));
        for url in given {
            match amqp_url(url.secret.expose()) {
                Err(label) => reader.error("this is not an AMQP URL", &url.span, label),
                Ok(parsed) => {
                    if parsed.scheme() == "amqp" && tls_given.is_some() {
                        reader.error(
                            "certificates are given, but the URL is not TLS",
                            &url.span,
                            "expected `amqps://`",
                        );
                    } else if parsed.scheme() == "amqp" && !is_loopback(&parsed) {
                        let label = "passwords and events can be read on the way; `amqps://` hides them";
                        reader.warn("plain AMQP leaves this machine", &url.span, label);
                    }
                    urls.push(Secret::new(url.secret.expose().to_owned()));
                }
            }
        }
    }
    Some(RabbitMq { urls, exchange: exchange?, mandatory, ca_file, client_cert })
}

fn amqp_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "expected `amqp://user:password@host:5672/vhost`")?;
    if !matches!(url.scheme(), "amqp" | "amqps") {
        return Err("expected `amqp://` or `amqps://`");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host");
    }
    if url.path().bytes().filter(|byte| *byte == b'/').count() > 1 {
        return Err("a `/` inside the vhost is written `%2f`");
    }
    if url.fragment().is_some() {
        return Err("a `#` inside the password is written `%23`");
    }
    Ok(url)
}

fn exchange_of(reader: &mut Reader<'_>, field: Field<'_>) -> Option<Exchange> {
    let section = reader.section(field, keys::EXCHANGE)?;
    let name = reader.required(&section, "name", "the default exchange cannot be used");
    let name = reader.text(name);
    if let Some(name) = &name {
        let wrong = match name.value.as_str() {
            "" => Some("the default exchange would route by queue name; name one"),
            text if text.len() > EXCHANGE_NAME_BYTES_MAX => Some("at most 255 bytes"),
            text if text.starts_with("amq.") => Some("`amq.` belongs to the broker"),
            text if text.chars().any(char::is_control) => Some("control characters have no place in it"),
            _ => None,
        };
        if let Some(label) = wrong {
            reader.error("this is not an exchange's name", &name.span, label);
        }
    }
    let kinds = [("topic", "topic"), ("direct", "direct"), ("fanout", "fanout"), ("headers", "headers")];
    Some(Exchange {
        kind: reader.word(section.get("type"), &kinds).unwrap_or("topic").to_owned(),
        durable: reader.flag(section.get("durable")).unwrap_or(true),
        declare: reader.flag(section.get("declare")).unwrap_or(false),
        name: name?.value,
    })
}
