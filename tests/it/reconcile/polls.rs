//! What no push ever brings: Easemob's ended sessions, reports about agents.

use super::{Stage, plan};
use crate::program::{Home, PATIENCE, wait_for};
use laigu_router::{
    domain::Timestamp,
    sandbox::{Options, Sandbox, faults::Endpoint},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::runtime::Runtime;

/// A home that polls the stand-in's sessions every second.
fn kefu(sessions: usize) -> Stage {
    let runtime = Runtime::new().unwrap();
    let options = Options { plan: plan(0, 0, sessions), ..Options::default() };
    let sandbox = runtime.block_on(Sandbox::start(options)).unwrap();
    let (url, options) = (sandbox.url(), sandbox.options());
    let (tenant, client, secret) = (&options.tenant_id, &options.client_id, &options.secret_id);
    let text = format!(
        "sources:
  kefu:
    type: easemob-kefu
    tenants:
      acme:
        tenant_id: {tenant}
        path_secret: a-path-secret-of-some-length
        api: {{ base_url: '{url}', client_id: {client}, secret_id: {secret}, rate: 100/s }}
        poll: {{ sessions: 1s }}
destinations:
  archive: {{ type: file, path: ./archive }}
routes:
  - {{ name: everything, to: [archive] }}
"
    );
    let home = Home::new("{ path: ./data }", &text);
    Stage { runtime, sandbox, home }
}

/// How often each session came, by its id.
fn sessions(stage: &Stage) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in stage.delivered() {
        let id = line["data"]["payload"]["serviceSessionId"].as_str().unwrap().to_owned();
        all.entry(id).or_default().push(line);
    }
    all
}

fn sweeps(stage: &Stage) {
    let calls = stage.sandbox.calls(Endpoint::Sessions);
    wait_for("two more polls", PATIENCE, || (stage.sandbox.calls(Endpoint::Sessions) > calls + 2).then_some(()));
}

#[test]
fn each_ended_session_is_polled_once_and_again_only_when_it_changed() {
    let stage = kefu(150);
    let program = stage.home.start();
    wait_for("all sessions are there", PATIENCE, || (sessions(&stage).len() == 150).then_some(()));
    sweeps(&stage);
    program.kill();
    let program = stage.home.start();
    sweeps(&stage);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let first = sessions(&stage);
    for (id, lines) in &first {
        let ids: Vec<_> = lines.iter().map(|line| &line["id"]).collect();
        assert!(ids.iter().all(|other| *other == ids[0]), "{id} came as {ids:?}");
        let line = &lines[0];
        assert_eq!((&line["type"], &line["xorigin"]), (&"com.easemob.kefu.session.closed".into(), &"poll".into()));
        assert_eq!(line["subject"].as_str(), Some(id.as_str()));
        assert!(line["data"]["eventId"].as_str().unwrap().starts_with("ses_"));
        let group: u64 = line["data"]["payload"]["chatGroupId"].as_str().expect("a text: beyond 2^53").parse().unwrap();
        assert!(group > 1 << 53);
    }
    // A session that was rated since is a new event; one that ended since is polled when its window is over.
    let (now, changed) = (
        Timestamp::now(),
        stage.sandbox.with_world(|world| {
            let row = world.sessions.iter_mut().max_by_key(|row| row.updated).unwrap();
            row.json.insert("enquirySummary".into(), "5".into());
            row.json.insert("comment".into(), "rated".into());
            row.id.clone()
        }),
    );
    assert!(now.since(stage.sandbox.options().plan.now) < Duration::from_secs(590), "within the overlap");
    wait_for("the changed one comes again", PATIENCE, || {
        (sessions(&stage)[&changed].len() > first[&changed].len()).then_some(())
    });
    sweeps(&stage);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let again = sessions(&stage);
    let distinct = |all: &BTreeMap<String, Vec<Value>>| -> usize {
        all.values().map(|lines| lines.iter().map(|line| line["id"].to_string()).collect::<BTreeSet<_>>().len()).sum()
    };
    assert_eq!(distinct(&again), distinct(&first) + 1);
}

#[test]
fn reports_about_agents_are_one_event_a_period() {
    let stage = Stage::new(plan(0, 0, 0), "100/s", "        reports: { agent_online: 1h, agent_service: 1d }");
    let program = stage.home.start();
    let both = || {
        let lines = stage.delivered();
        (lines.len() == 2).then_some(lines)
    };
    let lines = wait_for("both reports", PATIENCE, both);
    for (kind, member) in [("agent.online_stats", "online_onduty"), ("agent.service", "conv_cnt")] {
        let line = lines.iter().find(|line| line["data"]["event"] == kind).unwrap_or_else(|| panic!("{kind}"));
        assert_eq!((&line["type"], &line["xorigin"]), (&format!("com.laigu.{kind}").into(), &"report".into()));
        let body = &line["data"]["body"];
        assert_eq!(body["rows"].as_array().unwrap().len(), 8);
        assert!(body["rows"][0][member].is_number());
        let to = Timestamp::parse_rfc3339(body["to"].as_str().unwrap()).unwrap();
        assert!(to <= Timestamp::now() && to.as_millis() % 3_600_000 == 0, "{body}");
    }
    // After a restart the period is over and done with; a copy that the crash repeats is the same event.
    program.kill();
    let program = stage.home.start();
    let begun = || stage.home.log().matches("reading a list for pushes").count();
    wait_for("both feeds have begun again", PATIENCE, || (begun() >= 4).then_some(()));
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let ids: BTreeSet<String> = stage.delivered().iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert_eq!(stage.events("origin=report").len(), 2);
}
