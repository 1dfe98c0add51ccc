//! `routes.yaml` changes all the time while pushes come in: both brokers get each delivery once and in order.

use super::{
    ALL, EVERYTHING, Line, arrives, check_one_connection_each, files, on_one_line, post, push_all, wait_for_backlogs,
    wait_for_state,
};
use crate::{
    crash::{
        load::Senders,
        push::{ENTERPRISE, Push, SOURCES, request, sign, signed},
    },
    program::{PATIENCE, wait_for},
    proxy::Mode,
    reload::{reload, rewrite_all},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    thread,
    time::Duration,
};

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
    check_one_connection_each(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was decided");
    line.end();
}

const ARCHIVE: &str = "routes:\n  - { name: everything, to: [archive] }\n";

#[test]
fn destinations_that_leave_the_file_keep_their_work_for_when_they_are_back_over_a_restart() {
    let mut line = Line::new(Mode::Refuse, Mode::Refuse);
    let home = line.home(EVERYTHING);
    let program = home.start();
    let pushed = |numbers| push_all(&home, 0..20, numbers);
    pushed(0..5);
    program.wait_for("laigu_router_delivered_total", &["destination=\"archive\""], 100.0);

    // What cannot be right changes nothing, and says why to all who look.
    let good = line.text(SOURCES, EVERYTHING);
    rewrite_all(&home, &good.replace("to: [crm, lake, archive]", "to: [crm, laek, archive]"));
    let (status, body) = reload(&home);
    assert!(status == 422 && body.contains("laek") && body.contains("did you mean `lake`"), "{status}: {body}");
    wait_for("a word in the log", PATIENCE, || home.log().contains("did you mean `lake`").then_some(()));
    pushed(5..6);
    wait_for_backlogs(&home, 120);

    // Both leave: their work stays, and nothing more is decided for them.
    let without: Vec<_> = good.lines().take_while(|line| !line.starts_with("  crm:")).collect();
    let without = format!("{}\n  archive: {{ type: file, path: ./archive }}\n{ARCHIVE}", without.join("\n"));
    rewrite_all(&home, &without);
    assert!(Command::new("kill").args(["-HUP", &program.id().to_string()]).status().unwrap().success());
    for name in ["crm", "lake"] {
        wait_for_state(&program, name, "orphaned");
    }
    wait_for_backlogs(&home, 120);
    for mode in [&line.amqp, &line.kafka] {
        mode.set(Mode::Pass);
    }
    let elsewhere = |number| Push { key: 40, number };
    assert_eq!(post(&home, &elsewhere(0).request()), 200);
    program.wait_for("laigu_router_delivered_total", &["destination=\"archive\""], 121.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    let program = home.start();
    wait_for_state(&program, "crm", "orphaned");
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "sent to who is not in the file");

    rewrite_all(&home, &good);
    assert!(Command::new("kill").args(["-HUP", &program.id().to_string()]).status().unwrap().success());
    wait_for_state(&program, "crm", "up");
    wait_for_state(&program, "lake", "up");
    pushed(6..8);
    let each = |key| (0..8).map(move |number| Push { key, number });
    let expected: BTreeMap<_, _> = (0..20).map(|key| (key, each(key).collect::<Vec<_>>())).collect();
    let (mut messages, mut records) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    wait_for("all at both brokers", PATIENCE, || {
        for push in line.queue.look().iter().map(|message| Push::from_id(&message.header("x-vendor-id")).unwrap()) {
            messages.entry(push.key).or_default().push(push);
        }
        for push in line.topic.look().iter().map(|record| Push::from_id(&record.headers["x-vendor-id"]).unwrap()) {
            records.entry(push.key).or_default().push(push);
        }
        let count = |seen: &BTreeMap<usize, Vec<Push>>| seen.values().map(Vec::len).sum::<usize>();
        (count(&messages) >= 160 && count(&records) >= 160).then_some(())
    });
    assert_eq!((&messages, &records), (&expected, &expected), "each once, in order");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was decided");
    line.end();
}
