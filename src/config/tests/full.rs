//! A file that says everything: each key arrives where it belongs, and each is really read.

use super::{certified, read};
use crate::config::{
    Loaded, keys,
    reader::{Outside, Reader},
    settings::{
        AdminToken, Api, Credentials, DestinationKind, Exchange, FieldPath, Fields, KafkaSecurity, Limits, Located,
        OnDead, PemFile, Probe, Rate, Reconcile, Reports, Retry, Role, Route, RouteTarget, SignatureEncoding,
        SignatureScheme, SourceKind, Tenant, Tls, Unrouted,
    },
    yaml::{self, Node, Value},
};
use crate::{
    domain::{DestinationName, RouteName, Secret},
    journal::Retention,
};
use std::{path::PathBuf, sync::LazyLock, time::Duration};

const FULL: &str = include_str!("full.yaml");

const ENV: [(&str, &str); 4] = [
    ("OPS_TOKEN", "a-token-of-operators"),
    ("OLD_SECRET", "fedcba9876543210fedcba9876543210"),
    ("PATH_SECRET", "a-path-secret-of-some-length"),
    ("KAFKA_PASSWORD", "kafka's"),
];

/// A certificate with its key, and one more.
static PEM: LazyLock<[String; 3]> = LazyLock::new(|| {
    let ([cert, key], [ca, _]) = (certified(), certified());
    [cert, key, ca]
});

fn files() -> [(&'static str, &'static str); 10] {
    let [cert, key, ca] = &*PEM;
    [
        ("/etc/lr/secrets/root", "the-token-of-the-root\r\n"),
        ("/etc/lr/secrets/path", "path-secret-in-a-file"),
        ("/etc/lr/secrets/access", "access\n"),
        ("/etc/lr/secrets/app", "app"),
        ("/etc/lr/secrets/sign", "sign\n\n"),
        ("/etc/lr/secrets/amqp", "amqps://u:p@c\n"),
        ("/run/secrets/other", "0123456789abcdef0123456789abcdef\n"),
        ("/etc/lr/tls.crt", cert),
        ("/etc/lr/tls.key", key),
        ("/etc/lr/ca.pem", ca),
    ]
}

