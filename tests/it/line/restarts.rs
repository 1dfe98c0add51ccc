//! What stays over a restart, and who may start beside whom.

use super::{file_home, files, post};
use crate::{
    crash::push::Push,
    program::{Home, PATIENCE, Program, get, wait_for},
};

const PUSH: Push = Push { key: 1, number: 0 };
const NEXT: Push = Push { key: 1, number: 1 };

/// Pushes, ends the program in this way, and sends the same bytes again; ending it may repeat so many lines.
fn check_re_send(home: &Home, repeats_max: usize, end: impl FnOnce(Program)) {
    let mut files = files(home);
    let program = home.start();
    assert_eq!(post(home, &PUSH.request()), 200);
    let mut lines = Vec::new();
    wait_for("the line", PATIENCE, || {
        lines.extend(files.read_new());
        (!lines.is_empty()).then_some(())
    });
    program.wait_for("laigu_router_delivered_total", &[], 1.0);
    end(program);
    let program = home.start();
    for count in [1.0, 2.0] {
        assert_eq!(post(home, &PUSH.request()), 200);
        program.wait_for("laigu_router_duplicates_total", &[], count);
    }
    assert_eq!(post(home, &NEXT.request()), 200);
    program.wait_for("laigu_router_accepted_total", &[], 1.0);
    program.wait_for("laigu_router_lag_events", &[], 0.0);
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    lines.extend(files.read_new());
    let mut firsts = lines.clone();
    firsts.dedup_by(|copy, first| copy.delivery == first.delivery);
    assert_eq!(firsts.iter().map(|line| line.vendor_id.clone()).collect::<Vec<_>>(), [PUSH.id(), NEXT.id()]);
    assert!(lines.len() <= 2 + repeats_max, "{} lines for two pushes", lines.len());
}

#[test]
fn a_re_send_after_a_stop_is_a_duplicate() {
    check_re_send(&file_home(), 0, |program| assert!(program.terminate(PATIENCE).success()));
}

#[test]
fn a_re_send_after_a_kill_is_a_duplicate() {
    check_re_send(&file_home(), 1, |program| {
        program.kill();
    });
}

#[test]
fn a_second_process_on_the_same_store_says_so_and_ends() {
    let home = file_home();
    let first = home.start();
    let mut second = home.spawn();
    let status = second.ended(PATIENCE);
    assert!(!status.success(), "{status}");
    let log = home.log();
    assert!(log.contains("is in use by another process: stop that one, or set another `storage.path`"), "{log}");
    assert_eq!(get(home.admin, "/readyz").expect("the first still answers").0, 200);
    assert_eq!(post(&home, &PUSH.request()), 200);
    assert!(first.terminate(PATIENCE).success(), "{}", home.log());
}
