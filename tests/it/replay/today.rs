//! What today's routes decide: dead letters of a condition, events that no route took.

use super::{OUT, edit, get, job, letters, lines, post, preview, push, replay, replayed, until, wait_for_letters};
use crate::{
    crash::push::SOURCES,
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};

fn home(routes: &str) -> Home {
    Home::new("{ path: ./data }", &format!("{SOURCES}{OUT}{routes}"))
}

#[test]
fn a_failed_condition_is_decided_by_the_routes_of_today() {
    let home = home("routes:\n  - { name: leads, when: body.n > 0, to: [out] }\n  - { name: all, to: [out] }\n");
    let program = home.start();
    push(&home, 0, "a", "\"n\":\"one\"");
    push(&home, 1, "b", "\"n\":\"none\"");
    wait_for_letters(&home, 2);
    // Nothing has changed: both die again, and say so.
    let id = replay(&home, json!({"filter": {"cause": "condition"}}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["kept"]), (&json!(0), &json!(2)));
    let dead = letters(&home, "&cause=condition");
    assert_eq!(dead.len(), 2);
    assert!(dead.iter().all(|letter| letter["attempts"].as_u64().unwrap() >= 1), "{dead:?}");

    edit(&home, "when: body.n > 0", "when: body.n == \"one\"");
    let body = json!({"filter": {"route": "leads", "destination": ""}});
    let seen = preview(&home, body.clone());
    assert_eq!((&seen["matched"], &seen["kept"]), (&json!(1), &json!(1)));
    let id = replay(&home, body);
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"], &done["kept"]), (&json!(1), &json!(1), &json!(1)), "{done}");
    let sent = replayed(&home, "out", &id);
    assert_eq!((sent.len(), &sent[0]["xroute"], &sent[0]["data"]["body"]["n"]), (1, &json!("leads"), &json!("one")));
    let event = sent[0]["id"].as_str().unwrap();
    assert_eq!(sent[0]["xdelivery"], format!("{event}/leads"));
    // The other routes had theirs when the push came, and nothing more.
    assert_eq!(lines(&home, "out").iter().filter(|line| line["xroute"] == "all").count(), 2);
    // What today's route does not take stays a dead letter.
    assert_eq!(letters(&home, "").len(), 1);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    // The lanes pass what the replay decided: nothing is sent by them after a restart.
    let before = lines(&home, "out").len();
    let program = home.start();
    push(&home, 2, "c", "\"n\":\"two\"");
    wait_for("the next push", PATIENCE, || (lines(&home, "out").len() == before + 1).then_some(()));
    program.wait_for("laigu_router_lag_events", &["out"], 0.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_dead_letter_whose_event_is_spoiled_stays_and_holds_up_no_other() {
    let (home, program) = super::home_with_expired(3);
    assert!(program.terminate(PATIENCE).success());
    let mut flipped = 0;
    for entry in std::fs::read_dir(home.path("data/events")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        while let Some(at) = memchr::memmem::find(&bytes, b"\"track_id\":\"k1\"") {
            bytes[at + 1] = b'T';
            flipped += 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(flipped > 0);
    let program = home.start();
    for routes in ["today", "as-routed"] {
        let id = replay(&home, json!({"filter": {}, "routes": routes}));
        let done = until(&home, &id, "done");
        let delivered = if routes == "today" { 2 } else { 0 };
        assert_eq!((&done["delivered"], &done["kept"]), (&json!(delivered), &json!(1)), "{done}");
    }
    let left = letters(&home, "");
    assert_eq!((left.len(), &left[0]["cause"]), (1, &json!("damaged")));
    assert_eq!(lines(&home, "out").len(), 2);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn a_dead_letter_goes_to_what_is_new_in_its_route_and_not_to_what_had_its_event() {
    let home = home(
        "  kept: { type: file, path: ./kept }
  new: { type: file, path: ./new }
retry: { max_age: 1h }
routes:
  - { name: all, to: [out, kept] }
",
    );
    let program = home.start();
    post(&home, "destinations/out/pause", Value::Null);
    (0..3).for_each(|id| push(&home, id, &format!("k{id}"), "\"n\":1"));
    program.wait_for("laigu_router_delivered_total", &["kept"], 3.0);
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    edit(&home, "max_age: 1h", "max_age: 1s");
    post(&home, "destinations/out/resume", Value::Null);
    wait_for_letters(&home, 3);
    // Of the events, those deliveries alone that are no dead letters.
    let events = preview(&home, json!({"of": "events", "filter": {}, "routes": "today"}));
    let dead = preview(&home, json!({"filter": {}, "routes": "today"}));
    assert_eq!((&events["matched"], &dead["matched"]), (&json!(3), &json!(3)));
    edit(&home, "to: [out, kept]", "to: [new, kept]");
    let id = replay(&home, json!({"filter": {}, "routes": "today"}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"], &done["kept"]), (&json!(3), &json!(3), &json!(0)), "{done}");
    assert_eq!((replayed(&home, "new", &id).len(), lines(&home, "kept").len(), lines(&home, "out").len()), (3, 3, 0));
    assert!(letters(&home, "").is_empty());
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}

#[test]
fn events_that_no_route_took_go_through_new_routes() {
    let home = home("routes:\n  - { name: none, when: body.n == 7, to: [out] }\n");
    let program = home.start();
    (0..5).for_each(|id| push(&home, id, &format!("k{id}"), "\"n\":1"));
    push(&home, 5, "k5", "\"n\":7");
    wait_for("five are unrouted", PATIENCE, || {
        let list = get(&home, "events?state=unrouted");
        (list["items"].as_array().unwrap().len() == 5).then_some(())
    });
    let body = json!({"of": "events", "filter": {"state": "unrouted"}, "routes": "today"});
    assert_eq!(preview(&home, body.clone())["matched"], 0);
    edit(&home, "  - { name: none", "  - { name: new, to: [out] }\n  - { name: none");
    let seen = preview(&home, body.clone());
    assert_eq!((&seen["matched"], &seen["by_route"]), (&json!(5), &json!({"new": 5})));
    let id = replay(&home, body);
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"]), (&json!(5), &json!(5)), "{done}");
    let sent = replayed(&home, "out", &id);
    assert_eq!(sent.len(), 5);
    for line in sent {
        // It is no repeat: nobody had it yet.
        assert_eq!(line["xdelivery"], format!("{}/new", line["id"].as_str().unwrap()));
    }
    assert_eq!(job(&home, &id)["gone"], 0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
