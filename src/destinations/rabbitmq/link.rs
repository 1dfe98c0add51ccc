//! One connection to one broker: how it is opened, and how it is given up.
//!
//! The library's own recovery stays off (it can leave confirms hanging for ever); a connection that fails is given
//! up as a whole. Each connection has a thread of the library's own, which ends with the socket alone: so we keep a
//! second handle to the socket, to shut it down whatever the other side does.

use crate::{
    config::settings::{RabbitMq, Tls},
    destinations::rabbitmq::{CONNECT_WITHIN, HEARTBEAT_SECONDS, trouble::Trouble},
    domain::{Chain, DestinationName, Secret},
};
use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties,
    tcp::{RustlsConnector, RustlsConnectorConfig},
    types::LongString,
    uri::{AMQPScheme, AMQPUri},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time;

/// An open connection. Dropping it shuts the socket down.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Arc<Connection>,
    socket: Socket,
}

impl Link {
    /// Connects to one broker, at the latest within [`CONNECT_WITHIN`].
    ///
    /// # Errors
    /// [`Trouble`]: `Misconfigured` when the broker is there and does not let us in.
    pub(super) async fn open(url: &Secret, settings: &RabbitMq, name: &DestinationName) -> Result<Self, Trouble> {
        let uri = parse(url)?;
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(tls(settings).await?),
        };
        let socket = Socket::default();
        let kept = socket.clone();
        let properties =
            ConnectionProperties::default().with_connection_name(LongString::from(format!("laigu-router {name}")));
        let runtime = lapin::runtime::default_runtime().map_err(|error| Trouble::of(&error))?;
        let connect = Connection::connector(
            uri,
            runtime,
            async move |uri: AMQPUri, runtime| {
                let connect = async {
                    let host = (uri.authority.host.as_str(), uri.authority.port);
                    let addresses: Vec<_> = tokio::net::lookup_host(host).await?.collect();
                    let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        kept.keep(plain.get_ref().as_fd().try_clone_to_owned()?.into());
                    }
                    match &tls {
                        None => Ok(stream),
                        Some(connector) => stream.into_rustls(connector, &uri.authority.host).await,
                    }
                };
                Ok(time::timeout(CONNECT_WITHIN, connect).await.map_err(io::Error::from).flatten()?)
            },
            properties,
        );
        match time::timeout(CONNECT_WITHIN, connect).await {
            Ok(Ok(connection)) => Ok(Self { connection: Arc::new(connection), socket }),
            Ok(Err(error)) => {
                socket.shut();
                Err(Trouble::of(&error))
            }
            Err(_) => {
                socket.shut();
                let words = format!("no connection within {} s", CONNECT_WITHIN.as_secs());
                Err(Trouble::Connection(words.into()))
            }
        }
    }

    /// Shuts the socket down: everything that waits for the broker hears an error.
    pub(super) fn shut(&self) {
        self.socket.shut();
    }

    /// Says goodbye to a broker that may or may not listen.
    pub(super) async fn close(self) {
        let goodbye = lapin::types::ShortString::try_new("closing").unwrap_or_default();
        let _ = time::timeout(Duration::from_secs(1), self.connection.close(200, goodbye)).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.socket.shut();
    }
}

/// A second handle to the connection's socket; shared with the thread that opens it.
#[derive(Debug, Clone, Default)]
struct Socket(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    stream: Option<TcpStream>,
    shut: bool,
}

impl Socket {
    fn keep(&self, stream: TcpStream) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.shut {
            // We had given up before it was there.
            let _ = stream.shutdown(Shutdown::Both);
        }
        kept.stream = Some(stream);
    }

    fn shut(&self) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.shut = true;
        if let Some(stream) = kept.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads a URL. What is wrong with it is said without it: there is a password inside.
fn parse(url: &Secret) -> Result<AMQPUri, Trouble> {
    let wrong = || Trouble::Misconfigured("the url is not amqp://user:password@host:port/vhost".into());
    let mut uri: AMQPUri = url.expose().parse().map_err(|_| wrong())?;
    let parsed = url::Url::parse(url.expose()).map_err(|_| wrong())?;
    match parsed.host() {
        // The library knows names alone, and takes its default for an address in brackets.
        Some(url::Host::Ipv6(address)) => uri.authority.host = address.to_string(),
        Some(_) => {}
        None => return Err(wrong()),
    }
    uri.query.heartbeat = Some(HEARTBEAT_SECONDS);
    Ok(uri)
}

/// Reads the files anew for each connection, so that a renewed certificate counts. With a CA of its own a
/// destination trusts that one alone, otherwise those of the system.
async fn tls(settings: &RabbitMq) -> Result<RustlsConnector, Trouble> {
    let mut config = match &settings.ca_file {
        None => RustlsConnectorConfig::new_with_native_certs()
            .map_err(|error| misconfigured("cannot read the system's certificates", &error))?,
        Some(_) => RustlsConnectorConfig::default(),
    };
    if let Some(file) = &settings.ca_file {
        config.add_parsable_certificates(certificates(&file.path).await?);
    }
    let connector = match &settings.client_cert {
        None => config.connector_with_no_client_auth(),
        Some(Tls { cert_file, key_file }) => {
            let chain = certificates(&cert_file.path).await?;
            let key = PrivateKeyDer::from_pem_slice(&read(&key_file.path).await?)
                .map_err(|error| misconfigured(&format!("no private key in `{}`", key_file.path.display()), &error))?;
            config.connector_with_single_cert(chain, key)
        }
    };
    connector.map_err(|error| misconfigured("cannot use the certificates", &error))
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let pem = read(path).await?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(Trouble::Misconfigured(format!("no certificate in `{}`", path.display()).into()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(misconfigured(&format!("cannot read certificates from `{}`", path.display()), &error)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Trouble> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| misconfigured(&format!("cannot read `{}`", path.display()), &error))
}

fn misconfigured(what: &str, error: &(dyn std::error::Error + 'static)) -> Trouble {
    Trouble::Misconfigured(format!("{what}: {}", Chain(error)).into())
}

#[cfg(test)]
mod tests {
    use super::{Trouble, parse};
    use crate::domain::Secret;

    fn host(url: &str) -> Option<(String, u16)> {
        let uri = parse(&Secret::new(url.to_owned())).ok()?;
        assert_eq!(uri.query.heartbeat, Some(super::HEARTBEAT_SECONDS));
        Some((uri.authority.host, uri.authority.port))
    }

    #[test]
    fn urls_name_a_host_and_errors_do_not_repeat_them() {
        assert_eq!(host("amqp://a:b@broker:5673/v"), Some(("broker".into(), 5673)));
        assert_eq!(host("amqp://127.0.0.1"), Some(("127.0.0.1".into(), 5672)));
        assert_eq!(host("amqps://a:b@[::1]"), Some(("::1".into(), 5671)));
        assert_eq!(host("amqp://a:b@h/?heartbeat=600").map(|_| ()), Some(()));
        for bad in ["", "amqp:secret", "http://u:secret@h", "amqp://u:secret@h:99999", "amqp://", "secret"] {
            let Err(Trouble::Misconfigured(words)) = parse(&Secret::new(bad.to_owned())) else { panic!("{bad}") };
            assert!(!words.contains("secret"), "{words}");
        }
    }
}
