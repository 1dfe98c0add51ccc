//! Every way to sign, from sources of every kind: what is signed reaches both brokers as it was, what is forged neither.

use super::{EVERYTHING, Line, post};
use crate::{
    program::{PATIENCE, wait_for},
    proxy::Mode,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

/// The same fields at places of the sender's choice.
const FIELDS: &str = "fields: { id: /n/id, type: /what, key: /customer/id, time: /at }";
const SECRET: &str = "a secret that is long enough to be one";

fn sources() -> String {
    let webhook = |name: &str, signature: &str, secret: &str| {
        format!(
            "  {name}:\n    type: webhook\n    signature: {{ {signature} }}\n    {FIELDS}\n    \
             tenants: {{ acme: {{ secret: '{secret}' }} }}\n"
        )
    };
    let standard = format!("whsec_{}", STANDARD.encode(SECRET));
    [
        "sources:\n".to_owned(),
        webhook("hex", "scheme: hmac-sha256, headers: [X-Signature], encoding: hex, prefix: 'sha256='", SECRET),
        webhook("base64", "scheme: hmac-sha256, headers: [X-Hmac], encoding: base64", SECRET),
        webhook("standard", "scheme: standard-webhooks", &standard),
        webhook("offline", "scheme: meiqia-sign", SECRET),
        webhook("token", "scheme: token, headers: [X-Token]", SECRET),
    ]
    .concat()
}

fn hmac_sha256(bytes: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// The header lines with which a source's sender signs these bytes.
fn sign(source: &str, body: &str) -> String {
    let digest = hmac_sha256(body.as_bytes());
    match source {
        "hex" => format!("X-Signature: sha256={}\r\n", hex::encode(digest)),
        "base64" => format!("X-Hmac: {}\r\n", STANDARD.encode(digest)),
        "standard" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let digest = hmac_sha256(format!("msg_1.{now}.{body}").as_bytes());
            let signature = STANDARD.encode(digest);
            format!("webhook-id: msg_1\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,{signature}\r\n")
        }
        "offline" => {
            let mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(body.as_bytes());
            let digest = STANDARD.encode(hex::encode(mac.finalize().into_bytes()));
            format!("Authorization: meiqia_sign:{digest}\r\n")
        }
        _ => format!("X-Token: {SECRET}\r\n"),
    }
}

fn request(source: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /hooks/{source}/acme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[test]
fn each_way_to_sign_takes_what_is_signed_to_both_brokers_and_what_is_forged_to_neither() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home_of(&sources(), EVERYTHING);
    let program = home.start();
    let mut expected = BTreeSet::new();
    for source in ["hex", "base64", "standard", "offline", "token"] {
        let body = |id: &str| {
            format!(
                "{{\"n\": {{\"id\":\"{id}\"}},\"what\":\"customer.saved\",\"at\":1726824224,\
                 \"customer\":{{\"id\":\"{source}-7\",\"名\":\"鸭\\/\", \"n\":1.00e2}}}}"
            )
        };
        let (genuine, forged) = (body(&format!("{source}_1")), body(&format!("{source}_2")));
        let signed = sign(source, &genuine);
        let other = if source == "token" { "X-Token: a guess\r\n" } else { &*signed };
        assert_eq!(post(&home, &request(source, other, &forged)), 401, "{source}: signed is another body");
        assert_eq!(post(&home, &request(source, "", &genuine)), 401, "{source}: not signed");
        assert_eq!(post(&home, &request(source, &signed, &genuine)), 200, "{source}");
        assert_eq!(post(&home, &request(source, &signed, &genuine)), 200, "{source}: a re-send");
        let from = format!("/{source}/acme");
        expected.insert((from, format!("{source}_1"), format!("{source}-7"), genuine.into_bytes()));
    }
    let (mut messages, mut records) = (BTreeSet::new(), BTreeSet::new());
    wait_for("a message from each", PATIENCE, || {
        for message in line.queue.look() {
            let mark = |name: &str| message.header(name);
            let marks = (mark("cloudEvents_source"), mark("x-vendor-id"), mark("cloudEvents_subject"));
            assert!(messages.insert((marks.0, marks.1, marks.2, message.value.clone())), "twice");
        }
        (messages.len() >= expected.len()).then_some(())
    });
    wait_for("a record from each", PATIENCE, || {
        for record in line.topic.look() {
            let mark = |name: &str| record.headers[name].clone();
            let marks = (mark("ce_source"), mark("x-vendor-id"), mark("ce_subject"));
            assert!(records.insert((marks.0, marks.1, marks.2, record.value.clone())), "twice");
        }
        (records.len() >= expected.len()).then_some(())
    });
    assert_eq!((&messages, &records), (&expected, &expected));
    program.wait_for("laigu_router_rejected_total", &["reason=\"signature\""], 10.0);
    program.wait_for("laigu_router_duplicates_total", &[], 5.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was signed");
    line.end();
}
