//! What went out without its record is sent again with it.

use super::{Vendor, home, lines, push, wait_for_lines};
use crate::{
    cli::{json, run},
    program::{PATIENCE, wait_for},
};
use laigu_router::sandbox::faults::Fault;

const ROUTES: &str = "routes:
  - { name: talks, enrich: [conversation], enrich_within: 1s, to: [archive] }
  - { name: plain, to: [archive] }
";

#[test]
fn a_refresh_sends_what_lacked_its_record_and_nothing_else() {
    let vendor = Vendor::start();
    let home = home(&vendor.api("100/s"), ROUTES);
    let _program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    wait_for_lines(&home, 2);
    vendor.sandbox.faults().plan(None, u32::MAX, Fault::Errno(10015));
    let lacking: Vec<String> = (1..4)
        .map(|index| {
            let (id, body) = vendor.conversation(index, "conversation.updated");
            push(&home, &body);
            id
        })
        .collect();
    let before = wait_for_lines(&home, 8);
    let failed = before.iter().filter(|line| line.ended("conversation").0 == "failed").count();
    assert_eq!(failed, 3);

    // While the API fails, there is nothing to send.
    let job = json(&home, &["replay", "--refresh", "--all", "--dry-run"]);
    assert_eq!(job["matched"], 0, "{job}");
    vendor.sandbox.faults().clear();
    let job = json(&home, &["replay", "--refresh", "--all", "--dry-run"]);
    assert_eq!((&job["matched"], &job["by_route"]), (&3.into(), &serde_json::json!({"talks": 3})));
    let job = json(&home, &["replay", "--refresh", "--all"]);
    let id = job["id"].as_str().unwrap();
    wait_for("the end of the replay", PATIENCE, || {
        (json(&home, &["replay", "show", id])["state"] == "done").then_some(())
    });
    let sent = lines(&home).split_off(8);
    assert_eq!(sent.len(), 3);
    for line in &sent {
        assert_eq!((line.route.as_str(), line.ended("conversation")), ("talks", ("ok", "")));
        assert!(line.delivery.ends_with(&format!("/talks/{id}")), "{}", line.delivery);
        assert!(lacking.contains(&line.subject), "{}", line.subject);
    }
    // Dead letters have another way.
    let refused = run(&home, &["replay", "dl_bW9yZ3VlfDB8MXw", "--refresh"]);
    assert!(!refused.status.success());
}
