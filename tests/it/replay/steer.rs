//! Operators: pause, resume, cancel, discard; who may, and what the audit says of it.

use super::{
    OUT, call, edit, get, home_with_expired, job, letters, lines, post, preview, push, replay, until, wait_for_letters,
};
use crate::{
    cli::{json as cli_json, run, said},
    crash::push::SOURCES,
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn a_paused_job_stays_paused_over_a_restart_and_goes_on_where_it_was() {
    let (home, program) = home_with_expired(200);
    let id = replay(&home, json!({"filter": {}, "rate": "100/s"}));
    wait_for("some are sent", PATIENCE, || (job(&home, &id)["delivered"].as_u64().unwrap() >= 10).then_some(()));
    let paused = post(&home, &format!("replays/{id}/pause"), Value::Null);
    assert_eq!(paused["state"], "paused");
    let delivered = job(&home, &id)["delivered"].as_u64().unwrap();
    let written = lines(&home, "out").len();
    assert!(delivered < 200, "{delivered}");
    program.kill();
    let program = home.start();
    let seen = job(&home, &id);
    assert_eq!((&seen["state"], seen["delivered"].as_u64().unwrap()), (&json!("paused"), delivered));
    // A reload wakes nobody.
    edit(&home, "max_age: 1s", "max_age: 2s");
    assert_eq!(lines(&home, "out").len(), written);
    // It may have to wait for its turn.
    let resumed = post(&home, &format!("replays/{id}/resume"), Value::Null);
    assert!(["running", "queued"].contains(&resumed["state"].as_str().unwrap()), "{resumed}");
    let done = until(&home, &id, "done");
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(200), &json!(0)));
    let all = lines(&home, "out");
    let ids: BTreeSet<_> = all.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!((all.len(), ids.len()), (200, 200), "a pause repeats nothing");
    assert_eq!(call(&home, "POST", &format!("replays/{id}/pause"), &Value::Null, "none").0, 409);
    assert_eq!(call(&home, "GET", "replays/rep_00000000000fff00", &Value::Null, "none").0, 404);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_cancelled_job_gives_back_what_it_did_not_send() {
    let (home, program) = home_with_expired(200);
    let id = replay(&home, json!({"filter": {}, "rate": "50/s"}));
    wait_for("some are sent", PATIENCE, || (job(&home, &id)["delivered"].as_u64().unwrap() >= 5).then_some(()));
    assert_eq!(preview(&home, json!({"filter": {}}))["matched"], 0, "the job has them all");
    let cancelled = post(&home, &format!("replays/{id}/cancel"), Value::Null);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let sent = usize::try_from(cancelled["delivered"].as_u64().unwrap()).unwrap();
    assert_eq!((lines(&home, "out").len(), letters(&home, "").len()), (sent, 200 - sent));
    let id = replay(&home, json!({"filter": {}}));
    assert_eq!(until(&home, &id, "done")["delivered"], 200 - sent);
    assert_eq!(lines(&home, "out").len(), 200);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn what_is_discarded_is_not_replayed_and_the_audit_says_who_did_what() {
    let (home, program) = home_with_expired(5);
    let dead = letters(&home, "");
    let ids: Vec<_> = dead.iter().take(2).map(|letter| letter["id"].clone()).collect();
    let body = json!({"ids": ids});
    assert_eq!(call(&home, "POST", "dead-letters/discard", &body, "none").0, 400, "a reason is compulsory");
    assert_eq!(post(&home, "dead-letters/discard", json!({"ids": ids, "dry_run": true}))["matched"], 2);
    let done = post(&home, "dead-letters/discard", json!({"ids": ids, "reason": "tests of the vendor"}));
    assert_eq!(done["discarded"], 2);
    assert_eq!(wait_for_letters(&home, 3).len(), 3);
    let id = replay(&home, json!({"filter": {}}));
    assert_eq!(until(&home, &id, "done")["delivered"], 3);
    assert_eq!(lines(&home, "out").len(), 3);
    let audit = get(&home, "audit?limit=100");
    let lines: Vec<_> = audit["items"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap()).collect();
    for words in [
        "pause destination out",
        "resume destination out",
        "discard begins: ",
        "discard done: 2 discarded: tests of the vendor",
        &format!("replay {id} begins: "),
        &format!("replay {id} is done: 3 matched, 3 delivered, 0 failed"),
    ] {
        assert!(lines.iter().any(|line| line.starts_with(words)), "{words} is not in {lines:#?}");
    }
    assert!(audit["items"].as_array().unwrap().iter().all(|line| line["who"] == "anyone"));
    let page = get(&home, "audit?limit=1");
    let next = page["next"].as_str().unwrap();
    assert_ne!(get(&home, &format!("audit?limit=1&cursor={next}"))["items"], page["items"]);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_viewer_may_look_and_not_replay_and_an_operator_is_named() {
    let (home, program) = home_with_expired(1);
    let tokens = "shutdown_delay: 0s\n  admin_tokens:\n    - { name: eye, role: viewer, token: eye-token-of-the-test }\n    \
                  - { name: hand, role: operator, token: hand-token-of-the-test }";
    edit(&home, "shutdown_delay: 0s", tokens);
    let body = json!({"filter": {}});
    for path in ["replays", "dead-letters/discard", "replays/rep_0000000000000100/cancel"] {
        assert_eq!(call(&home, "POST", path, &body, "eye-token-of-the-test").0, 403, "{path}");
        assert_eq!(call(&home, "POST", path, &body, "a-token-of-nobody").0, 401, "{path}");
    }
    assert_eq!(call(&home, "GET", "replays", &Value::Null, "eye-token-of-the-test").0, 200);
    let (status, job) = call(&home, "POST", "replays", &body, "hand-token-of-the-test");
    assert_eq!((status, &job["created_by"]), (201, &json!("hand")));
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn the_command_line_previews_replays_and_discards() {
    let (home, program) = home_with_expired(6);
    let text = said(&home, &["replay", "--all", "--dry-run"]);
    assert!(text.starts_with("6 deliveries would be made") && text.contains("all"), "{text}");
    let output = run(&home, &["replay"]);
    assert_eq!(output.status.code(), Some(1), "nothing is chosen by saying nothing");
    let first = letters(&home, "")[0]["id"].as_str().unwrap().to_owned();
    let text = said(&home, &["replay", &first]);
    assert!(text.contains("done") && text.contains("delivered    1"), "{text}");
    let text = said(&home, &["dead-letters", "discard", "--key", "k3", "--reason", "known"]);
    assert_eq!(text, "1 dead letters are discarded\n");
    let audit = said(&home, &["audit", "--limit", "2"]);
    let mut rows = audit.lines().skip(1);
    let [newest, before, more] = std::array::from_fn(|_| rows.next().unwrap_or_default());
    assert!(newest.contains("anyone") && newest.ends_with("discard done: 1 discarded: known"), "{audit}");
    assert!(before.contains("discard begins: "), "{audit}");
    let older = said(&home, &[&["audit"], &*more.split(' ').skip(2).collect::<Vec<_>>()].concat());
    assert!(older.contains("pause destination out") && !older.contains("discard"), "{audit}{older}");
    assert_eq!(cli_json(&home, &["audit", "--limit", "1"])["items"][0]["who"], "anyone");
    let job = cli_json(&home, &["replay", "--cause", "expired", "--rate", "100/s"]);
    let id = job["id"].as_str().unwrap();
    until(&home, id, "done");
    let list = said(&home, &["replay", "list"]);
    assert!(list.contains(id) && list.contains("anyone"), "{list}");
    assert_eq!(cli_json(&home, &["replay", "show", id])["delivered"], 4);
    let event = lines(&home, "out").iter().find(|line| line["xreplay"] == id).unwrap()["id"].clone();
    let shown = cli_json(&home, &["events", "show", event.as_str().unwrap()]);
    let steps = shown["timeline"].as_array().unwrap().clone();
    let replayed = steps.iter().find(|step| step["what"] == "replayed").unwrap_or_else(|| panic!("{steps:?}"));
    assert!(replayed["detail"].as_str().unwrap().starts_with(id), "{replayed}");
    assert_eq!(shown["state"], "delivered");
    assert_eq!(run(&home, &["replay", "cancel", id]).status.code(), Some(1));
    assert_eq!(lines(&home, "out").len(), 5);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_key_held_by_a_dead_letter_goes_on_when_that_is_replayed_or_discarded() {
    let routes = "retry: { max_age: 1s }\nroutes:\n  - { name: all, on_dead: park, to: [out] }\n";
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{OUT}{routes}"));
    let program = home.start();
    post(&home, "destinations/out/pause", Value::Null);
    for (id, key) in ["first", "first", "second", "second"].into_iter().enumerate() {
        push(&home, id, key, &format!("\"n\":{id}"));
    }
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    post(&home, "destinations/out/resume", Value::Null);
    // The first of each key is dead, the other waits behind it.
    let dead = wait_for_letters(&home, 2);
    program.wait_for("laigu_router_parked_keys", &["out"], 2.0);
    edit(&home, "max_age: 1s", "max_age: 1h");
    assert!(lines(&home, "out").is_empty());
    let numbers = || lines(&home, "out").iter().map(|line| line["data"]["body"]["n"].as_u64().unwrap()).collect();
    let id = replay(&home, json!({"filter": {"key": "first"}}));
    until(&home, &id, "done");
    wait_for("the one behind it", PATIENCE, || Some(numbers()).filter(|all: &Vec<u64>| *all == [0, 1]));
    let second = dead.iter().map(|letter| letter["id"].clone());
    let second: Vec<_> = second.filter(|id| letters(&home, "").iter().any(|left| left["id"] == *id)).collect();
    let done = post(&home, "dead-letters/discard", json!({"ids": second, "reason": "not wanted"}));
    assert_eq!(done["discarded"], 1);
    wait_for("the one behind that", PATIENCE, || Some(numbers()).filter(|all: &Vec<u64>| *all == [0, 1, 3]));
    program.wait_for("laigu_router_parked_keys", &["out"], 0.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
