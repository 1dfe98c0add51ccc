//! Events that were delivered, sent once more: by time, by key, by id.

use super::{OUT, call, get, lines, preview, push, replay, replayed, until};
use crate::{
    crash::push::SOURCES,
    program::{Home, PATIENCE, wait_for},
};
use serde_json::{Value, json};

#[test]
fn delivered_events_are_sent_again_by_time_and_key_under_a_new_identity() {
    let routes = "routes:\n  - { name: all, to: [out] }\n  - { name: odd, when: body.n == 1, to: [out] }\n";
    let home = Home::new("{ path: ./data }", &format!("{SOURCES}{OUT}{routes}"));
    let program = home.start();
    for id in 0..30 {
        push(&home, id, &format!("k{}", id % 3), &format!("\"n\":{}", id % 2));
    }
    wait_for("all are delivered", PATIENCE, || (lines(&home, "out").len() == 45).then_some(()));
    wait_for("the last receipt", PATIENCE, || {
        let list = get(&home, "events?state=delivered&limit=100");
        (list["items"].as_array().unwrap().len() == 30).then_some(())
    });
    let events = get(&home, "events?limit=100")["items"].as_array().unwrap().clone();
    let received = |at: usize| events[events.len() - 1 - at]["received_at"].as_str().unwrap().to_owned();
    let count = |filter: Value| preview(&home, json!({"of": "events", "filter": filter}))["matched"].clone();
    assert_eq!(count(json!({})), 45);
    assert_eq!(count(json!({"key": "k1"})), 15);
    assert_eq!(count(json!({"key": "k1", "route": "odd"})), 5);
    assert_eq!(count(json!({"type": "client.created"})), 0);
    let since = count(json!({"from": received(10)})).as_u64().unwrap();
    let before = count(json!({"to": received(10)})).as_u64().unwrap();
    assert!(since >= 30 && before <= 15 && since + before == 45, "{since} {before}");

    let id = replay(&home, json!({"of": "events", "filter": {"key": "k1", "from": received(0)}, "rate": "1000/s"}));
    let done = until(&home, &id, "done");
    assert_eq!((&done["matched"], &done["delivered"]), (&json!(15), &json!(15)), "{done}");
    let sent = replayed(&home, "out", &id);
    assert_eq!((sent.len(), lines(&home, "out").len()), (15, 60));
    for line in &sent {
        let (event, route) = (line["id"].as_str().unwrap(), line["xroute"].as_str().unwrap());
        assert_eq!(line["subject"], "k1");
        assert_eq!(line["xdelivery"], format!("{event}/{route}/{id}"), "what was delivered is told apart");
    }
    // Copies of replays do not count.
    assert_eq!(count(json!({})), 45);
    let one = events[0]["id"].as_str().unwrap();
    let id = replay(&home, json!({"of": "events", "ids": [one]}));
    until(&home, &id, "done");
    assert!(replayed(&home, "out", &id).iter().all(|line| line["id"] == one));
    for wrong in [
        json!({"of": "events", "filter": {"cause": "expired"}}),
        json!({"of": "events"}),
        json!({"filter": {}, "destinations": ["nowhere"]}),
        json!({"filter": {}, "rates": "1/s"}),
    ] {
        assert_eq!(call(&home, "POST", "replays", &wrong, "none").0, 400, "{wrong}");
    }
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
}
