//! Laigu's client: what it reads, how it pages, what each error number leads to.

use super::{api, past, sandbox, secret};
use futures_util::TryStreamExt;
use laigu_router::{
    config::settings::{Credentials, Rate},
    domain::Timestamp,
    sandbox::{
        Sandbox,
        faults::{Endpoint, Fault},
        world::is_customer,
    },
    vendors::{
        action::Action,
        http,
        laigu::api::{
            Api, Listing,
            error::{ApiError, Asked, Errno, Trap, classify},
            pull::Pull,
            records::Listed,
            window::{Paging, TimeFormat, Window},
        },
    },
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

const TOKEN: &str = "sandbox-access-token";

fn bearer() -> Credentials {
    Credentials::Bearer(secret(TOKEN))
}

fn app_sign() -> Credentials {
    Credentials::AppSign { app_id: secret("sandbox-app-id"), sign: secret("sandbox-sign") }
}

fn client_with(sandbox: &Sandbox, credentials: Credentials, paging: Paging) -> Api {
    Api::new(&api(&sandbox.url(), credentials), 104, http::Options::default(), paging).unwrap()
}

fn client(sandbox: &Sandbox) -> Api {
    client_with(sandbox, bearer(), Paging::default())
}

/// Every key a pull gives, and how many records that were.
async fn keys<T: Listed>(mut pull: Pull<T>) -> (BTreeSet<String>, usize) {
    let (mut keys, mut records) = (BTreeSet::new(), 0);
    while let Some(page) = pull.next_page().await.unwrap() {
        records += page.records.len();
        keys.extend(page.records.iter().map(|record| record.typed.key().unwrap().to_owned()));
    }
    (keys, records)
}

fn ended(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.with_world(|world| {
        world.conversations.iter().filter(|row| row.ended.is_some()).map(|row| row.id.clone()).collect()
    })
}

fn customers(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.with_world(|world| world.clients.iter().filter(|row| is_customer(row)).map(|row| row.id.clone()).collect())
}

#[tokio::test]
async fn a_conversation_is_read_by_its_id_with_its_own_bytes_beside() {
    let sandbox = sandbox(|_| {}).await;
    let row = sandbox.with_world(|world| world.conversations[7].clone());
    for credentials in [bearer(), app_sign()] {
        let record = client_with(&sandbox, credentials, Paging::default()).conversation(&row.id).await.unwrap();
        assert_eq!(record.typed.conv_id.as_deref(), Some(row.id.as_str()));
        assert_eq!(record.typed.enterprise_id.as_deref(), Some("104"));
        assert_eq!(record.typed.conv_agent_msg_count, Some(3));
        assert_eq!(record.typed.conv_start_tm.unwrap().instant, row.created);
        let raw: serde_json::Map<_, _> = serde_json::from_slice(&record.raw).unwrap();
        assert_eq!(raw, row.json);
    }
}

#[tokio::test]
async fn a_conversation_that_is_not_there_may_come_yet() {
    let sandbox = sandbox(|_| {}).await;
    let error = client(&sandbox).conversation("1").await.unwrap_err();
    assert!(matches!(error, ApiError::NotFound));
    assert_eq!(classify(&error), Action::AwaitThenMissing);
    assert_eq!(sandbox.calls(Endpoint::Conversation), 1);
}

#[tokio::test]
async fn for_a_hostile_id_no_call_is_made() {
    let sandbox = sandbox(|_| {}).await;
    for id in ["", "..", "../clients", "%2e%2e", "7?x=1", "7#", "//evil", "7/8", "七"] {
        let error = client(&sandbox).conversation(id).await.unwrap_err();
        assert!(matches!(error, ApiError::Http(http::Error::Refused(_))), "{id}: {error:?}");
        assert_eq!(classify(&error), Action::GiveUp);
    }
    assert!(sandbox.faults().all_calls().is_empty());
}

#[tokio::test]
async fn every_list_gives_exactly_what_is_there_in_both_ways_of_signing_in() {
    let sandbox = sandbox(|_| {}).await;
    for credentials in [bearer(), app_sign()] {
        let paging = Paging { slice: Duration::from_secs(6 * 3600), ..Paging::default() };
        let client = client_with(&sandbox, credentials, paging);
        let range = past(&sandbox);
        assert_eq!(keys(client.conversations(range)).await.0, ended(&sandbox));
        assert_eq!(keys(client.conversations_v1(range)).await.0, ended(&sandbox));
        assert_eq!(keys(client.clients_created(range)).await.0, customers(&sandbox));
        assert_eq!(keys(client.clients_updated(range)).await.0, customers(&sandbox));
    }
}

#[tokio::test]
async fn every_way_of_writing_times_selects_the_same_records() {
    let sandbox = sandbox(|_| {}).await;
    for format in [TimeFormat::Seconds, TimeFormat::Microseconds, TimeFormat::Rfc3339, TimeFormat::UnixSeconds] {
        let client = client_with(&sandbox, bearer(), Paging { format, ..Paging::default() });
        assert_eq!(keys(client.clients_updated(past(&sandbox))).await.0, customers(&sandbox), "{format:?}");
    }
}

#[tokio::test]
async fn a_stream_gives_the_records_one_by_one_and_asks_only_as_far_as_it_is_read() {
    let sandbox = sandbox(|_| {}).await;
    let paging = Paging { slice: Duration::from_secs(12 * 3600), ..Paging::default() };
    let client = client_with(&sandbox, bearer(), paging);
    let mut stream = Box::pin(client.clients_updated(past(&sandbox)).records());
    for _ in 0..20 {
        stream.try_next().await.unwrap().unwrap();
    }
    assert_eq!(sandbox.calls(Endpoint::ClientsUpdated), 1);
    let rest: Vec<_> = stream.try_collect().await.unwrap();
    assert!(rest.len() + 20 >= customers(&sandbox).len());
}

#[tokio::test]
async fn a_burst_of_changes_costs_a_call_for_each_twenty() {
    let sandbox = sandbox(|_| {}).await;
    let now = sandbox.options().plan.now;
    let burst = now.plus(Duration::from_secs(60));
    let changed: Vec<_> = customers(&sandbox).into_iter().take(130).collect();
    sandbox.with_world(|world| changed.iter().for_each(|id| assert!(world.touch_client(id, burst))));
    let window = Window { from: now.plus(Duration::from_secs(1)), to: burst.plus(Duration::from_secs(1)) };
    let (found, records) = keys(client(&sandbox).clients_updated(window)).await;
    assert_eq!((found.len(), records), (130, 130));
    assert!(sandbox.calls(Endpoint::ClientsUpdated) <= 130_u64.div_ceil(20) + 1);
}

#[tokio::test]
async fn a_window_too_wide_is_halved_and_nothing_is_lost() {
    let sandbox = sandbox(|options| options.window_max = Duration::from_secs(2 * 3600)).await;
    let paging = Paging { slice: Duration::from_secs(12 * 3600), ..Paging::default() };
    let client = client_with(&sandbox, bearer(), paging);
    let mut pull = client.conversations(past(&sandbox));
    let mut halved = 0;
    let mut found = BTreeSet::new();
    loop {
        match pull.next_page().await {
            Ok(None) => break,
            Ok(Some(page)) => found.extend(page.records.into_iter().filter_map(|record| record.typed.conv_id)),
            Err(stopped) => {
                assert_eq!(stopped.action, Action::HalveWindow, "{stopped}");
                halved += 1;
            }
        }
    }
    // 12 h, 6 h, 3 h are too wide, and an hour and a half with its second of overlap is not.
    assert_eq!((found, halved), (ended(&sandbox), 3));
    assert_eq!(pull.drained_to(), past(&sandbox).to);
}

#[tokio::test]
async fn a_page_token_that_went_stale_restarts_the_window_and_nothing_is_lost() {
    let sandbox = sandbox(|_| {}).await;
    let paging = Paging { slice: Duration::from_secs(12 * 3600), ..Paging::default() };
    let client = client_with(&sandbox, bearer(), paging);
    let mut pull = client.clients_updated(past(&sandbox));
    let first = pull.next_page().await.unwrap().unwrap();
    assert!(!first.next_page_token.is_empty());
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, Fault::Errno(10016));
    let stopped = pull.next_page().await.unwrap_err();
    assert_eq!(stopped.action, Action::RestartWindow);
    assert!(matches!(stopped.source, ApiError::Refused { asked: Asked::WithToken, .. }));
    assert_eq!(pull.next_page().await.unwrap().unwrap().records, first.records);
    assert!(keys(pull).await.0.len() + 20 >= customers(&sandbox).len());
}