fn full() -> Loaded {
    read(FULL, &ENV, &files()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn tls() -> Tls {
    Tls { cert_file: pem("/etc/lr/tls.crt"), key_file: pem("/etc/lr/tls.key") }
}

fn pem(path: &str) -> PemFile {
    let (_, content) = files().into_iter().find(|(at, _)| *at == path).unwrap();
    PemFile::new(path, content.as_bytes())
}

#[test]
fn the_server_is_what_the_file_says() {
    let server = full().settings.server;
    assert_eq!(
        (server.listen.to_string(), server.admin.to_string()),
        ("127.0.0.1:18080".into(), "0.0.0.0:19090".into())
    );
    let token = |name: &str, role, text| AdminToken { name: name.to_owned(), role, token: secret(text) };
    assert_eq!(
        server.admin_tokens,
        [token("ops", Role::Operator, "a-token-of-operators"), token("root", Role::Admin, "the-token-of-the-root")]
    );
    let proxies: Vec<String> = server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.7/32"]);
    assert_eq!((server.shutdown_delay, server.tls), (Duration::ZERO, Some(tls())));
    let limits = Limits {
        body: 2 << 20,
        headers: 16 << 10,
        header_count: 50,
        connections: 500,
        header_timeout: seconds(1),
        body_timeout: seconds(2),
        idle_timeout: seconds(3),
    };
    assert_eq!(server.limits, limits);
}

#[test]
fn the_store_and_retries_are_what_the_file_says() {
    let settings = full().settings;
    assert_eq!(settings.storage.path, PathBuf::from("/var/lib/lr"));
    let day = 86_400;
    let retention =
        Retention { delivered: seconds(day), dead_letters: seconds(2 * day), ids: seconds(3 * day), size_max: 1 << 30 };
    assert_eq!(settings.storage.retention, retention);
    assert_eq!((settings.storage.backlog_alarm_percent, settings.unrouted), (25, Unrouted::Discard));
    let retry = Retry {
        max_age: seconds(3 * day),
        backoff_min: Duration::from_millis(500),
        backoff_max: seconds(10),
        unroutable: seconds(300),
    };
    assert_eq!(settings.retry, retry);
}

#[test]
fn sources_are_what_the_file_says() {
    let sources = full().settings.sources;
    let laigu = &sources["laigu"];
    assert_eq!((laigu.kind, laigu.probe), (SourceKind::Laigu, Probe::Accept));
    assert_eq!(laigu.ack.as_deref(), Some("{\"status\":\"success\"}"));
    assert_eq!(laigu.signature.headers, ["meiqia-signature", "laigu-signature", "laigu-sign", "meiqia-sign"]);
    let acme = Tenant {
        enterprise_token: Some("b6bd".into()),
        enterprise_id: Some(104),
        tenant_id: None,
        secrets: vec![secret("fedcba9876543210fedcba9876543210"), secret("0123456789abcdef0123456789abcdef")],
        path_secret: Some(secret("path-secret-in-a-file")),
        allow_from: vec!["2001:db8::/32".parse().unwrap()],
        api: Some(Api {
            base_url: "https://api.laigu.com".parse().unwrap(),
            path_prefix: None,
            credentials: Credentials::Bearer(secret("access")),
            rate: Rate { count: 100, per: seconds(60) },
        }),
        reconcile: Some(Reconcile {
            clients: Some(seconds(300)),
            conversations: Some(seconds(600)),
            lag: seconds(60),
            overlap: seconds(5),
            lookback: seconds(2 * 86_400),
        }),
        poll_sessions: None,
        reports: Some(Reports { agent_online: Some(seconds(3_600)), agent_service: Some(seconds(86_400)) }),
    };
    assert_eq!(laigu.tenants["acme"], acme);
    let other = &laigu.tenants["other"];
    assert_eq!(other.secrets, [secret("0123456789abcdef0123456789abcdef")]);
    let api = other.api.as_ref().unwrap();
    assert_eq!(api.credentials, Credentials::AppSign { app_id: secret("app"), sign: secret("sig") });
    assert_eq!(api.rate, Rate { count: 2, per: seconds(1) });
    let third = laigu.tenants["third"].api.as_ref().unwrap();
    assert_eq!(third.credentials, Credentials::Bearer(secret("tok")));
    let reconcile = other.reconcile.unwrap();
    assert_eq!((reconcile.conversations, reconcile.lag, reconcile.overlap), (None, seconds(120), seconds(3)));
    assert_eq!(reconcile.lookback, seconds(86_400));
    let meiqia = &sources["meiqia"].signature;
    assert_eq!((meiqia.scheme, meiqia.headers.clone()), (SignatureScheme::Sha1Suffix, vec!["x-sig".to_owned()]));
    assert_eq!((meiqia.encoding, meiqia.prefix.as_str()), (SignatureEncoding::Hex, "sha1="));
    let automation = &sources["automation"];
    assert_eq!(automation.signature.scheme, SignatureScheme::None);
    assert_eq!(automation.tenants["acme"].path_secret, Some(secret("a-path-secret-of-some-length")));
}

#[test]
fn kefu_and_webhooks_are_what_the_file_says() {
    let sources = full().settings.sources;
    let kefu = &sources["kefu"].tenants["acme"];
    let api = kefu.api.as_ref().unwrap();
    assert_eq!((kefu.tenant_id.as_deref(), kefu.poll_sessions), (Some("1"), Some(seconds(300))));
    assert_eq!(api.base_url.as_str(), "https://kefu.easemob.com/");
    assert_eq!(api.path_prefix.as_deref(), Some("/api/tenants/{tenant_id}"));
    assert_eq!(api.credentials, Credentials::Client { client_id: secret("id"), secret_id: secret("sid") });
    let other = sources["kefu"].tenants["other"].api.clone().unwrap();
    assert_eq!(other.path_prefix.as_deref(), Some("/api/platform/tenants/{tenant_id}"));
    // One line break is cut, not two.
    assert_eq!(other.credentials, Credentials::Client { client_id: secret("app"), secret_id: secret("sign\n") });
    let shop = &sources["shop"];
    assert_eq!(
        (shop.signature.scheme, shop.signature.encoding),
        (SignatureScheme::HmacSha256, SignatureEncoding::Base64)
    );
    let pointer = |text: &str| Some(FieldPath::Pointer(text.to_owned()));
    let fields = Fields {
        id: Some(FieldPath::Header("x-event-id".into())),
        kind: pointer("/type"),
        key: pointer("/customer/id"),
        time: pointer("/created_at"),
        payload: pointer("/data"),
    };
    assert_eq!(shop.fields, Some(fields));
}

#[test]
fn destinations_are_what_the_file_says() {
    let destinations = full().settings.destinations;
    let crm = &destinations["crm"];
    assert_eq!((crm.window, crm.rate), (64, Some(Rate { count: 500, per: seconds(1) })));
    let DestinationKind::RabbitMq(rabbit) = &crm.kind else { panic!("rabbitmq") };
    assert_eq!(rabbit.urls, [secret("amqps://u:p@a/v"), secret("amqps://u:p@b/v")]);
    let exchange = Exchange { name: "crm.events".into(), kind: "direct".into(), durable: false, declare: true };
    assert_eq!((&rabbit.exchange, rabbit.mandatory), (&exchange, false));
    assert_eq!((rabbit.ca_file.clone(), rabbit.client_cert.clone()), (Some(pem("/etc/lr/ca.pem")), Some(tls())));
    let DestinationKind::RabbitMq(spare) = &destinations["spare"].kind else { panic!("rabbitmq") };
    assert_eq!(spare.urls, [secret("amqps://u:p@c")]);
    let exchange = Exchange { name: "spare".into(), kind: "topic".into(), durable: true, declare: false };
    assert_eq!((&spare.exchange, spare.mandatory, destinations["spare"].window), (&exchange, true, 1_024));
    let DestinationKind::Kafka(kafka) = &destinations["lake"].kind else { panic!("kafka") };
    assert_eq!(kafka.brokers, ["kafka-1:9092", "kafka-2:9093", "[::1]:9092"]);
    assert_eq!(
        kafka.properties.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
        ["compression.type=lz4", "linger.ms=5"]
    );
    let security = KafkaSecurity {
        protocol: "SASL_SSL".into(),
        mechanism: Some("SCRAM-SHA-256".into()),
        username: Some("lr".into()),
        password: Some(secret("kafka's")),
        ca_file: Some(pem("/etc/lr/ca.pem")),
        client_cert: Some(tls()),
    };
    assert_eq!(kafka.security, Some(security));
    let DestinationKind::Kafka(pond) = &destinations["pond"].kind else { panic!("kafka") };
    assert_eq!((pond.brokers.join(" "), destinations["pond"].window), ("a:1 b:2".to_owned(), 8_192));
    let DestinationKind::File(folder) = &destinations["archive"].kind else { panic!("file") };
    assert_eq!((folder.path.clone(), destinations["archive"].window), (PathBuf::from("/etc/lr/out"), 10));
}

#[test]
fn routes_are_what_the_file_says() {
    let loaded = full();
    let located = |written: &str, text: &str| {
        Some(Located { text: text.into(), byte_offset: FULL.find(written).unwrap(), byte_len: written.len() })
    };
    let target = |name: &str, address| RouteTarget { destination: DestinationName::parse(name).unwrap(), address };
    let leads = Route {
        name: RouteName::parse("leads").unwrap(),
        when: located("event.type == \"cus.upsert\"", "event.type == \"cus.upsert\""),
        enrich: vec!["client".into(), "session".into()],
        required: true,
        enrich_within: seconds(20),
        on_dead: OnDead::Park,
        stop: true,
        when_enriched: located("'enrichment.client.record.level == \"A\"'", "enrichment.client.record.level == \"A\""),
        to: vec![
            target("crm", located("\"customer.{{ body.source }}\"", "customer.{{ body.source }}")),
            target("lake", located("\"{{ event.key }}\"", "{{ event.key }}")),
            target("spare", None),
        ],
    };
    assert_eq!(loaded.settings.routes[0], leads);
    let everything = &loaded.settings.routes[1];
    assert_eq!((everything.enrich_within, everything.on_dead, everything.stop), (seconds(15), OnDead::Continue, false));
    assert_eq!(everything.to, [target("archive", None), target("pond", None)]);
}

#[test]
fn another_text_or_secret_is_another_configuration() {
    let hash = full().hash;
    assert_eq!(hash, full().hash);
    assert_ne!(hash, read(&format!("{FULL}# more\n"), &ENV, &files()).unwrap().hash);
    for (index, (path, text)) in files().iter().enumerate() {
        let mut files = files();
        let renewed = format!("{text}\n");
        files[index].1 = match path.rsplit(['.', '/']).next() {
            Some("amqp") => "amqps://u:q@c",
            Some("crt" | "key" | "pem") => &renewed,
            _ => "another-text-that-is-as-long",
        };
        assert_ne!(hash, read(FULL, &ENV, &files).unwrap().hash, "{path}");
    }
}

/// Every way from the root to the value of a key that a table knows.
fn paths(node: &Node, path: &[usize], found: &mut Vec<(String, Vec<usize>)>) {
    let step = |index| [path, &[index]].concat();
    match &node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                if keys::ALL.iter().any(|section| section.keys.contains(&entry.key.as_str())) {
                    found.push((entry.key.clone(), step(index)));
                }
                paths(&entry.value, &step(index), found);
            }
        }
        Value::List(items) => items.iter().enumerate().for_each(|(index, item)| paths(item, &step(index), found)),
        Value::Null | Value::Scalar(_) => {}
    }
}

