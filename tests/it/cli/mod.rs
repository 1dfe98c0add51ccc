//! The command line and the admin API of the real program.

mod api;
mod signals;
mod verbs;

use crate::program::Home;
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Output, Stdio},
};

/// A telephone number that must not be seen where it is not asked for.
pub const TEL: &str = "13812345678";
const ROUTES: &str = r#"
sources:
  laigu:
    type: laigu
    tenants:
      acme: { secret: a-secret-of-the-test }
destinations:
  archive: { type: file, path: ./out }
routes:
  - name: leads
    when: event.type == "cus.upsert" && has(body.tel)
    to: [archive]
  - name: talks
    when: event.type == "conversation.closed" && body.weixin == "wxid_canary"
    to: [archive]
"#;

/// A home with one source and the file destination.
pub fn home() -> Home {
    Home::new("{ path: ./data }", ROUTES)
}

/// Changes a home's file.
pub fn edit(home: &Home, from: &str, to: &str) {
    let file = home.path("routes.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
}

/// A command of the program, told of a home's file.
pub fn command(home: &Home, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laigu-router"));
    command.arg("--config").arg(home.path("routes.yaml")).args(arguments);
    for variable in ["LAIGU_ROUTER_TOKEN", "LAIGU_ROUTER_ADMIN", "LAIGU_ROUTER_SIGN_SECRET", "RUST_LOG"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a verb to its end.
pub fn run(home: &Home, arguments: &[&str]) -> Output {
    command(home, arguments).output().unwrap()
}

/// Runs a verb that does what it is told; what it says.
pub fn said(home: &Home, arguments: &[&str]) -> String {
    let output = run(home, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same with `--json`.
pub fn json(home: &Home, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(home, &[&["--json"], arguments].concat())).unwrap()
}

/// Posts a body with what `sign` says of it.
pub fn push(home: &Home, port: u16, body: &str) -> u16 {
    let file = home.path("push.json");
    fs::write(&file, body).unwrap();
    let header = said(home, &["sign", &shown(&file)]);
    assert!(header.starts_with("Meiqia-Signature: "), "{header}");
    let request = format!(
        "POST /hooks/laigu/acme HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n{}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        header.trim_end(),
        body.len()
    );
    exchange(port, &request).0
}

/// The status and the whole text of an answer.
pub fn exchange(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
}

/// A lead with a telephone number.
pub fn lead(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","event":"cus.upsert","created_at":1726824224,"body":{{"track_id":"t-{id}","tel":"{TEL}"}}}}"#
    )
}

pub fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
