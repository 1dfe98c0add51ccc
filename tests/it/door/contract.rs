//! Each status of the delivery contract, as a sender sees it.

use super::support::{
    KEYS, Reply, SECRET, Says, TOKEN, laigu_sign, laigu_signature, open, push_body, read_reply, read_to_end, request,
    settings, signature, source, tenant, with_sources,
};
use laigu_router::{
    config::settings::{Probe, Settings, SignatureScheme, SourceKind, Tenant},
    domain::{Secret, SourceName, Timestamp},
    ingress::{Answer, door::Door, problem::Problem},
};
use std::{sync::Arc, time::Duration};
use tokio::io::AsyncWriteExt;

fn laigu_of(settings: &mut Settings) -> &mut laigu_router::config::settings::Source {
    settings.sources.get_mut("laigu").unwrap()
}

/// A problem of this status, with its body.
fn check_problem(reply: &Reply, problem: Problem) {
    assert_eq!((reply.status, reply.body.as_str()), (problem.status(), problem.body()), "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn a_signed_push_is_stored_whole_and_answered_with_200() {
    let door = open(&settings());
    let body = push_body(1);
    let signed = laigu_sign(&body, SECRET);
    let before = Timestamp::now();
    let headers = [
        ("Laigu-Signature", signed.as_str()),
        ("Content-Type", "application/json; charset=utf-8"),
        ("User-Agent", "Go-http-client/1.1"),
        ("X-Request-Id", "r-1"),
        ("X-Api-Key", "never kept"),
    ];
    let reply = door.post("/hooks/laigu/acme", &headers, &body).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, ""), "{reply:?}");
    let events = door.store.events.lock().unwrap();
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event.body, body);
    assert_eq!((event.source.as_str(), event.tenant.as_str(), &*event.kind), ("laigu", "acme", "cus.upsert"));
    assert_eq!(event.key.as_deref(), Some("t1"));
    let id = format!("sub_{TOKEN}_1726824224_1");
    assert_eq!(event.vendor_id.as_deref(), Some(id.as_str()));
    assert_eq!(event.id_hash, KEYS.id("laigu", "acme", &id));
    assert_eq!(event.body_hash, KEYS.body(&body));
    assert_eq!(event.order, Some(KEYS.order("laigu", "acme", "t1")));
    assert_eq!(event.sent_at, Some(Timestamp::from_millis(1_726_824_224_000)));
    assert!(event.received_at >= before && event.received_at <= Timestamp::now());
    assert_eq!(event.headers.get("x-request-id"), Some("r-1"));
    assert_eq!(event.headers.get("user-agent"), Some("Go-http-client/1.1"));
    assert_eq!((event.headers.get("x-api-key"), event.headers.get("laigu-signature")), (None, None));
}

#[tokio::test]
async fn the_body_of_the_200_is_the_configured_ack() {
    let mut settings = settings();
    laigu_of(&mut settings).ack = Some(r#"{"status":"success"}"#.to_owned());
    let door = open(&settings);
    let reply = door.push(&push_body(1)).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"success"}"#));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn every_failed_authentication_is_the_same_401() {
    let door = open(&settings());
    let body = push_body(1);
    let good = laigu_sign(&body, SECRET);
    let other = laigu_sign(&body, "other");
    for headers in [
        vec![],
        vec![("Laigu-Sign", "")],
        vec![("Laigu-Sign", other.as_str())],
        vec![("Laigu-Sign", good.as_str()), ("Meiqia-Sign", other.as_str())],
        vec![("Laigu-Sign", good.as_str()), ("Meiqia-Sign", "")],
        vec![("Laigu-Sign", good.as_str()), ("laigu-sign", good.as_str())],
    ] {
        check_problem(&door.post("/hooks/laigu/acme", &headers, &body).await, Problem::Signature);
    }
    assert_eq!((door.stored(), door.rejected(Problem::Signature)), (0, 6));
}

#[tokio::test]
async fn an_unknown_source_tenant_or_path_is_404() {
    let door = open(&settings());
    for path in
        ["/", "/hooks", "/hooks/", "/hooks/nobody", "/hooks/laigu/nobody", "/hooks/laigu/acme/x", "/hooks/a/b/c/d"]
    {
        check_problem(&door.post(path, &[], b"{}").await, Problem::NotFound);
        check_problem(&door.send(&request("GET", path, &[], b"")).await, Problem::NotFound);
    }
}

