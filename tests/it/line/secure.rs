//! TLS on every side: pushes come over https and leave over amqps and SASL_SSL, and every certificate is renewed
//! while the program runs.

use super::{EVERYTHING, Line};
use crate::{
    cli::{command, edit, run, said},
    crash::push::{Push, SOURCES},
    program::{Home, PATIENCE, get, wait_for},
    proxy::Mode,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName},
};
use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate of its own authority.
struct Certified {
    der: CertificateDer<'static>,
    cert: String,
    key: String,
}

fn certify() -> Certified {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = certified.signing_key.serialize_pem();
    Certified { der: certified.cert.der().clone(), cert: certified.cert.pem(), key }
}

/// Replaces a file of the home, as cert-manager and Kubernetes do it: never half of it.
fn put(home: &Home, name: &str, text: &str) {
    fs::write(home.path("new"), text).unwrap();
    fs::rename(home.path("new"), home.path(name)).unwrap();
}

/// A connection to a port, whose other side shows what this certificate signed.
fn connect(port: u16, trusted: &CertificateDer<'static>) -> io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(client, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Sends a request and reads its answer's status; the connection stays.
fn ask(stream: &mut Stream, request: &[u8]) -> u16 {
    stream.write_all(request).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).map_or("0", str::trim);
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Both brokers get these next, in this order, and nothing else.
fn both_get(line: &mut Line, home: &Home, pushes: impl Iterator<Item = Push>) {
    let expected: Vec<_> = pushes.map(Push::body).collect();
    let (mut messages, mut records) = (Vec::new(), Vec::new());
    let until = std::time::Instant::now() + PATIENCE;
    while messages.len() < expected.len() || records.len() < expected.len() {
        messages.extend(line.queue.look().into_iter().map(|message| message.value));
        records.extend(line.topic.look().into_iter().map(|record| record.value));
        let seen = (messages.len(), records.len());
        assert!(std::time::Instant::now() < until, "{seen:?} of {}: {}", expected.len(), home.log());
    }
    assert!(messages == expected && records == expected, "others than were pushed");
}

fn routes(line: &Line) -> String {
    let (url, name) = (line.rabbitmq.var("AMQPS_URL"), &line.name);
    let of_node = |name: &str| line.node.get(name).to_owned();
    let (brokers, user, password) =
        (of_node("KAFKA_SASL_BROKERS"), of_node("KAFKA_SASL_USERNAME"), of_node("KAFKA_SASL_PASSWORD"));
    format!(
        "{SOURCES}destinations:
  crm:
    type: rabbitmq
    url: {url}
    exchange: {{ name: {name}, type: topic, durable: true, declare: true }}
    ca_file: rabbitmq-ca.pem
  lake:
    type: kafka
    brokers: '{brokers}'
    topic: {name}
    security: {{ protocol: SASL_SSL, mechanism: SCRAM-SHA-256, username: {user}, password: {password},
                 ca_file: kafka-ca.pem }}
  archive: {{ type: file, path: ./archive }}
retry: {{ backoff: 100ms..1s }}
{EVERYTHING}"
    )
}

#[test]
fn tls_on_every_side_and_renewed_certificates_of_the_listeners_and_of_both_brokers_count_by_themselves() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = Home::new("{ path: ./data }", &routes(&line));
    let tls = "  shutdown_delay: 0s\n  tls: { cert_file: own.pem, key_file: own.key }\n";
    edit(&home, "  shutdown_delay: 0s\n", tls);
    let (first, second) = (certify(), certify());
    put(&home, "own.pem", &first.cert);
    put(&home, "own.key", &first.key);
    // Nobody whom we know signed the brokers' certificates.
    put(&home, "rabbitmq-ca.pem", &second.cert);
    put(&home, "kafka-ca.pem", &second.cert);
    let program = home.spawn();
    wait_for("a healthy program", PATIENCE, || run(&home, &["healthcheck"]).status.success().then_some(()));

    let push = |number| Push { key: 0, number };
    let mut open_before = connect(home.hooks, &first.der).unwrap();
    assert_eq!(ask(&mut open_before, &push(0).request()), 200);
    assert_eq!(get(home.hooks, "/hooks/laigu"), None, "plain http is answered");
    for name in ["crm", "lake"] {
        wait_for(name, PATIENCE, || {
            let list: serde_json::Value =
                serde_json::from_str(&said(&home, &["--json", "destinations", "list"])).unwrap();
            let state = list["items"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
            state.to_string().contains("certificate").then_some(())
        });
    }
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "sent to whom we do not know");
    put(&home, "rabbitmq-ca.pem", &fs::read_to_string(line.rabbitmq.var("AMQP_CA_FILE")).unwrap());
    put(&home, "kafka-ca.pem", &fs::read_to_string(line.node.get("KAFKA_CA_FILE")).unwrap());
    both_get(&mut line, &home, (0..1).map(push));

    // For a moment the key is not the certificate's.
    put(&home, "own.pem", &second.cert);
    wait_for("a word about it", PATIENCE, || home.log().contains("`key_file` is no key for `cert_file`").then_some(()));
    assert_eq!(ask(&mut connect(home.hooks, &first.der).unwrap(), &push(1).request()), 200);
    put(&home, "own.key", &second.key);
    let mut renewed = wait_for("the new certificate", PATIENCE, || connect(home.hooks, &second.der).ok());
    assert!(connect(home.hooks, &first.der).is_err(), "the old certificate is still shown");
    assert_eq!(ask(&mut renewed, &push(2).request()), 200);
    assert_eq!(ask(&mut open_before, &push(3).request()), 200);
    both_get(&mut line, &home, (1..4).map(push));

    // The admin listener shows the same one: known by the file, by an authority, or not at all.
    assert!(connect(home.admin, &second.der).is_ok() && connect(home.admin, &first.der).is_err());
    said(&home, &["healthcheck"]);
    let there = format!("https://localhost:{}", home.admin);
    let own = home.path("own.pem");
    said(&home, &["--admin", &there, "--ca-file", own.to_str().unwrap(), "destinations", "list"]);
    put(&home, "first.pem", &first.cert);
    let first = home.path("first.pem");
    for trusted in [&[][..], &["--ca-file", first.to_str().unwrap()]] {
        let arguments = [&["--admin", &there], trusted, &["destinations", "list"]].concat();
        let output = command(&home, &arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{error}");
        assert!(error.contains("not trusted") && error.contains("--ca-file"), "{error}");
    }
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was pushed");
    line.end();
}