fn at<'n>(node: &'n mut Node, path: &[usize]) -> &'n mut Node {
    path.iter().fold(node, |node, index| match &mut node.value {
        Value::Map(entries) => &mut entries[*index].value,
        Value::List(items) => &mut items[*index],
        Value::Null | Value::Scalar(_) => panic!("no way on"),
    })
}

#[test]
fn every_key_of_the_tables_is_in_the_file_and_is_really_read() {
    let root = yaml::read(FULL).unwrap().root;
    let mut found = Vec::new();
    paths(&root, &[], &mut found);
    for section in keys::ALL {
        for key in section.keys {
            assert!(found.iter().any(|(name, _)| name == key), "`{key}` of `{}` is not in full.yaml", section.section);
        }
    }
    for (key, path) in found {
        let mut root = root.clone();
        let node = at(&mut root, &path);
        let nothing = Node { span: node.span.clone(), value: Value::List(Vec::new()) };
        *node = Node { span: node.span.clone(), value: Value::List(vec![nothing]) };
        let env = |name: &str| ENV.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let file = |_: &std::path::Path| Ok(b"some-text-for-every-file".to_vec());
        let path = std::path::Path::new("/etc/lr/routes.yaml");
        let mut reader = Reader::new(FULL, path, Outside { env: &env, read: &file });
        super::super::read_file(&mut reader, &root, path);
        let told = reader.diagnostics.iter().any(|one| one.message == "a list has no place here");
        assert!(told, "`{key}` may be anything: it is never read");
    }
}
