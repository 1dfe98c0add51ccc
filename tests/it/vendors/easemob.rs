//! Easemob KeFu's client: tokens, two ways of counting pages, every code, and changes that are never made twice.

use super::{api, sandbox, secret};
use futures_util::{TryStreamExt, future::join_all};
use laigu_router::{
    config::settings::Credentials,
    domain::Timestamp,
    sandbox::{
        Options, Sandbox,
        faults::{Endpoint, Fault},
    },
    vendors::{
        action::Action,
        easemob::api::{
            Api,
            agents::{AgentChange, NewAgent},
            error::{ApiError, Code, Intent, Trap, classify},
            sessions::{PER_PAGE_DEFAULT, SessionFilter, SortField, SortOrder, Span},
        },
        http,
    },
};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

fn credentials() -> Credentials {
    Credentials::Client { client_id: secret("sandbox-client-id"), secret_id: secret("sandbox-secret-id") }
}

fn client_with(sandbox: &Sandbox, prefix: Option<&str>, deadline: Duration) -> Api {
    let mut settings = api(&sandbox.url(), credentials());
    settings.path_prefix = prefix.map(str::to_owned);
    let options = http::Options { deadline, ..http::Options::default() };
    Api::new(&settings, "1", options).unwrap()
}

fn client(sandbox: &Sandbox) -> Api {
    client_with(sandbox, None, Duration::from_secs(10))
}

fn new_agent(username: &str) -> NewAgent {
    NewAgent {
        nicename: "小环".into(),
        username: username.into(),
        password: secret("qwe12345"),
        true_name: "王环".into(),
        mobile_phone: "013800000000".into(),
        agent_number: "007".into(),
        role_id: 1,
        max_service_session_count: 10,
    }
}

async fn agents(client: &Api, key_value: &str, size: u32) -> BTreeSet<String> {
    let mut pull = client.agents(key_value, size);
    let mut found = BTreeSet::new();
    while let Some(page) = pull.next_page().await.unwrap() {
        found.extend(page.records.into_iter().filter_map(|record| record.typed.username));
    }
    found
}

fn is_there(sandbox: &Sandbox, username: &str) -> bool {
    sandbox.with_world(|world| world.agents.iter().any(|row| row.id == username))
}

#[tokio::test]
async fn a_hundred_calls_at_once_buy_one_token() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let all = join_all((0..100).map(|_| client.roles())).await;
    assert!(all.into_iter().all(|roles| roles.unwrap().len() == 4));
    assert_eq!((sandbox.calls(Endpoint::AccessToken), sandbox.calls(Endpoint::Roles)), (1, 100));
}

#[tokio::test]
async fn a_token_is_renewed_before_it_runs_out_and_no_call_is_refused() {
    let sandbox = sandbox(|options| options.token_life = Duration::from_secs(2)).await;
    let client = client(&sandbox);
    let begun = Instant::now();
    let mut calls = 0;
    while sandbox.calls(Endpoint::AccessToken) < 2 {
        assert!(begun.elapsed() < Duration::from_secs(10), "no second token after {calls} calls");
        client.roles().await.unwrap();
        calls += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(1500), "renewed after {:?}", begun.elapsed());
    // A refused call would have been made twice.
    assert_eq!(sandbox.calls(Endpoint::Roles), calls);
}

#[tokio::test]
async fn a_voided_token_costs_one_new_token_and_one_more_call() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    client.roles().await.unwrap();
    sandbox.void_tokens();
    client.create_agent(&new_agent("new@acme.example")).await.unwrap();
    assert_eq!((sandbox.calls(Endpoint::AccessToken), sandbox.calls(Endpoint::CreateAgent)), (2, 2));
}

#[tokio::test]
async fn a_token_that_stays_invalid_is_tried_twice_and_not_for_ever() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    sandbox.faults().plan(Endpoint::Roles, u32::MAX, Fault::Code("API_002"));
    let error = client.roles().await.unwrap_err();
    assert_eq!(classify(&error, Intent::Read), Action::RenewToken);
    assert_eq!((sandbox.calls(Endpoint::AccessToken), sandbox.calls(Endpoint::Roles)), (2, 2));
}