#[tokio::test]
async fn get_and_head_on_a_hook_url_are_200_and_other_methods_405() {
    let door = open(&settings());
    for path in ["/hooks/laigu", "/hooks/laigu/", "/hooks/laigu/acme", "/hooks/laigu/acme?echostr=1"] {
        assert_eq!(door.send(&request("GET", path, &[], b"")).await.status, 200);
    }
    let mut stream = door.connect().await;
    stream.write_all(b"HEAD /hooks/laigu HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut stream).await.starts_with(b"HTTP/1.1 200"));
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let reply = door.send(&request(method, "/hooks/nobody", &[], b"")).await;
        check_problem(&reply, Problem::Method);
        assert_eq!(reply.header("allow"), Some("GET, HEAD, POST"));
    }
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn a_compressed_body_is_415_before_the_source_is_looked_for() {
    let door = open(&settings());
    for encoding in ["gzip", "GZIP", "br", "identity, gzip", "zstd"] {
        let reply = door.post("/hooks/nobody", &[("Content-Encoding", encoding)], b"x").await;
        check_problem(&reply, Problem::Encoding);
    }
    let body = push_body(1);
    let signed = laigu_sign(&body, SECRET);
    let headers = [("Content-Encoding", "identity"), ("Laigu-Sign", signed.as_str())];
    assert_eq!(door.post("/hooks/laigu", &headers, &body).await.status, 200);
}

#[tokio::test]
async fn a_body_of_another_tenant_is_403_once_its_signature_is_right() {
    let door = open(&settings());
    let body = String::from_utf8(push_body(1)).unwrap().replace(TOKEN, "ffffffffffffffffffffffffffffffff");
    check_problem(&door.push(body.as_bytes()).await, Problem::Tenant);
    check_problem(&door.post("/hooks/laigu/acme", &[], body.as_bytes()).await, Problem::Signature);
    // The tenant is looked at before the id.
    let nameless = br#"{"enterprise_token":"ffffffffffffffffffffffffffffffff"}"#;
    check_problem(&door.push(nameless).await, Problem::Tenant);
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn a_genuine_push_that_cannot_be_read_is_kept_and_answered_with_200() {
    let door = open(&settings());
    let deep = format!(r#"{{"id":"1","event":"e","body":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    let bodies: [&[u8]; 9] = [
        b"",
        b"{}",
        b"[]",
        b"not json",
        b"\xff\xfe",
        "\u{feff}{\"id\":\"1\",\"event\":\"e\"}".as_bytes(),
        br#"{"id":"1"}"#,
        br#"{"id":"1","event":"e","id":"2"}"#,
        deep.as_bytes(),
    ];
    for body in bodies {
        let reply = door.push(body).await;
        assert_eq!(reply.status, 200, "{:?}", String::from_utf8_lossy(body));
    }
    let events = door.store.events.lock().unwrap();
    for (event, body) in events.iter().zip(bodies) {
        assert_eq!(event.body, body);
        assert_eq!((&*event.kind, &event.vendor_id, &event.key, event.order), ("", &None, &None, None));
        assert_eq!((event.id_hash, event.body_hash), (KEYS.body(body), KEYS.body(body)));
    }
    assert_eq!(events.len(), bodies.len());
}

/// An unsigned source `kefu` with the tenant `acme`, whose URL ends in a secret.
fn unsigned() -> Settings {
    let acme = Tenant { path_secret: Some(Secret::new("s/cret key".to_owned())), ..tenant(&[]) };
    let source = source(SourceKind::EasemobKefu, signature(SignatureScheme::None, &[]), vec![("acme", acme)]);
    with_sources(vec![("kefu", source)])
}

#[tokio::test]
async fn an_unsigned_source_is_known_by_the_secret_in_its_path() {
    let door = open(&unsigned());
    let body = include_bytes!("../../fixtures/easemob_session_closed.json");
    for path in
        ["/hooks/kefu", "/hooks/kefu/acme", "/hooks/kefu/acme/", "/hooks/kefu/acme/wrong", "/hooks/kefu/nobody/x"]
    {
        check_problem(&door.post(path, &[], body).await, Problem::NotFound);
    }
    assert_eq!(door.post("/hooks/kefu/acme/s%2Fcret%20key", &[], body).await.status, 200);
    assert_eq!(door.store.events.lock().unwrap()[0].key.as_deref(), Some("3d1a9f80-6dd9-11e6-8f1c-0242ac110003"));
}

#[tokio::test]
async fn what_is_no_event_is_400_where_nothing_is_signed() {
    let door = open(&unsigned());
    for body in [&b""[..], b"{}", b"[]", b"x", br#"{"eventId":"1"}"#] {
        check_problem(&door.post("/hooks/kefu/acme/s%2Fcret%20key", &[], body).await, Problem::Json);
    }
    assert_eq!(door.stored(), 0);
}

#[tokio::test]
async fn an_empty_probe_is_answered_as_the_source_says_and_never_an_event() {
    let mut settings = settings();
    for (probe, expected) in [(Probe::Reject, 401), (Probe::Accept, 200)] {
        laigu_of(&mut settings).probe = probe;
        let door = open(&settings);
        for body in [&b""[..], b"{}", b" { } \n"] {
            assert_eq!(door.post("/hooks/laigu", &[], body).await.status, expected);
        }
        assert_eq!(door.post("/hooks/laigu", &[("Laigu-Sign", "0")], b"{}").await.status, 401);
        assert_eq!(door.post("/hooks/laigu", &[], br#"{"id":"1"}"#).await.status, 401);
        assert_eq!(door.stored(), 0);
    }
}

#[tokio::test]
async fn only_listed_addresses_are_taken() {
    let mut settings = settings();
    settings.server.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let acme = laigu_of(&mut settings).tenants.get_mut("acme").unwrap();
    acme.allow_from = vec!["9.9.9.0/24".parse().unwrap()];
    let door = open(&settings);
    let body = push_body(1);
    let signed = laigu_sign(&body, SECRET);
    for (hops, status) in
        [("9.9.9.1", 200), ("8.8.8.8, 9.9.9.1", 200), ("9.9.9.1, 8.8.8.8", 403), ("?", 403), ("", 403)]
    {
        let headers = [("Laigu-Sign", signed.as_str()), ("X-Forwarded-For", hops)];
        assert_eq!(door.post("/hooks/laigu", &headers, &body).await.status, status, "{hops}");
    }
    // The address is looked at before the signature, and without a proxy the header says nothing.
    check_problem(&door.post("/hooks/laigu/acme", &[], &body).await, Problem::Address);
    settings.server.trusted_proxies.clear();
    door.door.store(Arc::new(Door::new(&settings, KEYS).unwrap()));
    let headers = [("Laigu-Sign", signed.as_str()), ("X-Forwarded-For", "9.9.9.1")];
    check_problem(&door.post("/hooks/laigu", &headers, &body).await, Problem::Address);
}

/// `laigu` with `acme` and `beta`, each with a token and a secret of its own, and `gamma` without a token.
fn several() -> Settings {
    let with_token =
        |token: &str, secret: &str| Tenant { enterprise_token: Some(token.to_owned()), ..tenant(&[secret]) };
    let tenants = vec![
        ("acme", with_token("a", "secret-a")),
        ("beta", with_token("b", "secret-b")),
        ("gamma", tenant(&["secret-c"])),
    ];
    with_sources(vec![("laigu", source(SourceKind::Laigu, laigu_signature(), tenants))])
}

#[tokio::test]
async fn a_url_without_a_tenant_finds_it_by_the_body_and_then_its_secret_must_verify() {
    let door = open(&several());
    for (body, secret, expected) in [
        (r#"{"id":"1","event":"e","enterprise_token":"a"}"#, "secret-a", Ok("acme")),
        (r#"{"id":"1","event":"e","enterprise_token":"b"}"#, "secret-b", Ok("beta")),
        (r#"{"id":"1","event":"e","enterprise_token":"b"}"#, "secret-a", Err(401)),
        (r#"{"id":"1","event":"e","enterprise_token":"?"}"#, "secret-c", Ok("gamma")),
        (r#"{"id":"1","event":"e","enterprise_token":"?"}"#, "secret-a", Err(403)),
        (r#"{"id":"1","event":"e","enterprise_token":"?"}"#, "wrong", Err(401)),
        (r#"{"id":"1","event":"e"}"#, "secret-b", Ok("beta")),
        ("not json", "secret-b", Ok("beta")),
        ("not json", "wrong", Err(401)),
    ] {
        let signed = laigu_sign(body.as_bytes(), secret);
        let reply = door.post("/hooks/laigu", &[("Laigu-Sign", &signed)], body.as_bytes()).await;
        let stored = door.store.events.lock().unwrap().pop();
        assert_eq!(reply.status, expected.err().unwrap_or(200), "{body} {secret}");
        assert_eq!(stored.as_ref().map(|event| event.tenant.as_str()), expected.ok(), "{body} {secret}");
    }
    // What the URL says needs no token in the body.
    let body = br#"{"id":"1","event":"e"}"#;
    let signed = laigu_sign(body, "secret-a");
    assert_eq!(door.post("/hooks/laigu/acme", &[("Laigu-Sign", &signed)], body).await.status, 200);
    assert_eq!(door.post("/hooks/laigu/beta", &[("Laigu-Sign", &signed)], body).await.status, 401);
}

#[tokio::test]
async fn a_tenant_with_a_path_secret_is_not_found_by_its_body() {
    let mut settings = several();
    let beta = laigu_of(&mut settings).tenants.get_mut("beta").unwrap();
    beta.path_secret = Some(Secret::new("hidden".to_owned()));
    let door = open(&settings);
    let body = br#"{"id":"1","event":"e","enterprise_token":"b"}"#;
    let signed = laigu_sign(body, "secret-b");
    for (path, status) in [("/hooks/laigu", 401), ("/hooks/laigu/beta", 404), ("/hooks/laigu/beta/hidden", 200)] {
        assert_eq!(door.post(path, &[("Laigu-Sign", &signed)], body).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn tenants_with_one_secret_are_never_guessed() {
    let tenants = vec![("acme", tenant(&["same"])), ("beta", tenant(&["same"]))];
    let door = open(&with_sources(vec![("laigu", source(SourceKind::Laigu, laigu_signature(), tenants))]));
    let body = br#"{"id":"1","event":"e"}"#;
    let signed = laigu_sign(body, "same");
    assert_eq!(door.post("/hooks/laigu", &[("Laigu-Sign", &signed)], body).await.status, 401);
}

#[tokio::test]
async fn a_store_that_cannot_take_it_is_503_with_a_time_to_come_back() {
    let door = open(&settings());
    let full = Answer::Full { retry_after: Duration::from_millis(7_200) };
    for (says, problem, retry_after) in [
        (Says::Busy, Problem::Busy, "1"),
        (Says::Answer(full), Problem::Full, "8"),
        (Says::Answer(Answer::Stopped), Problem::Stopped, "5"),
        (Says::Nothing, Problem::Stopped, "5"),
    ] {
        door.say(says);
        let reply = door.push(&push_body(1)).await;
        check_problem(&reply, problem);
        assert_eq!(reply.header("retry-after"), Some(retry_after), "{says:?}");
        assert!(door.rejected(problem) > 0);
    }
    door.say(Says::Answer(Answer::Duplicate));
    assert_eq!(door.push(&push_body(1)).await.status, 200);
}

#[tokio::test]
async fn a_panic_is_500_and_the_door_stays_open() {
    let door = open(&settings());
    door.say(Says::Panic);
    let reply = door.push(&push_body(1)).await;
    check_problem(&reply, Problem::Internal);
    assert_eq!(reply.header("connection"), Some("close"));
    door.say(Says::Answer(Answer::Stored));
    assert_eq!(door.push(&push_body(2)).await.status, 200);
}

#[tokio::test]
async fn a_reload_changes_the_door_between_two_requests_of_one_connection() {
    let mut settings = settings();
    let door = open(&settings);
    let mut stream = door.connect().await;
    let body = push_body(1);
    let headers = [("Laigu-Sign", laigu_sign(&body, SECRET))];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    stream.write_all(&request("POST", "/hooks/laigu", &headers, &body)).await.unwrap();
    assert_eq!(read_reply(&mut stream).await.map(|reply| reply.status), Some(200));
    let laigu = settings.sources.remove("laigu").unwrap();
    settings.sources.insert(SourceName::parse("renamed").unwrap(), laigu);
    door.door.store(Arc::new(Door::new(&settings, KEYS).unwrap()));
    for (path, status) in [("/hooks/renamed", 200), ("/hooks/laigu", 404)] {
        stream.write_all(&request("POST", path, &headers, &body)).await.unwrap();
        assert_eq!(read_reply(&mut stream).await.map(|reply| reply.status), Some(status));
    }
}
