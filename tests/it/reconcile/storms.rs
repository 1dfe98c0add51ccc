//! The vendor's API at its worst: the program goes on, and finds everything when it is over.

use super::{BOTH, Stage, plan, truth::Truth};
use laigu_router::{
    domain::Timestamp,
    sandbox::{
        faults::{Endpoint, Fault},
        push::Mix,
    },
};

#[test]
fn a_storm_of_refusals_ends_and_everything_is_found() {
    let stage = Stage::new(plan(60, 40, 0), "100/s", BOTH);
    let faults = stage.sandbox.faults();
    faults.plan(None, 4, Fault::Errno(10014));
    faults.plan(None, 3, Fault::Errno(10015));
    faults.plan(None, 3, Fault::Errno(10016));
    faults.plan(Some(Endpoint::ClientsUpdated), 2, Fault::Status(500));
    faults.plan(Some(Endpoint::Conversations), 1, Fault::Truncated);
    faults.plan(None, 1, Fault::Html);
    let program = stage.home.start();
    let pushes = stage.pushes(Mix { dropped: 20, ..Mix::default() });
    stage.send(&pushes);
    stage.wait_for_all(&program, &pushes);
    stage.settle(&program);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &pushes));
    truth.each_once(&stage.delivered());
    for errno in ["10014", "10015", "10016", "http_5xx"] {
        let label = format!("errno=\"{errno}\"");
        assert!(program.metric("laigu_router_reconcile_errors_total", &[&label]) > 0.0, "{errno}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_counted_and_the_others_of_its_page_go_out() {
    let stage = Stage::new(plan(0, 0, 0), "100/s", BOTH);
    let changed = Timestamp::now().to_string();
    let rows = format!(
        r#"[null, {{"track_id":"half","name":"\ud83d","updated_on":"{changed}"}},
            {{"track_id":"whole","tel":"13800000000","updated_on":"{changed}"}}]"#
    );
    let body = format!(r#"{{"errno":0,"result":{rows},"next_page_token":""}}"#);
    stage.sandbox.faults().plan(Some(Endpoint::ClientsUpdated), 1, Fault::Raw(200, "application/json", body));
    let program = stage.home.start();
    program.wait_for("laigu_router_reconcile_found_total", &["class=\"clients\""], 1.0);
    program.wait_for("laigu_router_delivered_total", &[], 1.0);
    assert_eq!(stage.delivered()[0]["subject"], "whole");
    assert!(stage.home.log().contains("no JSON objects: passed over"), "{}", stage.home.log());
}

#[test]
fn a_report_that_is_refused_leaves_the_lists_alone() {
    let feeds = format!("{BOTH}\n        reports: {{ agent_online: 1h, agent_service: 1d }}");
    let stage = Stage::new(plan(20, 10, 0), "100/s", &feeds);
    stage.sandbox.faults().plan(Some(Endpoint::AgentOnlineStats), u32::MAX, Fault::Status(403));
    stage.sandbox.faults().plan(Some(Endpoint::AgentService), u32::MAX, Fault::Errno(10011));
    let program = stage.home.start();
    stage.wait_for_all(&program, &[]);
    stage.settle(&program);
    for endpoint in [Endpoint::AgentOnlineStats, Endpoint::AgentService] {
        assert_eq!(stage.sandbox.calls(endpoint), 1, "it is left until the next one is due");
    }
}

#[test]
fn while_credentials_are_refused_pushes_are_taken_and_the_api_is_asked_rarely() {
    let stage = Stage::new(plan(20, 10, 0), "100/s", BOTH);
    stage.sandbox.faults().plan(Some(Endpoint::ClientsUpdated), u32::MAX, Fault::Errno(10011));
    stage.sandbox.faults().plan(Some(Endpoint::Conversations), u32::MAX, Fault::Status(401));
    let program = stage.home.start();
    let pushes = stage.pushes(Mix::default());
    stage.send(&pushes);
    program.wait_for("laigu_router_delivered_total", &[], pushes.len() as f64);
    assert!(stage.sandbox.calls(Endpoint::ClientsUpdated) <= 3, "{}", stage.sandbox.calls(Endpoint::ClientsUpdated));
    assert!(stage.home.log().contains("refuses our credentials"), "{}", stage.home.log());
    // Whoever corrects the file is served at once.
    stage.sandbox.faults().clear();
    let token = format!("access_token: {}", stage.sandbox.options().access_token);
    let pair = format!("app_id: {}, sign: {}", stage.sandbox.options().app_id, stage.sandbox.options().sign);
    stage.edit(|text| text.replace(&token, &pair));
    stage.settle(&program);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &pushes));
    truth.each_once(&stage.delivered());
    assert_eq!(program.metric("laigu_router_reconcile_found_total", &[]), 0.0, "all of it had been pushed");
}