#[tokio::test]
async fn wrong_credentials_or_a_wrong_tenant_open_the_circuit_and_are_in_no_error() {
    let sandbox = sandbox(|_| {}).await;
    let wrong = Credentials::Client { client_id: secret("wr0ng-cl1ent"), secret_id: secret("wr0ng-s3cret") };
    let client = Api::new(&api(&sandbox.url(), wrong), "1", http::Options::default()).unwrap();
    let said = r#"{"status":"FAIL","errorCode":"API_004","errorDescription":"no wr0ng-cl1ent with wr0ng-s3cret"}"#;
    sandbox.faults().plan(Endpoint::AccessToken, 1, Fault::Raw(400, "application/json", said.into()));
    for expected in ["[secret]", "clientId or secretId"] {
        let error = client.roles().await.unwrap_err();
        assert_eq!(classify(&error, Intent::Change), Action::OpenCircuit);
        let printed = format!("{error:?}");
        assert!(printed.contains(expected) && !printed.contains("wr0ng"), "{printed}");
    }
    let client = Api::new(&api(&sandbox.url(), credentials()), "2", http::Options::default()).unwrap();
    let error = client.roles().await.unwrap_err();
    assert!(
        matches!(&error, ApiError::Token(inner) if matches!(&**inner, ApiError::Refused { code: Code::TenantWrong, .. }))
    );
    assert_eq!(classify(&error, Intent::Read), Action::OpenCircuit);
}

#[tokio::test]
async fn the_samples_paths_and_the_documented_one_both_work() {
    let sandbox = sandbox(|_| {}).await;
    for prefix in [None, Some("/api/tenants/{tenant_id}"), Some("/api/platform/tenants/{tenant_id}")] {
        let client = client_with(&sandbox, prefix, Duration::from_secs(10));
        assert_eq!(client.roles().await.unwrap().len(), 4);
        assert_eq!(agents(&client, "", 40).await.len(), 25);
    }
    assert_eq!(sandbox.calls(Endpoint::Unknown), 0);
}

#[tokio::test]
async fn agents_are_counted_from_page_zero_and_the_contradicting_totals_are_not_believed() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let all: BTreeSet<_> = sandbox.with_world(|world| world.agents.iter().map(|row| row.id.clone()).collect());
    for size in [1, 5, 10, 24, 25, 26, 50] {
        assert_eq!(agents(&client, "", size).await, all, "{size} a page");
    }
    assert_eq!(agents(&client, "agent7@", 10).await, BTreeSet::from(["agent7@acme.example".to_owned()]));
}

#[tokio::test]
async fn roles_are_read_with_their_odd_times() {
    let sandbox = sandbox(|_| {}).await;
    let roles = client(&sandbox).roles().await.unwrap();
    assert_eq!(roles[2].typed.created_at.as_ref().unwrap().instant.to_string(), "2018-03-23T08:02:02.000Z");
    assert!(roles[0].typed.created_at.is_none());
}

#[tokio::test]
async fn every_change_of_an_agent_does_what_it_says() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let name = "new@acme.example";
    let made = client.create_agent(&new_agent(name)).await.unwrap();
    assert_eq!((made.typed.nicename.as_deref(), made.typed.agent_number.as_deref()), (Some("小环"), Some("007")));
    let field = |field: &str| {
        sandbox.with_world(|world| {
            let row = world.agents.iter().find(|row| row.id == name).unwrap();
            row.json[field].as_str().unwrap_or_default().to_owned()
        })
    };
    let change = AgentChange { true_name: Some("环环".into()), role_id: Some(2), ..AgentChange::default() };
    client.update_agent(name, &change).await.unwrap();
    assert_eq!((field("trueName"), field("nicename")), ("环环".into(), "小环".into()));
    client.disable_agent(name).await.unwrap();
    assert_eq!(field("status"), "Disable");
    client.enable_agent(name).await.unwrap();
    assert_eq!(field("status"), "Enable");
    client.set_password(name, &secret("longer-one")).await.unwrap();
    client.delete_agent(name).await.unwrap();
    assert!(!is_there(&sandbox, name));
}

