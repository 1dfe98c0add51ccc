//! Secrets and payloads: known ones are put wherever the program takes them, and then everything it says is searched.

use super::{send, with_server};
use crate::{
    cli::{command, run},
    crash::push::{request, sign},
    program::{Home, PATIENCE, get},
};
use laigu_router::admin::endpoints::TABLE;
use std::fs;

/// Everything of this test that nobody may see begins so.
const CANARY: &str = "canary-7d1f";

const HOME: &str = "sources:
  laigu:
    type: laigu
    tenants:
      acme:
        enterprise_id: 104
        secret: [canary-7d1f-secret-one, '${CANARY_SECRET}']
        api: { base_url: 'http://127.0.0.1:1', access_token: canary-7d1f-access-token }
  automation:
    type: laigu-automation
    tenants: { acme: { path_secret: canary-7d1f-path-secret } }
  kefu:
    type: easemob-kefu
    tenants:
      acme:
        tenant_id: 1
        path_secret: canary-7d1f-kefu-path
        api: { base_url: 'http://127.0.0.1:1', client_id: id, secret_id: canary-7d1f-kefu-secret }
  shop:
    type: webhook
    signature: { scheme: token, headers: [X-Token] }
    tenants: { acme: { secret: canary-7d1f-shop-token } }
destinations:
  crm:
    type: rabbitmq
    url: amqp://user:canary-7d1f-amqp-password@127.0.0.1:1/%2f
    exchange: { name: nowhere }
  lake:
    type: kafka
    brokers: 127.0.0.1:1
    topic: nowhere
    security: { protocol: SASL_PLAINTEXT, mechanism: PLAIN, username: user, password: canary-7d1f-kafka-password }
  archive: { type: file, path: ./archive }
routes:
  - name: leads
    when: has(body.tel)
    to: [archive]
  - { name: everything, to: [crm, lake] }
";

fn check(what: &str, text: &str) {
    let told = text.lines().find(|line| line.to_ascii_lowercase().contains(CANARY));
    assert_eq!(told, None, "{what}");
}

/// Changes the file by one slip, as someone who edits it may.
fn with_slip(home: &Home, from: &str, to: &str) -> String {
    let file = home.path("routes.yaml");
    let good = fs::read_to_string(&file).unwrap();
    assert!(good.contains(from), "{from}");
    fs::write(&file, good.replacen(from, to, 1)).unwrap();
    let output = run(home, &["check"]);
    fs::write(&file, good).unwrap();
    assert!(!output.status.success(), "{from} -> {to} is no mistake");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn no_secret_is_in_a_log_an_answer_a_metric_or_a_mistake() {
    let home = Home::new("{ path: ./data }", HOME);
    let token = format!("{CANARY}-admin-token");
    with_server(&home, &format!("  admin_tokens:\n    - {{ name: ops, role: admin, token: {token} }}\n"));
    let program = home.start_with(&[("CANARY_SECRET", "canary-7d1f-secret-two"), ("RUST_LOG", "trace")]);

    let body = b"{\"id\":\"sub_1\",\"event\":\"cus.upsert\",\"body\":{\"track_id\":\"t\",\"tel\":\"canary-7d1f-tel\"}}";
    for secret in ["canary-7d1f-secret-one", "canary-7d1f-secret-two"] {
        assert_eq!(send(home.hooks, &request(body, &sign(body, secret))), 200);
    }
    let post = |path: &str, header: &str, body: &str| {
        let length = body.len();
        let text = format!("POST {path} HTTP/1.1\r\nHost: h\r\n{header}Content-Length: {length}\r\n\r\n{body}");
        send(home.hooks, text.as_bytes())
    };
    let flow = "{\"eventType\":\"flow\",\"eventId\":\"1\",\"data\":{\"a\":\"canary-7d1f-flow\"}}";
    let statuses = [
        post("/hooks/automation/acme/canary-7d1f-path-secret?q=canary-7d1f-query", "", flow),
        post("/hooks/automation/acme/canary-7d1f-wrong-path", "", flow),
        post("/hooks/kefu/acme/canary-7d1f-kefu-path", "", "{\"a\":\"canary-7d1f-kefu-body\"}"),
        post("/hooks/shop/acme", "X-Token: canary-7d1f-shop-token\r\n", "{\"a\":\"canary-7d1f-order\"}"),
        post("/hooks/shop/acme", "X-Token: canary-7d1f-wrong\r\nCookie: canary-7d1f-cookie\r\n", "{}"),
    ];
    assert!(statuses.contains(&401) && statuses.contains(&404) && statuses.contains(&200), "{statuses:?}");
    program.wait_for("laigu_router_delivered_total", &["archive"], 1.0);
    for state in ["crm", "lake"] {
        program.wait_for("laigu_router_destination_state", &[state, "state=\"down\""], 1.0);
    }

    let asked = |path: &str, token: &str| {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        crate::cli::exchange(home.admin, &request).1
    };
    for endpoint in TABLE.iter().filter(|endpoint| endpoint.method == "GET" && !endpoint.path.contains('{')) {
        check(endpoint.path, &asked(endpoint.path, &token));
        check(endpoint.path, &asked(endpoint.path, "canary-7d1f-wrong-token"));
    }
    check("/metrics", &get(home.admin, "/metrics").unwrap().1);
    for verb in [&["check"][..], &["events", "list"], &["destinations", "list"], &["routes", "list"]] {
        let mut command = command(&home, verb);
        let output = command.env("CANARY_SECRET", "canary-7d1f-secret-two").env("LAIGU_ROUTER_TOKEN", &token).output();
        let output = output.unwrap();
        check(&verb.join(" "), &String::from_utf8_lossy(&output.stdout));
        check(&verb.join(" "), &String::from_utf8_lossy(&output.stderr));
    }
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    let log = fs::read_to_string(home.path("log")).unwrap();
    assert!(log.lines().count() > 50, "a trace says more");
    check("the log", &log);

    for (from, to) in [
        ("secret_id: canary", "secret_ids: canary"),
        ("token: canary-7d1f-admin", "tokn: canary-7d1f-admin"),
        ("password: canary", "password canary"),
        ("amqp://user:", "amqp//user:"),
        ("access_token: canary", "access_token: [canary"),
        ("path_secret: canary", "path_secret:canary"),
    ] {
        check(&format!("{from} -> {to}"), &with_slip(&home, from, to));
    }
}
