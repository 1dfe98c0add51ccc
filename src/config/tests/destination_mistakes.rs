//! Mistakes below `destinations:` and `routes:`.

use super::mistakes::check;

fn check_destination(destination: &str, expected: &[&str]) {
    check("destinations", &format!("{{ out: {destination} }}"), expected);
}

#[test]
fn rabbitmq() {
    check_destination(
        "{ exchange: { name: x } }",
        &[
            "out | `out` has no `type` | one of `rabbitmq`, `kafka`, `file`",
            "out | `url` is missing in `destinations.* (rabbitmq)` | such as `amqp://host:5672/%2f`",
        ],
    );
    check_destination(
        "{ type: rabitmq, url: 'amqp://127.0.0.1', exchange: { name: amq.topic, type: x } }",
        &[
            "rabitmq | `rabitmq` is not a type | did you mean `rabbitmq`?",
            "amq.topic | this is not an exchange's name | `amq.` belongs to the broker",
            "x | `x` is not a value of `type` | known here: `topic`, `direct`, `fanout`, `headers`",
        ],
    );
    check_destination(
        "{ type: rabbitmq, url: '${URL}', exchange: { name: '' } }",
        &["'' | this is not an exchange's name | the default exchange would route by queue name; name one"],
    );
    check_destination(
        "{ type: rabbitmq, url: '${URL}', exchange: { name: x }, window: 0 }",
        &["0 | `window` cannot be read | expected a whole number from 1 to 65536"],
    );
    check_destination(
        "{ type: rabbitmq, url: '${URL}', exchange: { name: x } }",
        &[
            "warning: '${URL}' | plain AMQP leaves this machine | passwords and events can be read on the way; `amqps://` \
         hides them",
        ],
    );
    for (url, label) in [
        ("${EMPTY}", "expected `amqp://user:password@host:5672/vhost`"),
        ("http://x", "expected `amqp://` or `amqps://`"),
        ("amqp://u:hunter2@h//", "a `/` inside the vhost is written `%2f`"),
        ("amqp://u:hunter2@h/#x", "a `#` inside the password is written `%23`"),
    ] {
        let expected = format!("'{url}' | this is not an AMQP URL | {label}");
        check_destination(&format!("{{ type: rabbitmq, url: '{url}', exchange: {{ name: x }} }}"), &[&expected]);
    }
    check_destination(
        "{ type: rabbitmq, url: 'amqp://127.0.0.1', exchange: { name: x }, cert_file: short }",
        &[
            "'amqp://127.0.0.1' | certificates are given, but the URL is not TLS | expected `amqps://`",
            "cert_file | `cert_file` and `key_file` go together | the other one is missing",
            "short | there is no certificate in `cert_file` | expected PEM, such as `-----BEGIN CERTIFICATE-----`",
        ],
    );
}

#[test]
fn kafka() {
    for topic in ["../x y", ".", "..", "名", &"x".repeat(250)] {
        let expected = format!(
            "'{topic}' | this is not a Kafka topic | expected 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`"
        );
        check_destination(&format!("{{ type: kafka, brokers: a, topic: '{topic}' }}"), &[&expected]);
    }
    for brokers in ["PLAINTEXT://a:9092", "a:0", "a,,b", "", "a:b", "[::1:1"] {
        let expected = format!("'{brokers}' | this is not a broker | expected `host:port`, with commas between them");
        check_destination(&format!("{{ type: kafka, brokers: '{brokers}', topic: t }}"), &[&expected]);
    }
    for (property, label) in [
        ("bootstrap.servers", "set `brokers`"),
        ("enable.idempotence", "it is always on"),
        ("test.mock.num.brokers", "a made-up cluster would take everything and keep nothing"),
        ("acks", "it is always `all`"),
        ("request.required.acks", "it is always `all`"),
        ("delivery.timeout.ms", "set `retry`"),
        ("max.in.flight", "set `window`"),
        ("Partitioner", "one key must stay in one partition"),
        ("allow.auto.create.topics", "a missing topic stops the lane, visibly"),
        ("security.protocol", "set `security`"),
        ("sasl.password", "set `security`"),
        ("ssl.ca.location", "set `security`"),
        ("dr_msg_cb", "every report is needed"),
        ("stats_cb", "no code can be given here"),
    ] {
        let expected = format!("{property} | `{property}` cannot be set here | {label}");
        let properties = format!("{{ {property}: x, linger.ms: 5 }}");
        check_destination(&format!("{{ type: kafka, brokers: a, topic: t, properties: {properties} }}"), &[&expected]);
    }
    check_destination(
        "{ type: kafka, brokers: a, topic: t, security: { protocol: SASL_SSL, mechanism: PLAN } }",
        &[
            "security | `username` is missing in `security` | `SASL_SSL` needs it",
            "security | `password` is missing in `security` | `SASL_SSL` needs it",
            "PLAN | `PLAN` is not a value of `mechanism` | did you mean `PLAIN`?",
        ],
    );
    check_destination(
        "{ type: kafka, brokers: a, topic: t, security: { protocol: PLAINTEXT, ca_file: short } }",
        &[
            "ca_file | `ca_file` has no use with `PLAINTEXT` | expected `SSL` or `SASL_SSL`, or leave it out",
            "short | there is no certificate in `ca_file` | expected PEM, such as `-----BEGIN CERTIFICATE-----`",
        ],
    );
}

