//! Each verb, on a running server or on a file.

use super::{TEL, command, edit, home, json, lead, push, run, said, shown};
use crate::program::{Home, PATIENCE, wait_for};
use serde_json::Value;
use std::{fs, io::Write, process::Stdio};

/// Waits for the newest event of a state; its id.
fn event_that_is(home: &Home, state: &str) -> String {
    wait_for(&format!("an event that is {state}"), PATIENCE, || {
        let list = json(home, &["events", "list", "--state", state, "--limit", "1"]);
        list["items"][0]["id"].as_str().map(ToOwned::to_owned)
    })
}

#[test]
fn a_push_is_listed_shown_and_explained() {
    let home = home();
    let _program = home.start();
    assert_eq!(push(&home, home.hooks, &lead("sub_1")), 200);
    let id = event_that_is(&home, "delivered");

    let list = said(&home, &["events", "list", "--type", "cus.upsert", "--route", "leads"]);
    assert!(list.contains(&id) && list.contains("laigu/acme") && !list.contains(TEL), "{list}");
    let none = json(&home, &["events", "list", "--type", "client.created"]);
    assert_eq!((none["items"].as_array().unwrap().len(), &none["next"]), (0, &Value::Null));

    let text = said(&home, &["events", "show", &id]);
    assert!(text.contains("138****5678") && !text.contains(TEL), "{text}");
    for step in ["received", "verified", "routed", "delivered", "leads", "archive"] {
        assert!(text.contains(step), "{step} is not in {text}");
    }
    assert!(said(&home, &["events", "show", &id, "--reveal"]).contains(TEL));
    assert_eq!(json(&home, &["events", "show", &id])["body"], lead("sub_1"));

    for subject in [id, shown(&home.path("push.json"))] {
        let text = said(&home, &["explain", &subject]);
        assert!(text.contains("leads: matches") && text.contains("to archive"), "{text}");
        assert!(text.contains("talks: does not match"), "{text}");
    }
    let routes = json(&home, &["routes"]);
    assert_eq!((&routes["items"][0]["name"], &routes["items"][0]["routed"]), (&"leads".into(), &1.into()));
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_with_its_payload() {
    let home = home();
    let _program = home.start();
    assert_eq!(push(&home, home.hooks, &format!("not JSON {TEL}")), 200);
    let event = event_that_is(&home, "dead");
    let letter = wait_for("a dead letter", PATIENCE, || {
        let list = json(&home, &["dead-letters", "list", "--cause", "unparsable", "--source", "laigu"]);
        list["items"].get(0).cloned()
    });
    assert_eq!((&letter["event_id"], &letter["destination"]), (&event.into(), &"".into()));
    let id = letter["id"].as_str().unwrap();
    let text = said(&home, &["dead-letters", "show", id]);
    assert!(text.contains("20 bytes that are no JSON; --reveal") && text.contains("unparsable"), "{text}");
    assert!(said(&home, &["dead-letters", "show", id, "--reveal"]).contains(TEL));
    assert_eq!(json(&home, &["dead-letters", "groups"])["items"][0]["count"], 1);
    for other in [["--cause", "expired"], ["--source", "kefu"], ["--destination", "archive"]] {
        let list = json(&home, &["dead-letters", "list", other[0], other[1]]);
        assert_eq!(list["items"].as_array().unwrap().len(), 0, "{other:?}");
    }
}

#[test]
fn a_paused_destination_waits_over_a_restart_until_it_is_resumed() {
    let home = home();
    let program = home.start();
    assert!(said(&home, &["destinations", "pause", "archive"]).contains("is paused"));
    let state = || json(&home, &["destinations", "list"])["items"][0]["state"].clone();
    wait_for("paused", PATIENCE, || (state() == "paused").then_some(()));
    assert_eq!(push(&home, home.hooks, &lead("sub_2")), 200);
    let id = event_that_is(&home, "delivering");
    assert!(program.terminate(PATIENCE).success());
    let _program = home.start();
    wait_for("paused again", PATIENCE, || (state() == "paused").then_some(()));
    assert_eq!(event_that_is(&home, "delivering"), id);
    said(&home, &["destinations", "resume", "archive"]);
    assert_eq!(event_that_is(&home, "delivered"), id);
    let output = run(&home, &["destinations", "pause", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_file_is_checked_with_every_mistake_at_once() {
    let home = home();
    assert!(said(&home, &["check"]).contains("1 source, 1 destination, 2 routes"));
    edit(&home, "to: [archive]", "to: [archiv]");
    edit(&home, "type: laigu\n", "type: laigo\n");
    let output = run(&home, &["check"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("archiv") && text.contains("laigo"), "{text}");
    let output = run(&home, &["serve"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("laigo"));
}

#[test]
fn exit_codes_tell_what_kind_of_no_it_is() {
    let home = home();
    let code = |arguments: &[&str]| run(&home, arguments).status.code();
    assert_eq!(code(&["events", "list"]), Some(3));
    assert_eq!(code(&["healthcheck"]), Some(1));
    assert_eq!(code(&["events"]), Some(2));
    assert_eq!(code(&["sign", "no-such-file"]), Some(1));
    let output = run(&home, &["destinations", "list"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("laigu-router serve") && text.contains("--admin"), "{text}");
    let _program = home.start();
    assert_eq!(code(&["healthcheck"]), Some(0));
    assert_eq!(code(&["healthcheck", "--live"]), Some(0));
    assert_eq!(code(&["events", "show", "evt_1"]), Some(1));
    assert_eq!(code(&["events", "list", "--state", "lost"]), Some(1));
}

#[test]
fn a_body_from_the_input_is_signed_with_a_secret_from_a_file_or_the_environment() {
    let home = home();
    fs::write(home.path("secret"), "test_secret\n").unwrap();
    let secret = shown(&home.path("secret"));
    let mut lines = Vec::new();
    for arguments in [&["sign", "-", "--secret-file", &secret][..], &["sign", "-", "--scheme", "sha1-suffix"]] {
        let mut command = command(&home, arguments);
        command.env("LAIGU_ROUTER_SIGN_SECRET", "test_secret").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"{}").unwrap();
        lines.push(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    }
    let expected = "Meiqia-Signature: c20048d3bde8931c7cba75b2be761f2c7e02a6a3\n";
    assert_eq!(lines, [expected, expected]);
}

#[test]
fn every_verb_that_is_documented_explains_itself() {
    let home = home();
    let documented =
        include_str!("../../../docs/cli.md").lines().filter_map(|line| line.strip_prefix("### laigu-router "));
    let verbs: Vec<&str> = documented.collect();
    assert!(verbs.len() > 20, "{verbs:?}");
    for verb in verbs {
        let words: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        assert!(said(&home, &words).contains("Usage: laigu-router"), "{verb}");
    }
    assert!(said(&home, &["--help"]).contains("Exit status:"));
    for shell in ["bash", "zsh", "fish"] {
        assert!(said(&home, &["completions", shell]).contains("dead-letters"));
    }
}
