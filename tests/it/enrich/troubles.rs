//! Every way in which an API fails, and what consumers see of it.

use super::{CONVERSATIONS, Vendor, home, push, wait_for_lines};
use laigu_router::sandbox::faults::{Endpoint, Fault};

const ONE: &str = "routes:\n  - { name: talks, enrich: [conversation], enrich_within: 1s, to: [archive] }\n";

/// What comes of a push while every call ends in a fault, and how many calls that is.
fn check(fault: Fault, status: &str, reason: &str, calls: std::ops::RangeInclusive<u64>) {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(None, u32::MAX, fault.clone());
    let home = home(&vendor.api("100/s"), ONE);
    let _program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    let lines = wait_for_lines(&home, 1);
    assert_eq!(lines[0].ended("conversation"), (status, reason), "{fault:?}");
    assert!(calls.contains(&vendor.calls()), "{fault:?}: {} calls", vendor.calls());
}

#[test]
fn each_errno_has_its_word() {
    check(Fault::Errno(10011), "failed", "credentials", 1..=1);
    check(Fault::Errno(10012), "failed", "refused", 1..=1);
    check(Fault::Errno(10013), "failed", "refused", 1..=1);
    check(Fault::Errno(10014), "failed", "rate_limited", 1..=2);
    check(Fault::Errno(10015), "failed", "vendor_error", 2..=3);
    check(Fault::Errno(10016), "failed", "refused", 1..=1);
    check(Fault::Errno(10099), "failed", "vendor_error", 2..=3);
}

#[test]
fn each_broken_answer_has_its_word() {
    check(Fault::Status(404), "missing", "", 2..=3);
    check(Fault::Status(503), "failed", "vendor_error", 2..=3);
    check(Fault::Status(403), "failed", "credentials", 1..=1);
    check(Fault::Html, "failed", "bad_answer", 2..=3);
    check(Fault::Truncated, "failed", "unreachable", 2..=3);
    check(Fault::Deep, "failed", "bad_answer", 2..=3);
    check(Fault::NullResult, "failed", "vendor_error", 2..=3);
    check(Fault::Redirect("http://127.0.0.1:9/".into()), "failed", "refused", 1..=1);
    check(Fault::Huge, "failed", "too_large", 2..=3);
}

#[test]
fn a_report_that_is_refused_leaves_the_other_calls_alone() {
    let vendor = Vendor::start();
    for fault in [Fault::Status(403), Fault::Status(401), Fault::Errno(10011)] {
        vendor.sandbox.faults().plan(Endpoint::AgentOnlineStats, 1, fault);
    }
    let routes = "routes:\n  - { name: talks, enrich: [agent, conversation], to: [archive] }\n";
    let home = home(&vendor.api("100/s"), routes);
    let _program = home.start();
    for index in 0..3 {
        push(&home, &vendor.conversation(index, "conversation.updated").1);
        let lines = wait_for_lines(&home, index + 1);
        assert_eq!(lines[index].ended("agent"), ("failed", "credentials"), "{index}");
        assert_eq!(lines[index].ended("conversation"), ("ok", ""), "{index}");
    }
}

#[test]
fn a_record_over_the_cap_is_not_passed_on() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("100/s"), CONVERSATIONS);
    let _program = home.start();
    let body = vendor.conversation(0, "conversation.updated").1;
    vendor.sandbox.with_world(|world| {
        world.conversations[0].json.insert("summary_content".into(), "x".repeat(300 << 10).into());
    });
    push(&home, &body);
    assert_eq!(wait_for_lines(&home, 1)[0].ended("conversation"), ("failed", "too_large"));
}

#[test]
fn an_api_that_recovers_within_the_budget_is_not_noticed() {
    let vendor = Vendor::start();
    for fault in [Fault::Errno(10015), Fault::Status(502), Fault::Truncated] {
        vendor.sandbox.faults().plan(None, 1, fault);
    }
    let home = home(&vendor.api("100/s"), CONVERSATIONS);
    let _program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    assert_eq!(wait_for_lines(&home, 1)[0].ended("conversation"), ("ok", ""));
    assert_eq!(vendor.calls(), 4);
}

#[test]
fn nothing_of_pushes_records_or_credentials_is_logged() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(None, 2, Fault::Errno(10011));
    let home = home(&vendor.api("100/s"), ONE);
    let program = home.start();
    let (id, body) = vendor.conversation(0, "conversation.updated");
    push(&home, &body);
    wait_for_lines(&home, 1);
    assert!(program.terminate(std::time::Duration::from_secs(20)).success());
    let log = home.log();
    assert!(log.contains("refuses this tenant's API credentials"), "{log}");
    for secret in ["sandbox-access-token", "agent_name", "客服", &id] {
        assert!(!log.contains(secret), "`{secret}` is in the log: {log}");
    }
}