#[test]
fn files() {
    check(
        "destinations",
        "{ out: { type: file, path: ./x }, other: { type: file, path: x } }",
        &["other | another destination writes to the same `path` | two writers would tear each other's lines"],
    );
    check(
        "destinations",
        "{ out: { type: file } }",
        &["out | `path` is missing in `destinations.* (file)` | the folder of its files"],
    );
}

#[test]
fn routes() {
    check("routes", "[{ name: all, to: [oot] }]", &["oot | destination `oot` is not defined | did you mean `out`?"]);
    check(
        "routes",
        "[{ name: all, to: ['${WORD}'] }]",
        &["'${WORD}' | destination this value is not defined | known here: `out`"],
    );
    check(
        "routes",
        "[{ name: all, to: [out] }, { name: all, to: [out, out] }, { to: [] }]",
        &[
            "all | a route `all` is there already | names are unique",
            "out | `out` is given twice | one delivery per event, route and destination",
            "{ to: [] } | `name` is missing in `routes` | what lists and metrics call it",
            "to | `to` is empty | name at least one destination",
        ],
    );
    check(
        "routes",
        "[{ name: all, to: [{ destination: out, routing_key: x, kee: y }], when: ' ' }]",
        &[
            "routing_key | `routing_key` has no use for `out` | only RabbitMQ has one; Kafka has `key`",
            "kee | `kee` is not a key of `routes.to` | did you mean `key`?",
            "' ' | `when` is empty | leave the key out",
        ],
    );
    check(
        "routes",
        "[{ name: all, to: [out], enrich: [session, clent, client, client], on_dead: stop }]",
        &[
            "session | no source has a `session` to fetch | only these types have it: `easemob-kefu`",
            "clent | `clent` is not a record that can be fetched | did you mean `client`?",
            "client | `client` is given twice | one record is fetched once",
            "stop | `stop` is not a value of `on_dead` | known here: `continue`, `park`",
        ],
    );
    check(
        "routes",
        "[{ name: all, to: [out], enrich: [client] }]",
        &["warning: client | no tenant has an `api` to fetch a `client` from | it will always fail"],
    );
    check(
        "routes",
        "[{ name: all, to: [out], required: true, when_enriched: 'true' }]",
        &[
            "required | `required` needs `enrich` | this route fetches nothing",
            "when_enriched | `when_enriched` needs `enrich` | this route fetches nothing",
        ],
    );
    check("routes", "", &["warning: version | there are no routes | every event is kept as unrouted, or discarded"]);
    check("routes", "[]", &["warning: out | no route names this destination | nothing is sent there"]);
}

/// Three tenants; two of them, of different sources, have no `api`.
fn check_tenants(route: &str, expected: &[&str]) {
    let secret = "secret: 0123456789abcdef0123456789abcdef";
    let api = "enterprise_id: 1, api: { access_token: 0123456789abcdef }";
    let sources = format!(
        "{{ laigu: {{ type: laigu, tenants: {{ acme: {{ {secret}, {api} }}, beta: {{ {secret} }} }} }}, \
         meiqia: {{ type: meiqia, tenants: {{ gamma: {{ {secret} }} }} }}, \
         other: {{ type: webhook, signature: {{ scheme: hmac-sha256, headers: [x] }}, tenants: {{ d: {{ {secret} }} }} }} }}"
    );
    let text = super::mistakes::file("sources", &sources).replace("[{ name: all, to: [out] }]", route);
    let loaded = super::read(&text, &[], &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let told: Vec<_> = loaded.warnings.iter().map(|one| format!("{} | {}", one.message, one.label)).collect();
    assert_eq!(told, expected, "{route}");
}

#[test]
fn a_route_that_fetches_names_each_tenant_that_has_no_api() {
    let label = "there the lookup always fails, as `no_api`";
    let both = format!("tenants `laigu/beta`, `meiqia/gamma` of which `all` may take events have no `api` | {label}");
    let beta = format!("tenant `laigu/beta` of which `all` may take events has no `api` | {label}");
    check_tenants("[{ name: all, to: [out], enrich: [client, conversation] }]", &[&both]);
    check_tenants("[{ name: all, to: [out] }]", &[]);
    for (when, expected) in [
        (r#"event.source == "laigu" && has(body.tel)"#, &[beta.as_str()][..]),
        ("event.type == 'x' && event.source=='laigu'&&event.tenant == 'beta'", &[beta.as_str()]),
        ("event.tenant == 'acme'", &[]),
        ("event.source == 'other'", &[]),
        ("event.tenant == 'acme' || has(body.tel)", &[both.as_str()]),
        ("event.tenant == body.tenant", &[both.as_str()]),
        ("event.tenant != 'acme'", &[both.as_str()]),
    ] {
        let when = format!("{when:?}");
        check_tenants(&format!("[{{ name: all, to: [out], enrich: [client], when: {when} }}]"), expected);
    }
}