#[tokio::test]
async fn what_the_vendor_refuses_is_told_apart() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let code = |error: ApiError| match error {
        ApiError::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    };
    let create = async |agent: NewAgent| code(client.create_agent(&agent).await.unwrap_err());
    let name = "new@acme.example";
    assert_eq!(create(NewAgent { nicename: String::new(), ..new_agent(name) }).await, Code::NicenameEmpty);
    assert_eq!(create(NewAgent { password: secret("short"), ..new_agent(name) }).await, Code::PasswordTooShort);
    assert_eq!(create(NewAgent { role_id: 99, ..new_agent(name) }).await, Code::RoleInvalid);
    assert_eq!(create(new_agent("agent1@acme.example")).await, Code::AgentExists);
    assert_eq!(create(new_agent("no address")).await, Code::ParameterInvalid);
    let missing = client.delete_agent("nobody@acme.example").await.unwrap_err();
    assert_eq!(code(missing), Code::AgentMissing);
    let short = client.set_password("agent1@acme.example", &secret("short")).await.unwrap_err();
    assert_eq!(code(short), Code::PasswordTooShort);
    let page = client.sessions_page(&SessionFilter::default(), 0, 10).await.unwrap_err();
    assert_eq!(code(page), Code::PageIndex);
    let page = client.sessions_page(&SessionFilter::default(), 1, 51).await.unwrap_err();
    assert_eq!(code(page), Code::PageSize);
}

#[tokio::test]
async fn every_code_of_the_table_arrives_typed() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    client.token().await.unwrap();
    for (wire, expected) in laigu_router::vendors::easemob::api::error::Code::ALL.map(|code| (code.clone(), code)) {
        if expected == Code::TokenInvalid {
            continue;
        }
        let wire: &'static str = Box::leak(wire.as_str().to_owned().into_boxed_str());
        sandbox.faults().plan(Endpoint::Roles, 1, Fault::Code(wire));
        let error = client.roles().await.unwrap_err();
        assert!(matches!(&error, ApiError::Refused { code, .. } if *code == expected), "{error:?}");
    }
}

#[tokio::test]
async fn a_change_is_never_repeated_when_it_may_have_been_made() {
    for fault in [
        Fault::Code("API_400"),
        Fault::Status(502),
        Fault::Hang,
        Fault::Truncated,
        Fault::Html,
        Fault::Huge,
        Fault::Garbled,
    ] {
        let sandbox = sandbox(|_| {}).await;
        let client = client_with(&sandbox, None, Duration::from_millis(800));
        client.token().await.unwrap();
        sandbox.faults().plan_after_doing(Endpoint::CreateAgent, 1, fault.clone());
        let error = client.create_agent(&new_agent("new@acme.example")).await.unwrap_err();
        assert_eq!(classify(&error, Intent::Change), Action::LookFirst, "{fault:?}: {error:?}");
        assert_eq!(sandbox.calls(Endpoint::CreateAgent), 1, "{fault:?}");
        assert!(is_there(&sandbox, "new@acme.example"), "it had been made all the while");
        assert!(!format!("{error:?}").contains("qwe12345"));
    }
}

async fn sessions(client: &Api, filter: SessionFilter, per_page: u32) -> Vec<String> {
    let stream = client.sessions(filter, per_page).records();
    stream.map_ok(|record| record.typed.service_session_id.unwrap()).try_collect().await.unwrap()
}

fn all_sessions(sandbox: &Sandbox) -> BTreeSet<String> {
    sandbox.with_world(|world| world.sessions.iter().map(|row| row.id.clone()).collect())
}