/// An answer of a V2 list that the stand-in would not give by itself.
fn page(records: &str, token: &str) -> Fault {
    let body = format!(r#"{{"errno":0,"errmsg":"","result":[{records}],"next_page_token":{token}}}"#);
    Fault::Raw(200, "application/json", body)
}

#[tokio::test]
async fn a_list_that_would_never_end_is_noticed() {
    for (answers, expected) in [
        (vec![page(r#"{"track_id":"a"}"#, r#""t""#), page(r#"{"track_id":"b"}"#, r#""t""#)], Trap::TokenRepeated),
        (vec![page("", r#""t""#)], Trap::EmptyPage),
    ] {
        let sandbox = sandbox(|_| {}).await;
        let rounds = answers.len();
        for fault in answers.iter().chain(&answers).cloned() {
            sandbox.faults().plan(Endpoint::ClientsUpdated, 1, fault);
        }
        let range =
            Window { from: sandbox.options().plan.now, to: sandbox.options().plan.now.plus(Duration::from_secs(60)) };
        let mut pull = client(&sandbox).clients_updated(range);
        for last in [Action::RestartWindow, Action::GiveUp] {
            for _ in 1..rounds {
                pull.next_page().await.unwrap().unwrap();
            }
            let stopped = pull.next_page().await.unwrap_err();
            assert!(matches!(stopped.source, ApiError::Paging(trap) if trap == expected), "{stopped:?}");
            assert_eq!(stopped.action, last);
            assert_eq!(pull.drained_to(), range.from, "no watermark passes a window that was not drained");
        }
    }
}

#[tokio::test]
async fn a_missing_token_ends_a_list_and_one_with_odd_characters_survives() {
    let sandbox = sandbox(|_| {}).await;
    let range =
        Window { from: sandbox.options().plan.now, to: sandbox.options().plan.now.plus(Duration::from_secs(60)) };
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, page(r#"{"track_id":"a"}"#, "null"));
    assert_eq!(keys(client(&sandbox).clients_updated(range)).await.1, 1);
    // The stand-in has never given out this token: that it says so proves that it got a token at all.
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, page(r#"{"track_id":"a"}"#, r#""a+b/=&? 会""#));
    let mut pull = client(&sandbox).clients_updated(range);
    assert_eq!(pull.next_page().await.unwrap().unwrap().next_page_token, "a+b/=&? 会");
    assert_eq!(pull.next_page().await.unwrap_err().action, Action::RestartWindow);
}

#[tokio::test]
async fn an_offset_list_keeps_to_conversations_that_ended_in_the_window() {
    let sandbox = sandbox(|_| {}).await;
    let body = r#"{"errno":0,"result":[
        {"conv_id":1,"conv_end_tm":"2024-09-20 17:30:00"},
        {"conv_id":2,"conv_end_tm":null},
        {"conv_id":3,"conv_end_tm":"2024-09-20 19:00:00"}]}"#;
    sandbox.faults().plan(Endpoint::ConversationsV1, 1, Fault::Raw(200, "application/json", body.into()));
    let time = |text| Timestamp::parse_rfc3339(text).unwrap();
    let range = Window { from: time("2024-09-20T09:00:00Z"), to: time("2024-09-20T10:00:00Z") };
    assert_eq!(keys(client(&sandbox).conversations_v1(range)).await.0, BTreeSet::from(["1".to_owned()]));
}

#[tokio::test]
async fn a_long_conversation_that_ends_late_is_found_by_the_next_window() {
    let sandbox = sandbox(|_| {}).await;
    let now = sandbox.options().plan.now;
    let open = sandbox.with_world(|world| {
        world.conversations.iter().find(|row| row.ended.is_none()).map(|row| row.id.clone()).unwrap()
    });
    let before = keys(client(&sandbox).conversations(past(&sandbox))).await.0;
    assert!(!before.contains(&open));
    sandbox.with_world(|world| world.end_conversation(&open, now.plus(Duration::from_secs(90))));
    let next = Window { from: now, to: now.plus(Duration::from_secs(3600)) };
    assert_eq!(keys(client(&sandbox).conversations(next)).await.0, BTreeSet::from([open]));
}

#[tokio::test]
async fn more_than_twenty_a_page_is_never_asked_for() {
    let sandbox = sandbox(|_| {}).await;
    let client = client_with(&sandbox, bearer(), Paging { limit: 500, ..Paging::default() });
    assert_eq!(client.paging().limit, 20);
    assert_eq!(keys(client.clients_updated(past(&sandbox))).await.0, customers(&sandbox));
}

#[tokio::test]
async fn pages_over_a_mebibyte_are_read_as_smaller_ones() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.with_world(|world| {
        for row in &mut world.conversations {
            row.json.insert("summary_content".into(), "x".repeat(200 << 10).into());
        }
    });
    let paging = Paging { slice: Duration::from_secs(6 * 3600), ..Paging::default() };
    let client = client_with(&sandbox, bearer(), paging);
    let range = past(&sandbox);
    for pull in [client.conversations(range), client.conversations_v1(range)] {
        let found: BTreeSet<String> =
            pull.records().map_ok(|record| record.typed.key().unwrap().to_owned()).try_collect().await.unwrap();
        assert_eq!(found, ended(&sandbox));
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_spoils_no_page() {
    let sandbox = sandbox(|_| {}).await;
    let rows = r#"[null, {"track_id":"half","name":"\ud83d"}, {"track_id":"whole"}]"#;
    let body = format!(r#"{{"errno":0,"result":{rows},"next_page_token":""}}"#);
    let raw = Fault::Raw(200, "application/json", body);
    for endpoint in [Endpoint::ClientsUpdated, Endpoint::AgentOnlineStats] {
        sandbox.faults().plan(endpoint, 1, raw.clone());
    }
    let (client, range) = (client(&sandbox), past(&sandbox));
    let page = client.clients_updated(range).next_page().await.unwrap().unwrap();
    assert_eq!((page.records[0].typed.track_id.as_deref(), page.records.len()), (Some("whole"), 1));
    assert_eq!(page.unreadable, 2);
    let report = client.agent_online_stats(range).await.unwrap();
    assert_eq!((report.records.len(), report.unreadable), (1, 2));
}

#[tokio::test]
async fn both_reports_are_read() {
    let sandbox = sandbox(|_| {}).await;
    let day = Window { to: sandbox.options().plan.now, from: sandbox.options().plan.now };
    for credentials in [bearer(), app_sign()] {
        let client = client_with(&sandbox, credentials, Paging::default());
        let online = client.agent_online_stats(day).await.unwrap().records;
        assert_eq!((online.len(), online[0].typed.agent_id.as_deref()), (8, Some("10000001")));
        assert!(online[0].typed.rest.is_empty());
        let service = client.agent_service(day).await.unwrap().records;
        assert_eq!((service.len(), service[2].typed.conv_cnt), (8, Some(3)));
        assert!(service[0].typed.rest.is_empty());
    }
}

#[tokio::test]
async fn every_errno_is_told_apart_on_every_endpoint() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let now = Window { from: sandbox.options().plan.now, to: sandbox.options().plan.now };
    for (number, expected) in [
        (10011, Action::OpenCircuit),
        (10012, Action::GiveUp),
        (10013, Action::GiveUp),
        (10014, Action::SlowDown),
        (10015, Action::Retry),
        (10777, Action::RetryAFew),
    ] {
        sandbox.faults().plan(None, 6, Fault::Errno(number));
        let errors = [
            client.conversation("7").await.unwrap_err(),
            client
                .offset_page::<laigu_router::vendors::laigu::api::records::Conversation>(now, 20, 0)
                .await
                .unwrap_err(),
            client
                .page::<laigu_router::vendors::laigu::api::records::Client>(Listing::ClientsUpdated, now, 20, "")
                .await
                .unwrap_err(),
            client
                .page::<laigu_router::vendors::laigu::api::records::Client>(Listing::ClientsCreated, now, 20, "t")
                .await
                .unwrap_err(),
            client.agent_online_stats(now).await.unwrap_err(),
            client.agent_service(now).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(error, ApiError::Refused { errno, .. } if errno == Errno::from_number(number)),
                "{error:?}"
            );
            assert_eq!(classify(&error), expected, "{number}");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_open_the_circuit_and_are_in_no_error() {
    let sandbox = sandbox(|_| {}).await;
    let wrong = [
        Credentials::Bearer(secret("wr0ng-t0ken")),
        Credentials::AppSign { app_id: secret("sandbox-app-id"), sign: secret("wr0ng-s1gn") },
    ];
    for credentials in wrong {
        let client = client_with(&sandbox, credentials, Paging::default());
        let error = client.conversation("7").await.unwrap_err();
        assert_eq!(classify(&error), Action::OpenCircuit);
        let said = r#"{"errno":10011,"errmsg":"bad wr0ng-t0ken wr0ng-s1gn"}"#;
        sandbox.faults().plan(None, 1, Fault::Raw(200, "application/json", said.into()));
        let error = client.conversation("7").await.unwrap_err();
        assert_eq!(error.to_string().matches("[secret]").count(), 1, "{error}");
    }
}

#[tokio::test]
async fn over_the_quota_the_rate_gives_way_and_everything_is_read_in_the_end() {
    let sandbox = sandbox(|options| options.rate = Some(Rate { count: 30, per: Duration::from_secs(1) })).await;
    let client = client(&sandbox);
    let mut pull = client.conversations(past(&sandbox));
    let mut slowed = 0;
    let mut found = BTreeSet::new();
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(30), "found {} so far", found.len());
        match pull.next_page().await {
            Ok(None) => break,
            Ok(Some(page)) => found.extend(page.records.into_iter().filter_map(|record| record.typed.conv_id)),
            Err(stopped) => {
                assert_eq!(stopped.action, Action::SlowDown);
                slowed += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!(found, ended(&sandbox));
    assert!(slowed > 0, "72 windows of an hour do not fit into a burst of 30");
}

#[tokio::test]
async fn easemobs_credentials_are_refused_at_once() {
    let sandbox = sandbox(|_| {}).await;
    let credentials = Credentials::Client { client_id: secret("a"), secret_id: secret("b") };
    assert!(Api::new(&api(&sandbox.url(), credentials), 1, http::Options::default(), Paging::default()).is_err());
}
