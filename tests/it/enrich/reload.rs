//! Secrets that are rotated, and APIs that come and go, while the program runs.

use super::{CLIENTS, CONVERSATIONS, Vendor, client, home, push, text, wait_for_lines};
use crate::program::Home;
use laigu_router::sandbox::{
    Options,
    faults::{Endpoint, Fault},
    world::{World, is_customer},
};
use std::fs;

fn rewrite(home: &Home, text: &str) {
    let file = home.path("routes.yaml");
    let head = fs::read_to_string(&file).unwrap();
    let head = &head[..head.find("sources:").unwrap()];
    fs::write(home.path("new.yaml"), format!("{head}{text}")).unwrap();
    fs::rename(home.path("new.yaml"), &file).unwrap();
    reload(home);
}

/// `POST /api/v1/routes/reload`.
fn reload(home: &Home) {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", home.admin)).unwrap();
    stream.set_read_timeout(Some(crate::program::PATIENCE)).unwrap();
    let request =
        "POST /api/v1/routes/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_rotated_token_applies_at_once() {
    let vendor = Vendor::new(Options { access_token: "the-new-token".into(), ..Options::default() });
    let old = vendor.api("100/s");
    let home = home(&old, CONVERSATIONS);
    let _program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    assert_eq!(wait_for_lines(&home, 1)[0].ended("conversation"), ("failed", "credentials"));
    push(&home, &vendor.conversation(1, "conversation.updated").1);
    assert_eq!(wait_for_lines(&home, 2)[1].ended("conversation"), ("failed", "credentials"));
    assert_eq!(vendor.calls(), 1, "what is refused once is not asked again");
    rewrite(&home, &text(&old.replace("sandbox-access-token", "the-new-token"), CONVERSATIONS));
    push(&home, &vendor.conversation(2, "conversation.updated").1);
    assert_eq!(wait_for_lines(&home, 3)[2].ended("conversation"), ("ok", ""));
}

#[test]
fn what_was_fetched_outlives_a_reload_and_another_api_begins_anew() {
    let (first, second) = (Vendor::start(), Vendor::start());
    let home = home(&first.api("100/s"), CLIENTS);
    let _program = home.start();
    let customer = |world: &mut World| world.clients.iter().find(|row| is_customer(row)).unwrap().clone();
    let row = first.sandbox.with_world(customer);
    push(&home, &client(&row));
    assert_eq!(wait_for_lines(&home, 1)[0].ended("client"), ("ok", ""));
    let calls = first.calls();
    rewrite(&home, &text(&first.api("90/s"), CLIENTS));
    push(&home, &client(&row));
    wait_for_lines(&home, 2);
    assert_eq!((first.calls(), second.calls()), (calls, 0));
    rewrite(&home, &text(&second.api("90/s"), CLIENTS));
    push(&home, &client(&row));
    wait_for_lines(&home, 3);
    assert_eq!(first.calls(), calls);
    assert!(second.calls() > 0);
}

#[test]
fn an_api_that_is_taken_out_of_the_file_fails_those_who_wait_for_it_at_once() {
    let vendor = Vendor::start();
    vendor.sandbox.faults().plan(Endpoint::Conversation, u32::MAX, Fault::Hang);
    let routes = CONVERSATIONS.replace("enrich: [conversation]", "enrich: [conversation], enrich_within: 1h");
    let home = home(&vendor.api("100/s"), &routes);
    let program = home.start();
    push(&home, &vendor.conversation(0, "conversation.updated").1);
    program.wait_for("laigu_router_enrichment_waiting", &[], 1.0);
    rewrite(&home, &text("null", &routes));
    assert_eq!(wait_for_lines(&home, 1)[0].ended("conversation"), ("failed", "no_api"));
    program.wait_for("laigu_router_enrichment_waiting", &[], 0.0);
}
