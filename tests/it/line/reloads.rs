//! `routes.yaml` changes all the time while pushes come in: both brokers get each delivery once and in order.

use super::{ALL, EVERYTHING, Line, arrives, files, on_one_line, post};
use crate::{
    crash::{
        load::Senders,
        push::{ENTERPRISE, Push, SOURCES, request, sign, signed},
    },
    program::{PATIENCE, wait_for},
    proxy::Mode,
    reload::{reload, rewrite_all},
};
use std::{collections::BTreeSet, thread, time::Duration};

const RELOADS: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);

/// A route that takes nothing comes and goes, so that every file decides by other rules.
fn routes(number: usize) -> String {
    let more = "  - { name: never, when: event.type == \"never\", to: [crm, lake] }\n";
    format!("{EVERYTHING}{}# {number}\n", if number.is_multiple_of(2) { more } else { "" })
}

#[test]
fn reloads_every_100_ms_under_load_lose_and_double_nothing_at_both_brokers_and_secrets_rotate() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home(EVERYTHING);
    let program = home.start();
    let running = Senders::new(fastrand::u64(..)).start(home.hooks);
    let both = SOURCES.replace("crash-secret", "[new-secret, crash-secret]");
    let mut generations = BTreeSet::new();
    for number in 0..RELOADS {
        rewrite_all(&home, &line.text(if number < RELOADS / 2 { SOURCES } else { &both }, &routes(number)));
        let (status, body) = reload(&home);
        assert_eq!(status, 200, "{body}");
        // Each file is another one. It may have been taken by itself a moment ago: then this one is not `changed`.
        let generation: serde_json::Value = serde_json::from_str(&body).unwrap();
        generations.insert(generation["generation"].as_u64().unwrap());
        thread::sleep(PAUSE);
    }
    assert_eq!(generations.len(), RELOADS, "{generations:?}");
    running.send_no_more();
    let (senders, load) = running.join(None);
    assert!(load.answered > 500, "{} answered are no load", load.answered);
    assert_eq!(arrives("crm", &mut line.queue, ALL, Push::body, &senders), 0);
    assert_eq!(arrives("lake", &mut line.topic, ALL, Push::body, &senders), 0);
    assert_eq!(arrives("archive", &mut files(&home), ALL, on_one_line, &senders), 0);

    rewrite_all(&home, &line.text(&SOURCES.replace("crash-secret", "new-secret"), EVERYTHING));
    assert_eq!(reload(&home).0, 200);
    let body = format!(
        "{{\"event\":\"cus.upsert\",\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":1726824224,\
         \"body\":{{\"track_id\":\"trk_new\"}},\"id\":\"sub_new\"}}"
    );
    assert_eq!(post(&home, &signed(body.as_bytes())), 401, "the old secret is gone");
    let signature = sign(body.as_bytes(), "new-secret");
    assert_eq!(post(&home, &request(body.as_bytes(), &signature)), 200);
    let message = wait_for("a message", PATIENCE, || line.queue.look().pop());
    let record = wait_for("a record", PATIENCE, || line.topic.look().pop());
    assert_eq!((message.value.as_slice(), record.value.as_slice()), (body.as_bytes(), body.as_bytes()));
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was decided");
    line.end();
}
