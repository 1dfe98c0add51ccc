//! `api laigu …` and `api easemob …` as a person or a script runs them, against the stand-in.

use super::sandbox;
use clap::Parser;
use laigu_router::{
    cli::api::{ApiArgs, Io, run},
    config::{self, settings::Settings},
    sandbox::{
        Sandbox,
        faults::{Endpoint, Fault},
    },
};
use serde_json::Value;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    api: ApiArgs,
}

fn settings(sandbox: &Sandbox) -> Settings {
    let url = sandbox.url();
    let text = format!(
        "version: 1
sources:
  laigu:
    type: laigu
    tenants:
      acme:
        enterprise_id: 104
        secret: 0123456789abcdef0123456789abcdef
        api: {{ base_url: '{url}', access_token: sandbox-access-token, rate: 500/s }}
  kefu:
    type: easemob-kefu
    tenants:
      acme:
        tenant_id: 1
        path_secret: 0123456789abcdef0123456789abcdef
        api: {{ base_url: '{url}', client_id: sandbox-client-id, secret_id: sandbox-secret-id, rate: 500/s }}
destinations:
  archive: {{ type: file, path: ./out }}
routes:
  - {{ name: everything, to: [archive] }}
"
    );
    match config::parse(&text, Path::new("/tmp/routes.yaml"), &|_| None) {
        Ok(loaded) => loaded.settings,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// What a command line writes, or why it fails, all of it; `input` comes from a pipe.
async fn told(sandbox: &Sandbox, line: &str, input: &str) -> Result<String, String> {
    let words = std::iter::once("laigu-router").chain(line.split(' '));
    let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.api;
    let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), input.as_bytes());
    let mut io =
        Io { out: &mut out, err: &mut err, input: &mut input, err_is_terminal: false, input_is_terminal: false };
    let outcome = run(&args, &settings(sandbox), &mut io).await;
    assert!(err.is_empty(), "no progress into a pipe");
    let out = String::from_utf8(out).unwrap();
    outcome.map(|()| out).map_err(|error| format!("{error:#}"))
}

const DAY: &str = "--from 2024-09-19T09:23:42Z --to 2024-09-20T09:23:43Z";

#[tokio::test]
async fn lists_are_tables_for_people_and_a_record_a_line_for_scripts() {
    let sandbox = sandbox(|_| {}).await;
    for verb in ["conversations", "conversations --v1", "clients", "clients-updated"] {
        let table = told(&sandbox, &format!("laigu {verb} {DAY} --limit 7"), "").await.unwrap();
        assert_eq!(table.lines().count(), 8, "{table}");
        let json = told(&sandbox, &format!("laigu {verb} {DAY} --limit 7 --json"), "").await.unwrap();
        let records: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 7);
        let key = if verb.starts_with("conv") { "conv_id" } else { "track_id" };
        let shown = records[0][key].as_str().map_or_else(|| records[0][key].to_string(), str::to_owned);
        assert!(table.lines().nth(1).unwrap().starts_with(&shown), "{table}");
    }
    for verb in ["agent-online", "agent-service"] {
        assert_eq!(told(&sandbox, &format!("laigu {verb} {DAY}"), "").await.unwrap().lines().count(), 9);
        assert_eq!(told(&sandbox, &format!("laigu {verb} {DAY} --raw"), "").await.unwrap().lines().count(), 8);
    }
    for (verb, lines) in [("agents", 25), ("agents --search agent7@", 1), ("roles", 4), ("sessions --last 7d", 0)] {
        let table = told(&sandbox, &format!("easemob {verb}"), "").await.unwrap();
        assert_eq!(table.lines().count(), lines + 1, "{table}");
    }
    let sessions = told(&sandbox, &format!("easemob sessions {DAY} --state Terminal,Abort"), "").await.unwrap();
    assert!(sessions.lines().count() > 40, "{sessions}");
}

