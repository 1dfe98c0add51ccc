//! The stand-in by itself, as a team that writes consumers runs it: it pushes, loses some, and shows all of them.

use super::{BOTH, SECRET, Stage, plan};
use crate::program::{PATIENCE, wait_for};
use std::process::{Command, Stdio};

#[test]
fn the_stand_in_pushes_signed_events_by_itself_and_loses_some() {
    let stage = Stage::new(plan(1, 0, 0), "10/s", BOTH);
    let program = stage.home.start();
    let hook = format!("http://127.0.0.1:{}/hooks/laigu/acme", stage.home.hooks);
    let mut command = Command::new(env!("CARGO_BIN_EXE_laigu-router"));
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--clients", "10", "--conversations", "5", "--every", "5ms"]);
    command.args(["--drop", "20", "--push-to", &hook]).env("LAIGU_ROUTER_SIGN_SECRET", SECRET);
    let mut sandbox = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let accepted = || program.metric("laigu_router_accepted_total", &[]);
    wait_for("pushes of people and of changes", PATIENCE, || (accepted() > 60.0).then_some(()));
    sandbox.kill().unwrap();
    sandbox.wait().unwrap();
    let rejected = program.metric("laigu_router_rejected_total", &[]);
    assert!(rejected < 1.0, "{rejected} were refused: {}", stage.home.log());
    let kinds: std::collections::BTreeSet<String> =
        stage.events("origin=push").iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert!(kinds.contains("cus.upsert") && kinds.contains("conversation.created"), "{kinds:?}");
}
