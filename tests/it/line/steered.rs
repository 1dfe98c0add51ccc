//! An operator's hand on the lanes of both brokers: paused, resumed, slowed down.

use super::{EVERYTHING, Line, check_one_connection_each, push_all, wait_for_backlogs, wait_for_state};
use crate::{
    cli::said,
    crash::push::{Push, SOURCES},
    program::{PATIENCE, wait_for},
    proxy::Mode,
    reload::{reload, rewrite_all},
};
use std::time::{Duration, Instant};

const KEYS: usize = 10;

/// The ids that both brokers took since the last look; how many there must be.
fn both_get(line: &mut Line, count: usize) -> [Vec<String>; 2] {
    let (mut messages, mut records) = (Vec::new(), Vec::new());
    wait_for("all at both brokers", PATIENCE, || {
        messages.extend(line.queue.look().iter().map(|message| message.header("x-vendor-id")));
        records.extend(line.topic.look().iter().map(|record| record.headers["x-vendor-id"].clone()));
        (messages.len() >= count && records.len() >= count).then_some(())
    });
    [messages, records]
}

/// The ids of these pushes, sorted: which keys come first is nobody's promise.
fn ids(numbers: std::ops::Range<usize>) -> Vec<String> {
    (0..KEYS).flat_map(|key| numbers.clone().map(move |number| Push { key, number }.id())).collect()
}

fn check(found: [Vec<String>; 2], numbers: std::ops::Range<usize>) {
    for mut found in found {
        let of_key = |key: usize, found: &[String]| {
            found
                .iter()
                .filter_map(|id| Push::from_id(id))
                .filter(|push| push.key == key)
                .map(|push| push.number)
                .collect()
        };
        for key in 0..KEYS {
            let order: Vec<usize> = of_key(key, &found);
            assert!(order.is_sorted(), "key {key}: {order:?}");
        }
        found.sort();
        assert_eq!(found, ids(numbers.clone()));
    }
}

#[test]
fn paused_lanes_send_nothing_over_a_restart_and_resumed_ones_all_in_order_to_both_brokers() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home(EVERYTHING);
    let program = home.start();
    push_all(&home, 0..KEYS, 0..3);
    let first = both_get(&mut line, KEYS * 3);
    check(first, 0..3);
    for name in ["crm", "lake"] {
        said(&home, &["destinations", "pause", name]);
        wait_for_state(&program, name, "paused");
    }
    push_all(&home, 0..KEYS, 3..6);
    program.wait_for("laigu_router_delivered_total", &["destination=\"archive\""], 60.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    let program = home.start();
    push_all(&home, 0..KEYS, 6..8);
    program.wait_for("laigu_router_delivered_total", &["destination=\"archive\""], 20.0);
    for name in ["crm", "lake"] {
        wait_for_state(&program, name, "paused");
    }
    wait_for_backlogs(&home, 50);
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "sent although paused");
    for name in ["crm", "lake"] {
        said(&home, &["destinations", "resume", name]);
    }
    let rest = both_get(&mut line, KEYS * 5);
    check(rest, 3..8);
    let audit = said(&home, &["audit"]);
    assert!(["pause", "resume"].iter().all(|verb| audit.matches(verb).count() >= 2), "{audit}");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was pushed");
    line.end();
}

#[test]
fn a_rate_holds_at_both_brokers_and_a_new_one_counts_from_the_reload_on() {
    const RATE: usize = 20;
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let plain = line.text(SOURCES, EVERYTHING);
    let rated = plain
        .replace("  crm:\n    type: rabbitmq\n", &format!("  crm:\n    type: rabbitmq\n    rate: {RATE}/s\n"))
        .replace("lake: { type: kafka,", &format!("lake: {{ type: kafka, rate: {RATE}/s,"));
    let home = line.home(EVERYTHING);
    rewrite_all(&home, &rated);
    let program = home.start();
    let start = Instant::now();
    push_all(&home, 0..KEYS, 0..8);
    let all = both_get(&mut line, KEYS * 8);
    let took = start.elapsed();
    check(all, 0..8);
    // At most a tenth of a second's worth may be caught up, and then one by one.
    let least = Duration::from_secs_f64((KEYS * 8 - RATE / 10 - 1) as f64 / RATE as f64);
    assert!(took >= least, "{} in {took:?}", KEYS * 8);

    push_all(&home, 0..KEYS, 8..208);
    rewrite_all(&home, &plain);
    assert_eq!(reload(&home).0, 200);
    // At the old rate these would take 100 s, which is longer than anything is waited for.
    let rest = both_get(&mut line, KEYS * 200);
    check(rest, 8..208);
    check_one_connection_each(&program);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    line.end();
}
