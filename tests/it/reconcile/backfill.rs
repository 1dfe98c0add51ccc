//! `reconcile`: history on request, taken up after anything.

use super::{Stage, plan, truth::Truth};
use crate::program::{PATIENCE, wait_for};
use laigu_router::{
    domain::Timestamp,
    sandbox::{faults::Endpoint, push::Mix},
};
use serde_json::Value;
use std::{
    process::{Command, Output},
    time::Duration,
};

/// Runs the command line against the stage's server.
fn cli(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_laigu-router"));
    command.args(["--json", "--admin"]).arg(format!("http://127.0.0.1:{}", stage.home.admin)).arg("reconcile");
    command.args(arguments).current_dir(stage.home.path("")).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn history_is_read_once_though_the_program_is_killed_and_the_command_called_again() {
    let stage = Stage::new(plan(300, 200, 0), "100/s", "");
    let pushes = stage.pushes(Mix { dropped: 30, ..Mix::default() });
    let program = stage.home.start();
    stage.send(&pushes);
    let from = Timestamp::from_millis(Timestamp::now().as_millis() - 20 * 3_600_000).to_string();
    let to = Timestamp::now().to_string();
    let stretch = ["--source", "laigu", "--tenant", "acme", "--from", &from, "--to", &to, "--rate", "20/s"];
    let begun = json(&cli(&stage, &[&stretch[..], &["--detach"]].concat()));
    assert_eq!((&begun["id"], &begun["state"]), (&"rcn_1".into(), &"running".into()), "{begun}");
    let job = || json(&cli(&stage, &["show", "rcn_1"]));
    wait_for("some of it is read", PATIENCE, || (job()["progress"].as_f64().unwrap() > 0.1).then_some(()));
    program.kill();
    let program = stage.home.start();
    let taken_up = job();
    assert_eq!(taken_up["state"], "running", "it goes on by itself: {taken_up}");
    assert!(taken_up["progress"].as_f64().unwrap() > 0.0, "from where it was: {taken_up}");
    // Cancelled, and asked for again: the same job, to its end.
    assert_eq!(json(&cli(&stage, &["cancel", "rcn_1"]))["state"], "cancelled");
    let done = cli(&stage, &stretch);
    assert!(done.status.success());
    let done = json(&done);
    assert_eq!((&done["id"], &done["state"], &done["progress"]), (&"rcn_1".into(), &"done".into(), &1.0.into()));

    stage.wait_for_all(&program, &pushes);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &pushes));
    truth.each_once(&stage.delivered());
    let emitted = stage.events("origin=reconcile").len();
    let number = |of: &Value, member: &str| of[member].as_u64().unwrap();
    assert!(emitted > 0 && number(&done, "known") > 0, "{done}");
    let parts: u64 = ["emitted", "known", "passed_over"].iter().map(|of| number(&done, of)).sum();
    assert_eq!(number(&done, "found"), parts);
    assert!(done["unseen"].as_array().unwrap().iter().any(|class| class.as_str().unwrap().contains("neither phone")));

    // In the same words again, when it is done: another job, which finds that all is known.
    let again = json(&cli(&stage, &stretch));
    assert_eq!((&again["id"], &again["emitted"]), (&"rcn_2".into(), &0.into()), "{again}");
    let all = json(&cli(&stage, &["list"]));
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    truth.each_once(&stage.delivered());
}

#[test]
fn a_tenant_whose_api_is_taken_away_is_asked_no_more_and_the_job_goes_on_when_it_comes_back() {
    let stage = Stage::new(plan(200, 0, 0), "100/s", "");
    let program = stage.home.start();
    let from = Timestamp::from_millis(Timestamp::now().as_millis() - 20 * 3_600_000).to_string();
    let stretch = ["--source", "laigu", "--tenant", "acme", "--from", &from, "--rate", "5/s", "--detach"];
    assert_eq!(json(&cli(&stage, &stretch))["state"], "running");
    let calls = || stage.sandbox.calls(Endpoint::ClientsUpdated) + stage.sandbox.calls(Endpoint::Conversations);
    wait_for("it reads", PATIENCE, || (calls() > 2).then_some(()));
    stage.edit(|text| text.replace("        api:", "        # api:"));
    wait_for("nothing is asked for any more", PATIENCE, || {
        let before = calls();
        std::thread::sleep(Duration::from_millis(1_500));
        (calls() == before).then_some(())
    });
    let job = || json(&cli(&stage, &["show", "rcn_1"]));
    let resting = job();
    assert!(resting["state"] == "running" && resting["progress"].as_f64().unwrap() < 1.0, "{resting}");
    stage.edit(|text| text.replace("        # api:", "        api:").replace("rate: 100/s", "rate: 90/s"));
    wait_for("it goes on", PATIENCE, || (job()["state"] == "done").then_some(()));
    stage.wait_for_all(&program, &[]);
}

#[test]
fn what_cannot_be_read_is_refused_in_words() {
    let stage = Stage::new(plan(1, 0, 0), "10/s", "");
    let _program = stage.home.start();
    for (arguments, said) in [
        (["--source", "other", "--tenant", "acme", "--from", "2024-09-01T00:00:00Z"], "no source `other`"),
        (["--source", "laigu", "--tenant", "nobody", "--from", "2024-09-01T00:00:00Z"], "no tenant `nobody`"),
        (["--source", "laigu", "--tenant", "acme", "--from", "yesterday"], "`yesterday` is not RFC 3339"),
        (["--source", "laigu", "--tenant", "acme", "--from", "2999-01-01T00:00:00Z"], "must lie before"),
    ] {
        let output = cli(&stage, &arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(said), "{arguments:?}: {text}");
    }
    let missing = cli(&stage, &["show", "rcn_7"]);
    assert!(!missing.status.success());
}
