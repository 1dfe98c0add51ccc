//! Dead letters and events sent once more, by the real program.

mod brokers;
mod elsewhere;
mod events;
mod many;
mod steer;
mod today;

use crate::{
    crash::push::{ENTERPRISE, SOURCES, signed},
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

/// A push of a key: `body` holds these members beside `track_id`.
fn push(home: &Home, id: usize, key: &str, members: &str) {
    let body = format!(
        "{{\"event\":\"cus.upsert\",\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
         \"body\":{{\"track_id\":\"{key}\",{members}}},\"id\":\"sub_{id:06}\"}}"
    );
    assert_eq!(exchange(home.hooks, &signed(body.as_bytes())).0, 200);
}

fn exchange(port: u16, request: &[u8]) -> (u16, String) {
    let head = String::from_utf8_lossy(request).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// One call of the admin API, with a token if there is one.
fn call(home: &Home, method: &str, path: &str, body: &Value, token: &str) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let (status, text) = exchange(home.admin, request.as_bytes());
    (status, serde_json::from_str(&text).unwrap_or(Value::Null))
}

fn get(home: &Home, path: &str) -> Value {
    let (status, body) = call(home, "GET", path, &Value::Null, "none");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn post(home: &Home, path: &str, body: Value) -> Value {
    let (status, answer) = call(home, "POST", path, &body, "none");
    assert!((200..300).contains(&status), "{path} {body}: {status} {answer}");
    answer
}

/// What a replay would send.
fn preview(home: &Home, mut body: Value) -> Value {
    body["dry_run"] = json!(true);
    post(home, "replays", body)
}

/// Begins a replay; its id.
fn replay(home: &Home, body: Value) -> String {
    let job = post(home, "replays", body);
    job["id"].as_str().unwrap().to_owned()
}

fn job(home: &Home, id: &str) -> Value {
    get(home, &format!("replays/{id}"))
}

/// Waits until a replay is in a state.
fn until(home: &Home, id: &str, state: &str) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(&format!("{id} {state}"), PATIENCE, || {
            last = job(home, id);
            (last["state"] == state).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("{last}\n{}", home.log()))
}

/// Dead letters that a query finds, at most 500.
fn letters(home: &Home, query: &str) -> Vec<Value> {
    get(home, &format!("dead-letters?limit=500{query}"))["items"].as_array().unwrap().clone()
}

fn wait_for_letters(home: &Home, count: usize) -> Vec<Value> {
    wait_for(&format!("{count} dead letters"), PATIENCE, || Some(letters(home, "")).filter(|all| all.len() == count))
}

/// The lines of a file destination.
fn lines(home: &Home, folder: &str) -> Vec<Value> {
    let files = fs::read_dir(home.path(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "ndjson"));
    let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines that a replay wrote.
fn replayed(home: &Home, folder: &str, id: &str) -> Vec<Value> {
    lines(home, folder).into_iter().filter(|line| line["xreplay"] == id).collect()
}

/// Changes the file and takes it into force.
fn edit(home: &Home, from: &str, to: &str) {
    let file = home.path("routes.yaml");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).unwrap();
    post(home, "routes/reload", Value::Null);
}

/// Everything of a kind goes to one folder.
const OUT: &str = "destinations:\n  out: { type: file, path: ./out }\n";

/// A home whose one destination, `out`, was paused until `count` events were too old for it.
fn home_with_expired(count: usize) -> (Home, crate::program::Program) {
    let routes = "retry: { max_age: 1s }\nroutes:\n  - { name: all, to: [out] }\n";
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{OUT}{routes}"));
    let program = home.start();
    post(&home, "destinations/out/pause", Value::Null);
    for id in 0..count {
        push(&home, id, &format!("k{id}"), "\"n\":1");
    }
    // Until the last one is too old, by its own clock.
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    post(&home, "destinations/out/resume", Value::Null);
    wait_for_letters(&home, count);
    (home, program)
}
