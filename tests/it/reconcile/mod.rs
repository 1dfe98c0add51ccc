//! Pushes that never came: the real program beside the stand-in for the vendors' APIs, and a sender that drops, delays and
//! reorders.

mod backfill;
mod polls;
mod sender;
mod storms;
mod truth;

use crate::program::{Home, PATIENCE, Program, get};
use laigu_router::{
    domain::{Secret, Timestamp},
    sandbox::{
        Options, Sandbox,
        push::{Kind, Mix, Push, Pusher, pushes},
        world::Plan,
    },
};
use serde_json::Value;
use std::{fs, time::Duration};
use tokio::runtime::Runtime;
use truth::Truth;

const SECRET: &str = "reconcile-secret-0123456789abcdef";

/// The stand-in, a home for the program, and what their sender knows.
struct Stage {
    runtime: Runtime,
    sandbox: Sandbox,
    home: Home,
}

/// People and conversations of the last hours, the newest some minutes ago: all windows are closed.
fn plan(clients: usize, conversations: usize, sessions: usize) -> Plan {
    let now = Timestamp::from_millis(Timestamp::now().as_millis() - 300_000);
    Plan {
        seed: fastrand::u64(..),
        now,
        past: Duration::from_secs(10 * 3600),
        clients,
        conversations,
        agents: 5,
        sessions,
    }
}

impl Stage {
    /// `feeds` is what the tenant asks for, such as `reconcile: { clients: 1s }`.
    fn new(plan: Plan, rate: &str, feeds: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        println!("seed {}", plan.seed);
        let sandbox = runtime.block_on(Sandbox::start(Options { plan, ..Options::default() })).unwrap();
        let text = routes(&sandbox, rate, feeds);
        let home = Home::new("{ path: ./data }", &text);
        Self { runtime, sandbox, home }
    }

    /// Lets the program ask for something else, as an editor would.
    fn rewrite(&self, rate: &str, feeds: &str) {
        self.edit(|text| [&text[..text.find("sources:").unwrap()], &routes(&self.sandbox, rate, feeds)].concat());
    }

    fn edit(&self, change: impl FnOnce(String) -> String) {
        let file = self.home.path("routes.yaml");
        fs::write(self.home.path("new.yaml"), change(fs::read_to_string(&file).unwrap())).unwrap();
        fs::rename(self.home.path("new.yaml"), file).unwrap();
    }

    /// The pushes about everyone, those that are dropped left out; forged ones too.
    fn pushes(&self, mix: Mix) -> Vec<Push> {
        let options = self.sandbox.options();
        let (token, secret, seed) = (&options.enterprise_token, Secret::new(SECRET.into()), options.plan.seed);
        self.sandbox.with_world(|world| pushes(world, token, &secret, mix, seed))
    }

    fn send(&self, pushes: &[Push]) {
        let url = format!("http://127.0.0.1:{}/hooks/laigu/acme", self.home.hooks).parse().unwrap();
        let pusher = Pusher::new(&url, "meiqia-signature").unwrap();
        self.runtime.block_on(async {
            for push in pushes {
                let status = pusher.send(push).await.unwrap();
                assert_eq!(status, if push.kind == Kind::Forged { 401 } else { 200 });
            }
        });
    }

    /// What consumers have: every line of the file.
    fn delivered(&self) -> Vec<Value> {
        let files = fs::read_dir(self.home.path("archive")).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "ndjson"));
        let lines =
            files.flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter_map(|line| serde_json::from_str(&line).ok()).collect()
    }

    /// Waits until consumers have all that the API can show, and what was pushed beside it.
    fn wait_for_all(&self, program: &Program, pushed: &[Push]) {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let truth = self.sandbox.with_world(|world| Truth::of(world, pushed));
            let missing = truth.missing(&self.delivered());
            if missing.is_empty() {
                return;
            }
            let (count, first) = (missing.len(), missing.first());
            assert!(std::time::Instant::now() < until, "{count} are missing, such as {first:?}: {}", self.home.log());
            assert!(program.metric("laigu_router_accepted_total", &[]) >= 0.0, "it runs");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until all that is in the log is decided and delivered, and two more sweeps went over it.
    fn settle(&self, program: &Program) {
        let sweeps = self.sandbox.calls(laigu_router::sandbox::faults::Endpoint::ClientsUpdated);
        crate::program::wait_for("two more sweeps", PATIENCE, || {
            let now = self.sandbox.calls(laigu_router::sandbox::faults::Endpoint::ClientsUpdated);
            (now > sweeps + 4).then_some(())
        });
        program.wait_for("laigu_router_undecided_events", &[], 0.0);
        program.wait_for("laigu_router_lag_events", &[], 0.0);
    }

    /// One page of the list of events.
    fn events(&self, filter: &str) -> Vec<Value> {
        let (status, text) = get(self.home.admin, &format!("/api/v1/events?limit=500&{filter}")).unwrap();
        assert_eq!(status, 200, "{text}");
        let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        body["items"].as_array().unwrap().clone()
    }
}

