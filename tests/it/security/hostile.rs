//! Signed bodies made to hurt, replays, and the wrong tenant, against the real program.

use super::send;
use crate::{
    crash::push::{SECRET, request, sign, signed},
    program::{Home, PATIENCE, get, wait_for},
};

const HOME: &str = "sources:
  laigu:
    type: laigu
    tenants:
      acme: { enterprise_token: b6bd473a003a99216d3f63cc329869b3, secret: crash-secret }
      globex: { enterprise_token: 0123456789abcdef0123456789abcdef, secret: the-secret-of-globex }
destinations:
  archive: { type: file, path: ./archive }
routes:
  - { name: deep, when: 'has(body.a.a.a) && body.a.a.a == \"x\"', to: [archive] }
  - { name: everything, to: [{ destination: archive }] }
";
/// The limit of a body.
const BODY: usize = 1 << 20;
/// What bodies of that size may cost the process beyond what it had.
const GROWTH_KIB_MAX: u64 = 128 << 10;

fn home() -> Home {
    Home::new("{ path: ./data }", HOME)
}

/// Kilobytes that a process holds, by its pid's file in the store.
fn resident_kib(program: &crate::program::Program) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A push whose payload is this, filled up to the limit.
fn push(payload: &str, id: &str) -> Vec<u8> {
    format!("{{\"id\":\"{id}\",\"event\":\"cus.upsert\",\"body\":{payload}}}").into_bytes()
}

#[test]
fn a_signed_json_bomb_is_kept_and_hurts_nobody() {
    let home = home();
    let program = home.start();
    let fill = |unit: &str| unit.repeat((BODY - 200) / unit.len());
    let keys = (0..60_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",");
    let bombs: Vec<(&str, Vec<u8>)> = vec![
        ("deep arrays", push(&"[".repeat(BODY - 200), "sub_1")),
        ("deep objects", push(&fill("{\"a\":"), "sub_2")),
        ("closed depth", push(&format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)), "sub_3")),
        ("many members", push(&format!("{{{keys}}}"), "sub_4")),
        ("one member many times", push(&format!("{{{}\"a\":1}}", fill("\"a\":1,")), "sub_5")),
        ("a long number", push(&format!("{{\"a\":{}}}", "9".repeat(BODY - 200)), "sub_6")),
        ("a large exponent", push("{\"a\":1e400000000}", "sub_7")),
        ("lone surrogates", push(&format!("{{\"a\":\"{}\"}}", fill("\\ud800")), "sub_8")),
        ("nul", push("{\"a\":\"\\u0000\"}", "sub_9")),
        ("two ids", b"{\"id\":\"a\",\"id\":\"b\",\"event\":\"cus.upsert\",\"body\":{}}".to_vec()),
        ("two events", b"{\"id\":\"a\",\"event\":\"cus.upsert\",\"event\":\"x\",\"body\":{}}".to_vec()),
        ("an event type of controls", b"{\"id\":\"c\",\"event\":\"a\\r\\nb\",\"body\":{}}".to_vec()),
        ("a byte that is no text", b"{\"id\":\"d\",\"event\":\"\xff\",\"body\":{}}".to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf{\"id\":\"e\",\"event\":\"cus.upsert\",\"body\":{}}".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("an array", b"[]".to_vec()),
    ];
    let before = resident_kib(&program);
    for _ in 0..2 {
        for (what, body) in &bombs {
            assert!(body.len() <= BODY, "{what}: {}", body.len());
            assert_eq!(send(home.hooks, &signed(body)), 200, "{what}");
        }
    }
    program.wait_for("laigu_router_accepted_total", &[], bombs.len() as f64);
    program.wait_for("laigu_router_undecided_events", &[], 0.0);
    // Good ones go on, and everything else is where it can be looked at.
    assert_eq!(send(home.hooks, &signed(&push("{\"track_id\":\"t\"}", "sub_good"))), 200);
    let count = |name: &str, labels: &[&str]| program.metric(&format!("laigu_router_{name}"), labels);
    // By either route, or as a dead letter: none is lost.
    wait_for("every push to end", PATIENCE, || {
        let ended = count("dead_letters_total", &[]) + count("delivered_total", &[]);
        (ended >= bombs.len() as f64 + 1.0).then_some(())
    });
    let (dead, delivered) = (count("dead_letters_total", &["cause=\"unparsable\""]), count("delivered_total", &[]));
    assert!(dead >= 8.0, "{dead} dead letters");
    let grown = resident_kib(&program).saturating_sub(before);
    println!("{dead} dead letters, {delivered} deliveries, {grown} KiB more");
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_captured_push_cannot_be_replayed_changed_or_sent_to_another_tenant() {
    let home = home();
    let program = home.start();
    let body = push("{\"track_id\":\"t\"}", "sub_captured");
    let captured = signed(&body);
    for _ in 0..50 {
        assert_eq!(send(home.hooks, &captured), 200);
    }
    program.wait_for("laigu_router_duplicates_total", &[], 49.0);
    let signature = sign(&body, SECRET);
    // Headers that are not signed change nothing of what it is.
    let text = String::from_utf8(captured.clone()).unwrap();
    let extra = "X-Request-Id: other\r\nIdempotency-Key: other\r\nX-Forwarded-For: 10.0.0.1\r\nContent-Length";
    assert_eq!(send(home.hooks, text.replace("Content-Length", extra).as_bytes()), 200);
    program.wait_for("laigu_router_duplicates_total", &[], 50.0);
    let changed = push("{\"track_id\":\"u\"}", "sub_captured");
    assert_eq!(send(home.hooks, &request(&changed, &signature)), 401);
    let elsewhere = String::from_utf8(captured).unwrap().replace("/laigu/acme", "/laigu/globex");
    assert_eq!(send(home.hooks, elsewhere.as_bytes()), 401);
    // Globex signs rightly, and says that it is acme.
    let body = b"{\"id\":\"x\",\"event\":\"cus.upsert\",\"enterprise_token\":\"b6bd473a003a99216d3f63cc329869b3\",\"body\":{}}";
    let signature = sign(body, "the-secret-of-globex");
    let lying = String::from_utf8(request(body, &signature)).unwrap().replace("/laigu/acme", "/laigu/globex");
    assert_eq!(send(home.hooks, lying.as_bytes()), 403);
    program.wait_for("laigu_router_accepted_total", &[], 1.0);
    assert_eq!(get(home.admin, "/readyz").unwrap().0, 200);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
