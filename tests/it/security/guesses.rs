//! Guessing at admin tokens, and looking for one listener's paths on the other.

use super::{send, with_server};
use crate::{
    cli::{exchange, home},
    program::{Home, PATIENCE},
};
use laigu_router::admin::lockout::GUESSES;
use std::io::{Read, Write};

const TOKEN: &str = "the-right-token-of-the-test";

fn ask(home: &Home, token: &str) -> (u16, String) {
    let request = format!(
        "GET /api/v1/destinations HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    exchange(home.admin, &request)
}

/// The same from another address of loopback.
fn ask_from(home: &Home, own: &str, token: &str) -> u16 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{own}:0").parse().unwrap()).unwrap();
        socket.connect(([127, 0, 0, 1], home.admin).into()).await.unwrap().into_std().unwrap()
    });
    let mut stream = stream;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(
        stream,
        "GET /api/v1/destinations HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn ten_thousand_guesses_at_a_token_are_a_few_and_then_429() {
    let home = home();
    with_server(&home, &format!("  admin_tokens:\n    - {{ name: ops, role: operator, token: {TOKEN} }}\n"));
    let program = home.start();
    for _ in 0..3 {
        assert_eq!(ask(&home, TOKEN).0, 200);
    }
    let mut statuses = std::collections::BTreeMap::new();
    for number in 0..10_000 {
        *statuses.entry(ask(&home, &format!("guess-{number:08}-of-the-test")).0).or_insert(0) += 1;
    }
    assert_eq!(statuses, [(401, GUESSES), (429, 10_000 - GUESSES)].into());
    let (status, text) = ask(&home, TOKEN);
    assert_eq!(status, 429, "the right one would be told from the wrong ones");
    assert!(text.to_ascii_lowercase().contains("retry-after: ") && text.contains("application/problem+json"), "{text}");
    // Nobody else is held up, and neither are pushes and probes.
    assert_eq!(ask_from(&home, "127.0.0.9", TOKEN), 200);
    assert_eq!(exchange(home.admin, "GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").0, 200);
    assert_eq!(crate::cli::push(&home, home.hooks, &crate::cli::lead("sub_1")), 200);
    assert!(home.log().contains("too many wrong admin tokens"), "{}", home.log());
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn each_listener_answers_its_own_paths_alone() {
    let home = home();
    let program = home.start();
    for path in ["/", "/metrics", "/readyz", "/livez", "/openapi.json", "/api/v1/events", "/hooks", "/hooks/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(send(home.hooks, request.as_bytes()), 404, "{path} on the webhook listener");
    }
    let push = "POST /hooks/laigu/acme HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(send(home.admin, push.as_bytes()), 404);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