#[tokio::test]
async fn sessions_are_counted_from_page_one_oldest_first() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    for per_page in [1, 7, 23, 46, PER_PAGE_DEFAULT, 50] {
        let found = sessions(&client, SessionFilter::default(), per_page).await;
        assert_eq!(found.len(), 230, "{per_page} a page");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all_sessions(&sandbox));
    }
    let mut pull = client.sessions(SessionFilter::default(), 50);
    let first = pull.next_page().await.unwrap().unwrap();
    assert_eq!((first.records.len(), first.total), (50, Some(230)));
    let stopped = |index: usize| first.records[index].typed.stopped.as_ref().unwrap().instant;
    assert!((1..50).all(|index| stopped(index - 1) <= stopped(index)));
}

#[tokio::test]
async fn large_ids_stay_exact_in_the_view_and_in_the_bytes() {
    let sandbox = sandbox(|_| {}).await;
    let record = client(&sandbox).sessions_page(&SessionFilter::default(), 1, 1).await.unwrap().records.remove(0);
    let exact = sandbox.with_world(|world| {
        let id = record.typed.service_session_id.as_deref().unwrap();
        let row = world.sessions.iter().find(|row| row.id == id).unwrap();
        row.json["chatGroupId"].as_u64().unwrap()
    });
    assert!(exact > 1 << 53 && exact % 2 == 1, "{exact} is no integer that a float can hold");
    assert_eq!(record.typed.chat_group_id, Some(exact.to_string()));
    assert!(std::str::from_utf8(&record.raw).unwrap().contains(&format!("\"chatGroupId\":{exact}")));
    assert!(record.typed.rest.is_empty(), "{:?}", record.typed.rest);
}

#[tokio::test]
async fn pages_over_a_mebibyte_are_read_as_smaller_ones_and_a_spoiled_record_spoils_none() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let body = r#"{"status":"OK","entity":{"items":[null,{"serviceSessionId":"s"}],"total_entries":2}}"#;
    sandbox.faults().plan(Endpoint::Sessions, 1, Fault::Raw(200, "application/json", body.into()));
    let mut pull = client.sessions(SessionFilter::default(), PER_PAGE_DEFAULT);
    let page = pull.next_page().await.unwrap().unwrap();
    assert_eq!((page.records.len(), page.unreadable, pull.is_drained()), (1, 1, true));
    sandbox.with_world(|world| {
        for row in &mut world.sessions {
            row.json.insert("comment".into(), "x".repeat(50 << 10).into());
        }
    });
    let found = sessions(&client, SessionFilter::default(), PER_PAGE_DEFAULT).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), all_sessions(&sandbox));
}

#[tokio::test]
async fn fifty_a_page_becomes_forty_nine_when_the_vendor_means_less_than_fifty() {
    let sandbox = sandbox(|options| options.per_page_max = 49).await;
    let client = client(&sandbox);
    let mut pull = client.sessions(SessionFilter::default(), 50);
    assert_eq!(pull.next_page().await.unwrap_err().action, Action::ShrinkPage);
    assert_eq!(pull.next_page().await.unwrap().unwrap().records.len(), 49);
    assert_eq!(sessions(&client, SessionFilter::default(), 50).await.len(), 230);
}

#[tokio::test]
async fn fewer_a_page_than_forty_nine_is_not_shrunk_further() {
    let sandbox = sandbox(|options| options.per_page_max = 20).await;
    let mut pull = client(&sandbox).sessions(SessionFilter::default(), 49);
    assert_eq!(pull.next_page().await.unwrap_err().action, Action::GiveUp);
}

