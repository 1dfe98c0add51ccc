//! The admin API as a client meets it: roles, problems, pages.

use super::{edit, exchange, home, json, lead, push, run};
use crate::program::{Home, PATIENCE, wait_for};
use laigu_router::{admin::endpoints::TABLE, config::settings::Role};
use serde_json::Value;

const TOKENS: [(&str, Role); 3] = [
    ("viewer-token-of-the-test", Role::Viewer),
    ("operator-token-of-the-test", Role::Operator),
    ("admin-token-of-the-test", Role::Admin),
];

fn with_tokens() -> Home {
    let home = home();
    let tokens = TOKENS.map(|(token, role)| {
        let role = format!("{role:?}").to_lowercase();
        format!("    - {{ name: {role}, role: {role}, token: {token} }}\n")
    });
    edit(&home, "  shutdown_delay: 0s\n", &format!("  shutdown_delay: 0s\n  admin_tokens:\n{}", tokens.concat()));
    home
}

fn ask(port: u16, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let header = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    exchange(
        port,
        &format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{header}Content-Length: 0\r\nConnection: close\r\n\r\n"),
    )
}

#[test]
fn every_endpoint_takes_its_role_and_no_less() {
    let home = with_tokens();
    let _program = home.start();
    for endpoint in TABLE {
        let path = endpoint.path.replace("{id}", "evt_0").replace("{name}", "archive");
        let status = |token| ask(home.admin, endpoint.method, &path, token).0;
        let refused = |token| matches!(status(token), 401 | 403);
        let Some(needed) = endpoint.role else {
            assert!(!refused(None) && !refused(Some("wrong")), "{path} needs no token");
            continue;
        };
        assert_eq!((status(None), status(Some("wrong"))), (401, 401), "{path}");
        for (token, role) in TOKENS {
            match role < needed {
                true => assert_eq!(status(Some(token)), 403, "{path} with {role:?}"),
                false => assert!(!refused(Some(token)), "{path} with {role:?}"),
            }
        }
        // In the query a token is none.
        assert!(matches!(ask(home.admin, endpoint.method, &format!("{path}?token={}", TOKENS[2].0), None).0, 401));
    }
    let output = run(&home, &["events", "list"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("LAIGU_ROUTER_TOKEN"), "{text}");
    std::fs::write(home.path("token"), format!("{}\n", TOKENS[0].0)).unwrap();
    let file = super::shown(&home.path("token"));
    assert!(run(&home, &["--token-file", &file, "events", "list"]).status.success());
    assert!(run(&home, &["events", "list", "--token", TOKENS[0].0]).status.success());
    assert!(!run(&home, &["events", "list", "--token", "wrong"]).status.success());
    let output = run(&home, &["--token-file", &file, "destinations", "pause", "archive"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("role"));
    assert!(!home.log().contains("token-of-the-test"), "{}", home.log());
}

#[test]
fn what_cannot_be_answered_is_a_problem() {
    let home = home();
    let _program = home.start();
    for (method, path, status) in [
        ("GET", "/api/v1/events?colour=red", 400),
        ("GET", "/api/v1/events?limit=0", 400),
        ("GET", "/api/v1/events?limit=501", 400),
        ("GET", "/api/v1/events?state=lost", 400),
        ("GET", "/api/v1/events?from=yesterday", 400),
        ("GET", "/api/v1/events?cursor=d1.2.x", 400),
        ("GET", "/api/v1/events/evt_1", 400),
        ("GET", "/api/v1/events/evt_01920ebe910ddeadbeef000000000000002a", 404),
        ("GET", "/api/v1/events/evt_01920ebe910ddeadbeef000000000000002a/explain", 404),
        ("GET", "/api/v1/dead-letters?cause=unknown", 400),
        ("GET", "/api/v1/dead-letters/dl_x", 400),
        ("GET", "/api/v1/dead-letters/dl_bW9yZ3VlfDB8MXw", 404),
        ("GET", "/api/v1/dead-letters/groups?cause=expired", 400),
        ("GET", "/api/v1/destinations?state=up", 400),
        ("GET", "/api/v1/routes?name=leads", 400),
        ("GET", "/api/v1/reconciles?limit=5", 400),
        ("POST", "/api/v1/destinations/nowhere/pause", 404),
        ("POST", "/api/v1/events", 405),
        ("GET", "/api/v2", 404),
    ] {
        let (got, text) = ask(home.admin, method, path, None);
        assert_eq!(got, status, "{method} {path}");
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{method} {path}: {head}");
        let problem: Value = serde_json::from_str(body).unwrap();
        assert!(problem["status"] == status && problem["detail"].is_string(), "{method} {path}: {problem}");
    }
}

#[test]
fn what_is_refused_is_no_line_of_the_audit() {
    let home = home();
    let _program = home.start();
    for (path, body, status) in [
        ("reconciles", r#"{"source":"laigu","tenant":"nobody","from":"2024-09-01T00:00:00Z"}"#, 400),
        ("reconciles", r#"{"source":"laigu","tenant":"acme","from":"2024-09-01T00:00:00Z"}"#, 400),
        ("reconciles", r#"{"source":"laigu","tenant":"acme","from":"2999-09-01T00:00:00Z"}"#, 400),
        ("reconciles/rcn_7/cancel", "", 404),
        ("destinations/nowhere/pause", "", 404),
    ] {
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let (got, text) = exchange(home.admin, &request);
        assert_eq!(got, status, "{path} {body}: {text}");
    }
    assert_eq!(json(&home, &["audit"])["items"].as_array().unwrap().len(), 0);
}

#[test]
fn pages_join_without_a_gap_and_hold_no_payload() {
    let home = home();
    let _program = home.start();
    for number in 0..7 {
        assert_eq!(push(&home, home.hooks, &lead(&format!("sub_{number}"))), 200);
    }
    wait_for("all delivered", PATIENCE, || {
        let list = json(&home, &["events", "list", "--state", "delivered"]);
        (list["items"].as_array().unwrap().len() == 7).then_some(())
    });
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, text) = ask(home.admin, "GET", &format!("/api/v1/events?limit=3{cursor}"), None);
        let page: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        for event in page["items"].as_array().unwrap() {
            assert!(event.get("body").is_none() && event.get("headers").is_none(), "{event}");
            seen.push(event["vendor_id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let expected: Vec<_> = (0..7).rev().map(|number| format!("sub_{number}")).collect();
    assert_eq!(seen, expected);
    // More than one page may hold: the command line asks again.
    assert_eq!(super::said(&home, &["events", "list", "--limit", "1000"]).lines().count(), 8);
}

#[test]
fn a_reload_cannot_take_the_tokens_from_an_admin_api_off_loopback() {
    let home = home();
    let token = "a-token-that-nobody-guesses";
    let (bound, near) = (format!("admin: 0.0.0.0:{}", home.admin), format!("admin: 127.0.0.1:{}", home.admin));
    let tokens = format!("\n  admin_tokens: [{{ name: root, role: admin, token: {token} }}]");
    edit(&home, &near, &format!("{bound}{tokens}"));
    let _program = home.start();
    let ask = |method: &str, path: &str, token: &str| ask(home.admin, method, path, Some(token));
    edit(&home, &format!("{bound}{tokens}"), &near);
    let (status, told) = ask("POST", "/api/v1/routes/reload", token);
    assert_eq!(status, 422, "{told}");
    assert!(told.contains("admin_tokens") && told.contains("0.0.0.0"), "{told}");
    wait_for("a word in the log", PATIENCE, || home.log().contains("is not taken").then_some(()));
    assert_eq!(ask("GET", "/api/v1/destinations", "nobody's").0, 401);
    assert_eq!(ask("GET", "/api/v1/destinations", token).0, 200);
}