/// What stands behind the head of `routes.yaml`.
fn routes(sandbox: &Sandbox, rate: &str, feeds: &str) -> String {
    let options = sandbox.options();
    let (url, id, token) = (sandbox.url(), options.enterprise_id, &options.enterprise_token);
    format!(
        "sources:
  laigu:
    type: laigu
    tenants:
      acme:
        enterprise_token: {token}
        enterprise_id: {id}
        secret: {SECRET}
        api: {{ base_url: '{url}', access_token: {}, rate: {rate} }}
{feeds}
destinations:
  archive: {{ type: file, path: ./archive }}
routes:
  - {{ name: everything, to: [archive] }}
",
        options.access_token
    )
}

/// Both lists, every second, without waiting.
const BOTH: &str = "        reconcile: { clients: 1s, conversations: 1s, lag: 1s, lookback: 1d }";

#[test]
fn whatever_the_api_can_show_goes_out_once_though_pushes_are_dropped_delayed_and_reordered_and_the_program_is_killed() {
    let stage = Stage::new(plan(400, 300, 0), "60/s", "");
    let mix = Mix { resent: 10, forged: 2, unparsable: 0, dropped: 5, reordered: 20 };
    let pushes = stage.pushes(mix);
    let (delayed, early): (Vec<_>, Vec<_>) = pushes.iter().cloned().partition(|push| push.body.len() % 8 == 0);
    let program = stage.home.start();
    stage.send(&early);
    program.wait_for("laigu_router_undecided_events", &[], 0.0);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    let missing = stage.sandbox.with_world(|world| Truth::of(world, &early)).missing(&stage.delivered()).len();
    stage.rewrite("60/s", BOTH);
    // The lists take some seconds at this rate: killed in between, again and again. What is found outlives a kill.
    let (mut program, mut halfway) = (Some(program), 0);
    for enough in [1, missing / 4, missing / 2] {
        let running = program.take().unwrap_or_else(|| stage.home.start());
        let found = || stage.events("origin=reconcile").len();
        crate::program::wait_for("some are found", PATIENCE, || (found() >= enough).then_some(()));
        halfway += usize::from(found() < missing);
        running.kill();
    }
    assert!(halfway > 0, "each kill came after all {missing} were found");
    let program = stage.home.start();
    stage.send(&delayed);
    // Some change while it runs; nobody pushes it.
    stage.sandbox.with_world(|world| {
        let ids: Vec<String> = world.clients.iter().step_by(10).map(|row| row.id.clone()).collect();
        let now = Timestamp::now();
        ids.iter().for_each(|id| assert!(world.touch_client(id, now)));
    });
    stage.wait_for_all(&program, &pushes);
    stage.settle(&program);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &pushes));
    truth.each_once(&stage.delivered());
    let superseded = stage.events("state=superseded");
    assert!(!superseded.is_empty(), "some of the delayed ones came after their records");
    let delivered = stage.delivered();
    for event in &superseded {
        assert_eq!(event["origin"], "push");
        assert!(!delivered.iter().any(|line| line["id"] == event["id"]), "a superseded push went out: {event}");
    }
    let found = stage.events("origin=reconcile");
    assert!(found.iter().all(|event| event["vendor_id"].as_str().is_some_and(|id| id.starts_with("rec_"))));
    assert!(delivered.iter().any(|line| line["xorigin"] == "reconcile"));
}

#[test]
fn a_late_push_of_a_found_record_is_stored_listed_and_not_delivered() {
    let stage = Stage::new(plan(20, 10, 0), "100/s", BOTH);
    let program = stage.home.start();
    stage.wait_for_all(&program, &[]);
    let pushes = stage.pushes(Mix::default());
    stage.send(&pushes);
    stage.settle(&program);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &pushes));
    truth.each_once(&stage.delivered());
    let shown = stage.sandbox.with_world(|world| Truth::of(world, &[]).count());
    assert_eq!(stage.events("state=superseded").len(), shown);
    assert_eq!(program.metric("laigu_router_superseded_total", &[]), shown as f64);
    // After a restart they are known as before; a re-send is a re-send.
    program.kill();
    let program = stage.home.start();
    stage.send(&pushes);
    stage.settle(&program);
    assert_eq!(stage.events("state=superseded").len(), shown);
    truth.each_once(&stage.delivered());
}

#[test]
fn a_reload_that_leaves_a_list_alone_and_one_that_ends_it() {
    let stage = Stage::new(plan(20, 0, 0), "100/s", BOTH);
    let program = stage.home.start();
    stage.wait_for_all(&program, &[]);
    stage.rewrite("100/s", "");
    crate::program::wait_for("nothing is asked for any more", PATIENCE, || {
        let endpoint = laigu_router::sandbox::faults::Endpoint::ClientsUpdated;
        let before = stage.sandbox.calls(endpoint);
        std::thread::sleep(Duration::from_millis(2_500));
        (stage.sandbox.calls(endpoint) == before).then_some(())
    });
    let id = stage.sandbox.with_world(|world| {
        let row = world.clients.iter().find(|row| laigu_router::sandbox::world::is_customer(row)).unwrap();
        let id = row.id.clone();
        world.touch_client(&id, Timestamp::now());
        id
    });
    stage.rewrite("100/s", BOTH);
    stage.wait_for_all(&program, &[]);
    let truth = stage.sandbox.with_world(|world| Truth::of(world, &[]));
    assert!(truth.has_client(&id));
    // It took up where it was left: what was found before is not found again.
    stage.settle(&program);
    assert_eq!(
        program.metric("laigu_router_reconcile_found_total", &["class=\"clients\""]) as usize,
        truth.count() + 1
    );
}
