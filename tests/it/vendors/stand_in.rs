//! The stand-in by itself: its switches for other processes, and the pushes it sends.

use super::{sandbox, secret};
use laigu_router::{
    sandbox::push::{Kind, Mix, Pusher, pushes, sign},
    vendors::http::{Call, Http, Options},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use url::Url;

async fn ask(http: &Http, method: &str, word: &str, body: Value) -> (u16, Value) {
    let method = method.parse().unwrap();
    let body = body.to_string();
    let path = ["_sandbox", word];
    let call = Call { method: &method, path: &path, query: &[], credentials: &[], body: Some(body.as_bytes()) };
    let answer = http.send(call).await.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap())
}

#[tokio::test]
async fn another_process_can_plan_faults_and_read_the_counters() {
    let sandbox = sandbox(|_| {}).await;
    let http = Http::new(&Url::parse(&sandbox.url()).unwrap(), Options::default()).unwrap();
    let plan = json!({"endpoint": "clients-updated", "times": 1, "fault": {"errno": 10014}});
    assert_eq!(ask(&http, "POST", "faults", plan).await, (200, json!({"planned": 1})));
    let get = http::Method::GET;
    let clients = Call { method: &get, path: &["v2", "clients", "updated"], query: &[], credentials: &[], body: None };
    let errnos = [10014, 10011];
    for errno in errnos {
        let answer: Value = serde_json::from_slice(&http.send(clients).await.unwrap().body).unwrap();
        assert_eq!(answer["errno"], errno, "the fault first, then what a call without credentials gets");
    }
    assert_eq!(ask(&http, "GET", "calls", json!({})).await, (200, json!({"clients-updated": 2})));
    assert_eq!(ask(&http, "POST", "faults", json!({"fault": "x"})).await.0, 400);
    assert_eq!(ask(&http, "POST", "nothing", json!({})).await.0, 404);
    let (_, touched) = ask(&http, "POST", "touch", json!({"clients": 3})).await;
    assert_eq!(touched["touched"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn an_unknown_path_is_errno_10012() {
    let sandbox = sandbox(|options| options.access_token = "t".into()).await;
    let http = Http::new(&Url::parse(&sandbox.url()).unwrap(), Options::default()).unwrap();
    let method = http::Method::GET;
    let credentials = [("authorization", "Bearer t")];
    let call = Call { method: &method, path: &["v3", "x"], query: &[], credentials: &credentials, body: None };
    let answer = http.send(call).await.unwrap();
    assert_eq!(answer.status, 404);
    assert!(answer.json().unwrap().contains("10012"));
}

/// Reads requests of one connection after the other, answers each with 200, and hands out what it read.
async fn hook(listener: TcpListener, count: usize) -> Vec<(BTreeMap<String, String>, Vec<u8>)> {
    let mut taken = Vec::new();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    while taken.len() < count {
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "the connection ended after {}", taken.len());
        };
        let head = String::from_utf8(bytes.drain(..end).collect()).unwrap();
        let mut headers: BTreeMap<_, _> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        headers.insert("request".into(), head.lines().next().unwrap().to_owned());
        let length: usize = headers["content-length"].parse().unwrap();
        while bytes.len() < length {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        }
        taken.push((headers, bytes.drain(..length).collect()));
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    }
    taken
}

#[tokio::test]
async fn a_push_arrives_byte_for_byte_under_its_signature() {
    let sandbox = sandbox(|_| {}).await;
    let secret = secret("hook secret");
    let mix = Mix { resent: 30, forged: 30, unparsable: 30, ..Mix::default() };
    let token = sandbox.options().enterprise_token.clone();
    let all: Vec<_> = sandbox.with_world(|world| pushes(world, &token, &secret, mix, 1)).into_iter().take(40).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks/laigu/acme", listener.local_addr().unwrap());
    let receiver = tokio::spawn(hook(listener, all.len()));
    let pusher = Pusher::new(&Url::parse(&url).unwrap(), "meiqia-signature").unwrap();
    for push in &all {
        assert_eq!(pusher.send(push).await.unwrap(), 200);
    }
    for ((headers, body), push) in receiver.await.unwrap().into_iter().zip(&all) {
        assert_eq!(headers["request"], "POST /hooks/laigu/acme HTTP/1.1");
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(body, push.body);
        assert_eq!(headers["meiqia-signature"] == sign(&body, &secret), push.kind != Kind::Forged);
    }
}

#[tokio::test]
async fn laigus_page_rules_are_kept() {
    let sandbox = sandbox(|_| {}).await;
    let http = Http::new(&Url::parse(&sandbox.url()).unwrap(), Options::default()).unwrap();
    let right = [
        ("enterprise_id", "104"),
        ("limit", "20"),
        ("from_tm", "2024-09-20 08:00:00"),
        ("to_tm", "2024-09-20 17:00:00"),
        ("page_token", ""),
    ];
    let ask = async |path: &[&str], query: &[(&str, &str)]| -> Value {
        let method = http::Method::GET;
        let credentials = [("x-app-id", "sandbox-app-id"), ("x-sign", "sandbox-sign")];
        let call = Call { method: &method, path, query, credentials: &credentials, body: None };
        serde_json::from_slice(&http.send(call).await.unwrap().body).unwrap()
    };
    for (path, key) in [(&["v2", "conversations"][..], "conv_id"), (&["v2", "clients", "updated"], "track_id")] {
        let page = ask(path, &right).await;
        assert_eq!(page["errno"], 0);
        let keys: Vec<_> = page["result"].as_array().unwrap().iter().map(|row| row[key].to_string()).collect();
        assert!(keys.len() == 20 && keys.is_sorted(), "{keys:?}");
        assert_ne!(page["next_page_token"], "");
    }
    for (name, value, errno) in [
        ("limit", "21", 10013),
        ("limit", "0", 10016),
        ("enterprise_id", "7", 10016),
        ("page_token", "made up", 10016),
        ("from_tm", "yesterday", 10016),
        ("to_tm", "2024-09-20 07:00:00", 10016),
        ("from_tm", "2024-09-19 00:00:00", 10016),
    ] {
        let wrong = right.map(|(known, usual)| (known, if known == name { value } else { usual }));
        assert_eq!(ask(&["v2", "clients", "updated"], &wrong).await["errno"], errno, "{name}={value}");
        let left_out: Vec<_> = right.into_iter().filter(|(known, _)| *known != name).collect();
        assert_eq!(ask(&["v2", "clients", "updated"], &left_out).await["errno"], 10016, "without {name}");
    }
}
