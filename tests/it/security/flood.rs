//! More than anyone should send: ten thousand slow sockets, and one tenant that leaves nothing to the others.

use super::with_server;
use crate::{
    crash::{
        load::answer,
        push::{Push, SOURCES},
    },
    door::support::{
        self, SECRET, Says, laigu_sign, laigu_signature, open, push_body, read_reply, request, source, tenant,
    },
    program::{Home, PATIENCE},
};
use laigu_router::{config::settings::SourceKind, ingress::problem::Problem};
use std::{
    io::Write as _,
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

const SLOW: usize = 10_000;
/// Descriptors that the test needs, and the program.
const DESCRIPTORS: usize = SLOW + 2_000;
/// A slow socket's own address is one of so many: one address has ports for some 28,000 connections.
const ADDRESSES: usize = 8;
/// Nothing a slow sender does may cost a good one more; a debug build on two busy cores is slow enough by itself.
const GOOD_WITHIN: Duration = Duration::from_secs(4);

/// How many descriptors this process may open.
fn descriptors() -> usize {
    let text = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// Runs this test again with as many descriptors as the system gives, if there are fewer than it needs; says whether it
/// did.
pub(super) fn ran_elsewhere(name: &str, needed: usize) -> bool {
    if descriptors() >= needed {
        return false;
    }
    assert!(std::env::var_os("IT_AGAIN").is_none(), "this needs {needed} descriptors: raise `ulimit -Hn`");
    let line = "ulimit -n \"$(ulimit -Hn)\" && exec \"$0\" --exact \"$1\" --nocapture";
    let this = std::env::current_exe().unwrap();
    let status = Command::new("sh").args(["-c", line]).arg(this).arg(name).env("IT_AGAIN", "1").status().unwrap();
    assert!(status.success(), "{name} with more descriptors: {status}");
    true
}

/// Opens a slow connection: silent, in the middle of its head, or in the middle of its body.
async fn slow(port: u16, number: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let own = format!("127.0.0.{}:0", 2 + number % ADDRESSES);
    socket.bind(own.parse().unwrap()).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    let part: &[u8] = match number % 3 {
        0 => b"",
        1 => b"POST /hooks/laigu HTTP/1.1\r\nX",
        _ => b"POST /hooks/laigu HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
    };
    stream.write_all(part).await.unwrap();
    stream
}

/// Pushes on one connection; the slowest answer.
fn good(home: &Home, numbers: std::ops::Range<usize>) -> Duration {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", home.hooks)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut slowest = Duration::ZERO;
    for number in numbers {
        let began = Instant::now();
        stream.write_all(&Push { key: 1, number }.request()).unwrap();
        assert_eq!(answer(&mut stream).unwrap(), 200);
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[test]
fn ten_thousand_slow_sockets_disturb_nobody_and_end_at_their_deadlines() {
    let this = "security::flood::ten_thousand_slow_sockets_disturb_nobody_and_end_at_their_deadlines";
    if ran_elsewhere(this, DESCRIPTORS) {
        return;
    }
    let text = "destinations:\n  archive: { type: file, path: ./archive }\n\
                routes:\n  - { name: everything, to: [archive] }\n";
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{text}"));
    with_server(&home, "  limits: { connections: 11000, header_timeout: 10s, body_timeout: 10s, idle_timeout: 10s }\n");
    let program = home.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let slow = runtime.block_on(async {
        let mut sockets = Vec::with_capacity(SLOW);
        for number in 0..SLOW {
            sockets.push(slow(home.hooks, number).await);
        }
        sockets
    });
    let slowest = good(&home, 0..200);
    assert!(slowest < GOOD_WITHIN, "a good push took {slowest:?} among {} slow ones", slow.len());
    println!("{} slow sockets, the slowest of 200 good pushes took {slowest:?}", slow.len());
    // Each is answered 408 or closed without a word, and none is left.
    runtime.block_on(async {
        for mut stream in slow {
            let mut told = Vec::new();
            let read = timeout(PATIENCE, stream.read_to_end(&mut told)).await.expect("it ends at its deadline");
            // What came too late for the other side to read may make the end a reset.
            assert!(read.is_err() || told.is_empty() || told.starts_with(b"HTTP/1.1 408 "), "{told:?}");
        }
    });
    let slowest = good(&home, 200..220);
    assert!(slowest < GOOD_WITHIN, "{slowest:?} after the flood");
    program.wait_for("laigu_router_accepted_total", &[], 220.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_tenant_is_429_and_leaves_room_for_the_others() {
    let tenants = vec![("acme", tenant(&[SECRET])), ("globex", tenant(&["another_secret"]))];
    let mut settings = support::with_sources(vec![("laigu", source(SourceKind::Laigu, laigu_signature(), tenants))]);
    settings.server.limits.connections = 40;
    let door = open(&settings);
    door.say(Says::Hold);
    let push = |tenant: &str, secret: &str, number: usize| {
        let body = push_body(number);
        request("POST", &format!("/hooks/laigu/{tenant}"), &[("Laigu-Signature", &laigu_sign(&body, secret))], &body)
    };
    // Half of all connections may wait for the store.
    let mut waiting = Vec::new();
    for number in 0..20 {
        let mut stream = door.connect().await;
        stream.write_all(&push("acme", SECRET, number)).await.unwrap();
        waiting.push(stream);
    }
    door.wait_stored(20).await;
    for number in 20..30 {
        let reply = door.send(&push("acme", SECRET, number)).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(door.rejected(Problem::TenantBusy), 10);
    let mut other = door.connect().await;
    other.write_all(&push("globex", "another_secret", 30)).await.unwrap();
    door.wait_stored(21).await;
    door.release();
    assert_eq!(read_reply(&mut other).await.unwrap().status, 200);
    for stream in &mut waiting {
        assert_eq!(read_reply(stream).await.unwrap().status, 200);
    }
    assert_eq!(door.send(&push("acme", SECRET, 31)).await.status, 200);
    assert_eq!(door.stored(), 22);
}
