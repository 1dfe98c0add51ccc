//! TLS on the listener, and services that are not hooks behind the same server.

use super::support::{PATIENCE, SECRET, laigu_sign, open_secure, push_body, read_reply, request, settings};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::{Response, body::Frame, service::service_fn};
use laigu_router::{
    config::settings::{PemFile, Tls},
    ingress::{
        listen,
        serve::{Control, Peer, Server, Service, tower},
        tls::Certificates,
    },
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use std::{convert::Infallible, fs, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Writes a new certificate of its own authority, and gives it.
fn certify(files: &Tls) -> CertificateDer<'static> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&files.cert_file.path, certified.cert.pem()).unwrap();
    fs::write(&files.key_file.path, certified.signing_key.serialize_pem()).unwrap();
    certified.cert.der().clone()
}

fn files(folder: &Path) -> Tls {
    Tls { cert_file: PemFile::new(folder.join("cert.pem"), b""), key_file: PemFile::new(folder.join("key.pem"), b"") }
}

async fn connect(
    address: std::net::SocketAddr,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn push(stream: &mut TlsStream<TcpStream>, number: usize) -> String {
    let body = push_body(number);
    let signed = laigu_sign(&body, SECRET);
    let headers = [("Laigu-Sign", signed.as_str()), ("Connection", "close")];
    stream.write_all(&request("POST", "/hooks/laigu", &headers, &body)).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn pushes_come_over_tls_and_new_certificates_hold_from_the_next_connection_on() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let first = certify(&files);
    let certificates = Certificates::load(&files).unwrap();
    let door = open_secure(&settings(), certificates.clone());
    let mut open_before = connect(door.address, &first).await.unwrap();
    let second = certify(&files);
    certificates.renew(Certificates::read(&files).unwrap());
    assert!(push(&mut open_before, 1).await.starts_with("HTTP/1.1 200"));
    assert!(connect(door.address, &first).await.is_err(), "the old certificate is still shown");
    assert!(push(&mut connect(door.address, &second).await.unwrap(), 2).await.starts_with("HTTP/1.1 200"));
    // Half a file changes nothing.
    fs::write(&files.cert_file.path, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert!(Certificates::read(&files).is_err());
    assert!(push(&mut connect(door.address, &second).await.unwrap(), 3).await.starts_with("HTTP/1.1 200"));
    assert_eq!(door.stored(), 3);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_and_plain_http_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let mut settings = settings();
    settings.server.limits.header_timeout = Duration::from_millis(300);
    let door = open_secure(&settings, Certificates::load(&files).unwrap());
    let mut silent = TcpStream::connect(door.address).await.unwrap();
    assert_eq!(read_reply(&mut silent).await, None);
    let mut plain = TcpStream::connect(door.address).await.unwrap();
    plain.write_all(&request("GET", "/hooks/laigu", &[], b"")).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    assert!(push(&mut connect(door.address, &certificate).await.unwrap(), 1).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_missing_certificate_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let error = Certificates::load(&files(folder.path())).unwrap_err();
    assert!(error.to_string().contains("cert.pem"), "{error}");
}

#[tokio::test]
async fn a_router_is_served_and_knows_its_peer() {
    let greet = async |axum::Extension(peer): axum::Extension<Peer>| peer.0.ip().to_string();
    let router = axum::Router::new().route("/who", axum::routing::get(greet));
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let control = Control::new(settings().server.limits);
    let task = tokio::spawn(Server::new(listener, control.clone(), None, tower(router)).run());
    let mut stream = TcpStream::connect(address).await.unwrap();
    for (path, status, body) in [("/who", 200, "127.0.0.1"), ("/none", 404, "")] {
        stream.write_all(&request("GET", path, &[], b"")).await.unwrap();
        let reply = read_reply(&mut stream).await.unwrap();
        assert_eq!((reply.status, reply.body.as_str()), (status, body));
    }
    control.stop();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn any_service_can_stream_for_longer_than_a_quiet_connection_may_live() {
    let mut limits = settings().server.limits;
    limits.idle_timeout = Duration::from_millis(400);
    limits.header_timeout = Duration::from_millis(300);
    let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string());
        let ticks = futures_util::stream::iter(0..8).then(move |number| {
            let peer = peer.clone();
            async move {
                sleep(Duration::from_millis(200)).await;
                Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{number} {peer:?}\n"))))
            }
        });
        Ok::<_, Infallible>(Response::new(BodyExt::boxed_unsync(StreamBody::new(ticks))))
    });
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let control = Control::new(limits);
    let task = tokio::spawn(Server::new(listener, control.clone(), None, Service(service)).run());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("7 Some(\"127.0.0.1\")"), "{answer}");
    control.stop();
    timeout(PATIENCE, task).await.unwrap().unwrap();
}