#[tokio::test]
async fn large_integers_are_texts_in_json_and_untouched_in_raw() {
    let sandbox = sandbox(|_| {}).await;
    let json = told(&sandbox, &format!("easemob sessions {DAY} --limit 1 --json"), "").await.unwrap();
    let raw = told(&sandbox, &format!("easemob sessions {DAY} --limit 1 --raw"), "").await.unwrap();
    let exact = serde_json::from_str::<Value>(&raw).unwrap()["chatGroupId"].as_u64().unwrap();
    assert!(json.contains(&format!(r#""chatGroupId":"{exact}""#)), "{json}");
    assert!(raw.contains(&format!(r#""chatGroupId":{exact}"#)), "{raw}");
}

#[tokio::test]
async fn one_conversation_is_shown_member_by_member() {
    let sandbox = sandbox(|_| {}).await;
    let shown = told(&sandbox, "laigu conversation 700000001", "").await.unwrap();
    assert!(shown.contains("conv_id: 700000001\n"), "{shown}");
    let missing = told(&sandbox, "laigu conversation 1", "").await.unwrap_err();
    assert_eq!(missing, "check the id: Laigu has no such record");
    assert_eq!(sandbox.calls(Endpoint::Conversation), 1 + 3, "asked for again, but not for ever");
}

#[tokio::test]
async fn a_passing_failure_is_passed_over_and_a_lasting_one_told_with_the_way_out() {
    let sandbox = sandbox(|_| {}).await;
    let all = told(&sandbox, &format!("laigu clients-updated {DAY} --raw"), "").await.unwrap();
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, Fault::Errno(10015));
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, Fault::Html);
    assert_eq!(told(&sandbox, &format!("laigu clients-updated {DAY} --raw"), "").await.unwrap(), all);
    sandbox.faults().plan(Endpoint::ClientsUpdated, 1, Fault::Errno(10011));
    let told = told(&sandbox, &format!("laigu clients-updated {DAY} --raw"), "").await.unwrap_err();
    assert!(told.starts_with("check the tenant's credentials in routes.yaml: "), "{told}");
    assert!(told.contains("errno 10011") && !told.contains("sandbox-access-token"), "{told}");
}

#[tokio::test]
async fn a_token_is_never_shown_whole() {
    let sandbox = sandbox(|_| {}).await;
    for line in ["easemob token", "easemob token --json"] {
        let shown = told(&sandbox, line, "").await.unwrap();
        assert!(shown.contains("7200") && shown.len() < 60, "{shown}");
    }
}

#[tokio::test]
async fn an_agent_is_changed_by_hand_and_never_without_being_sure() {
    let sandbox = sandbox(|_| {}).await;
    let there = |name: &str| sandbox.with_world(|world| world.agents.iter().any(|row| row.id == name));
    let create = "easemob agent create new@acme.example --nicename 小环 --role 1";
    assert!(told(&sandbox, create, "").await.unwrap_err().contains("no password"));
    let made = told(&sandbox, create, "qwe12345\n").await.unwrap();
    assert!(made.contains("username: new@acme.example\n") && !made.contains("qwe12345"), "{made}");
    told(&sandbox, "easemob agent update new@acme.example --true-name 王环", "").await.unwrap();
    assert!(told(&sandbox, "easemob agent update new@acme.example", "").await.is_err());
    for line in ["delete", "disable", "password"] {
        let line = format!("easemob agent {line} new@acme.example");
        let told = told(&sandbox, &line, "y-is-no-answer-here\n").await.unwrap_err();
        assert!(told.contains("--yes"), "{told}");
    }
    told(&sandbox, "easemob agent password new@acme.example --yes", "longer-one\n").await.unwrap();
    told(&sandbox, "easemob agent disable new@acme.example --yes", "").await.unwrap();
    told(&sandbox, "easemob agent enable new@acme.example", "").await.unwrap();
    assert!(there("new@acme.example"));
    assert_eq!(told(&sandbox, "easemob agent delete new@acme.example --yes", "").await.unwrap(), "done\n");
    assert!(!there("new@acme.example"));
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_told_and_not_repeated() {
    let sandbox = sandbox(|_| {}).await;
    sandbox.faults().plan_after_doing(Endpoint::DeleteAgent, 1, Fault::Code("API_400"));
    let told = told(&sandbox, "easemob agent delete agent1@acme.example --yes", "").await.unwrap_err();
    assert!(told.starts_with("the change may have been made all the same: look before you try again"), "{told}");
    assert_eq!(sandbox.calls(Endpoint::DeleteAgent), 1);
}

#[tokio::test]
async fn a_tenant_that_is_not_there_is_told() {
    let sandbox = sandbox(|_| {}).await;
    let told = told(&sandbox, "laigu conversation 7 --tenant nobody", "").await.unwrap_err();
    assert!(told.contains("no tenant with such a name"), "{told}");
    assert!(sandbox.faults().all_calls().is_empty());
}
