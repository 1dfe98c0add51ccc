//! How the program begins and ends: port 0, signals, and what its log never holds.

use super::{TEL, command, edit, home, json, lead, push, shown};
use crate::program::{Home, PATIENCE, wait_for};
use serde_json::Value;
use std::{
    fs,
    process::{Child, Command, Stdio},
};

/// A server on ports of the system's choice.
struct Server {
    child: Child,
    hooks: u16,
    admin: String,
}

impl Server {
    fn start(home: &Home, log_filter: &str) -> Self {
        for port in [home.hooks, home.admin] {
            edit(home, &format!("127.0.0.1:{port}"), "127.0.0.1:0");
        }
        let ready = home.path("ready.json");
        let log = fs::File::create(home.path("log")).unwrap();
        let mut command = command(home, &["serve", "--ready-file", &shown(&ready)]);
        command.env("RUST_LOG", log_filter).stdout(Stdio::null()).stderr(log);
        let mut child = command.spawn().unwrap();
        let text = wait_for("the file of addresses", PATIENCE, || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", home.log());
            fs::read_to_string(&ready).ok()
        });
        let addresses: Value = serde_json::from_str(&text).unwrap();
        let hooks = addresses["hooks"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        Self { child, hooks, admin: format!("http://{}", addresses["admin"].as_str().unwrap()) }
    }

    fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        wait_for("the end", PATIENCE, || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn one_signal_stops_in_order_and_a_second_at_once() {
    for signal in ["-TERM", "-INT"] {
        let home = home();
        let mut server = Server::start(&home, "info");
        server.signal(signal);
        assert_eq!(server.exit_code(), Some(0), "{signal}: {}", home.log());
    }
    let home = home();
    edit(&home, "shutdown_delay: 0s", "shutdown_delay: 10m");
    let mut server = Server::start(&home, "info");
    server.signal("-TERM");
    wait_for("the first signal to be heard", PATIENCE, || home.log().contains("asked to stop").then_some(()));
    server.signal("-TERM");
    assert_eq!(server.exit_code(), Some(1));
}

#[test]
fn no_log_line_holds_a_payload_or_a_signature_whatever_is_told() {
    let home = home();
    let server = Server::start(&home, "trace");
    assert_eq!(push(&home, server.hooks, &lead("sub_1")), 200);
    assert_eq!(push(&home, server.hooks, &format!("not JSON {TEL}")), 200);
    let forged = format!(
        "POST /hooks/laigu/acme?q={TEL} HTTP/1.1\r\nHost: h\r\nMeiqia-Signature: canary{TEL}\r\n\
         Content-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    assert_eq!(super::exchange(server.hooks, &forged).0, 401);
    wait_for("both decided", PATIENCE, || {
        let count = |state| {
            let list = json(&home, &["--admin", &server.admin, "events", "list", "--state", state]);
            list["items"].as_array().unwrap().len()
        };
        (count("delivered") == 1 && count("dead") == 1).then_some(())
    });
    let log = fs::read_to_string(home.path("log")).unwrap();
    let signature = super::said(&home, &["sign", &shown(&home.path("push.json"))]);
    let digest = signature.trim_end().rsplit(' ').next().unwrap();
    assert!(log.lines().count() > 5);
    let told = log.lines().find(|line| line.contains(TEL) || line.contains(digest) || line.contains("a-secret-of"));
    assert_eq!(told, None);
    let first: Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert!(first["timestamp"].is_string() && first["level"].is_string(), "one JSON object a line: {first}");
}