/// A page of sessions that the stand-in would not give by itself.
fn page(ids: std::ops::Range<u32>, total: u32) -> Fault {
    let items: Vec<_> = ids.map(|id| format!(r#"{{"serviceSessionId":"s{id}"}}"#)).collect();
    let body = format!(r#"{{"status":"OK","entity":{{"total_entries":{total},"items":[{}]}}}}"#, items.join(","));
    Fault::Raw(200, "application/json", body)
}

#[tokio::test]
async fn a_page_size_that_is_cut_without_a_word_loses_nothing() {
    let sandbox = sandbox(|_| {}).await;
    for (ids, total) in [(0..10, 25), (10..20, 25), (20..25, 25)] {
        sandbox.faults().plan(Endpoint::Sessions, 1, page(ids, total));
    }
    assert_eq!(sessions(&client(&sandbox), SessionFilter::default(), 40).await.len(), 25);
    assert_eq!(sandbox.calls(Endpoint::Sessions), 3);
}

#[tokio::test]
async fn a_page_number_that_is_not_looked_at_is_noticed() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.faults().plan(Endpoint::Sessions, 2, page(0..40, 100));
    let mut pull = client(&sandbox).sessions(SessionFilter::default(), 40);
    pull.next_page().await.unwrap().unwrap();
    let stopped = pull.next_page().await.unwrap_err();
    assert!(matches!(stopped.source, ApiError::Paging(Trap::PageRepeated)), "{stopped:?}");
}

#[tokio::test]
async fn filters_reach_the_vendor_encoded() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let count = |states: &[&str]| {
        let wanted: Vec<_> = states.iter().map(|state| (*state).to_owned()).collect();
        sandbox.with_world(|world| {
            world.sessions.iter().filter(|row| wanted.iter().any(|state| row.json["state"] == **state)).count()
        })
    };
    let filter = |states: &[&str]| SessionFilter {
        states: states.iter().map(|state| (*state).to_owned()).collect(),
        ..SessionFilter::default()
    };
    for states in [&["Abort"][..], &["Terminal", "Abort"][..]] {
        assert_eq!(sessions(&client, filter(states), 40).await.len(), count(states), "{states:?}");
    }
    let customer =
        sandbox.with_world(|world| world.sessions[0].json["customer"]["customerNiceName"].as_str().unwrap().to_owned());
    let filter = SessionFilter { customer_name: Some(customer), ..SessionFilter::default() };
    assert!(!sessions(&client, filter, 40).await.is_empty());
}

#[tokio::test]
async fn windows_by_the_end_select_what_ended_in_them() {
    let sandbox = sandbox(|_| {}).await;
    let client = client(&sandbox);
    let to = sandbox.options().plan.now;
    let from = Timestamp::from_millis(to.as_millis() - 86_400_000);
    let expected: BTreeSet<_> = sandbox.with_world(|world| {
        let ended = |row: &&laigu_router::sandbox::world::Row| row.ended.is_some_and(|end| from <= end && end <= to);
        world.sessions.iter().filter(ended).map(|row| row.id.clone()).collect()
    });
    assert!(!expected.is_empty() && expected.len() < 230);
    for (sort_field, sort_order) in
        [(SortField::Stopped, SortOrder::Ascending), (SortField::Created, SortOrder::Descending)]
    {
        let stopped = Span { from: Some(from), to: Some(to) };
        let filter = SessionFilter { stopped, sort_field, sort_order, ..SessionFilter::default() };
        assert_eq!(sessions(&client, filter, 40).await.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test]
async fn plain_http_off_loopback_and_laigus_credentials_are_refused_at_once() {
    let made = Api::new(&api("http://kefu.easemob.com", credentials()), "1", http::Options::default());
    assert!(matches!(made, Err(http::Error::Refused(_))));
    let laigus = Credentials::Bearer(secret("t"));
    assert!(Api::new(&api("https://kefu.easemob.com", laigus), "1", http::Options::default()).is_err());
    for tenant in ["", "../2", "1/agents", "a b"] {
        assert!(Api::new(&api("https://kefu.easemob.com", credentials()), tenant, http::Options::default()).is_err());
    }
    assert_eq!(Options::default().tenant_id, "1");
}
