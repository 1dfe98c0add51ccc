//! Who may come in: empty probes and addresses. What the door turns away reaches no broker, what it lets in both.

use super::{EVERYTHING, Line, post};
use crate::{
    cli::edit,
    crash::push::{ENTERPRISE, Push, SECRET, sign},
    program::{Home, PATIENCE, Program, wait_for},
    proxy::Mode,
    reload::reload,
};

/// A request for a source, with header lines more.
fn request(source: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /hooks/{source}/acme HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{headers}\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A signed push for a source, with header lines more.
fn signed(source: &str, headers: &str, push: Push) -> Vec<u8> {
    let body = push.body();
    request(source, &format!("Laigu-Signature: {}\r\n{headers}", sign(&body, SECRET)), &body)
}

/// Two sources of one vendor: what else each says of itself, and of its tenant.
fn sources(sources: [(&str, &str, &str); 2]) -> String {
    let one = |(name, of_source, of_tenant): (&str, &str, &str)| {
        format!(
            "  {name}:\n    type: laigu\n{of_source}    tenants:\n      acme: {{ enterprise_token: {ENTERPRISE}, \
             secret: {SECRET}{of_tenant} }}\n"
        )
    };
    format!("sources:\n{}", sources.map(one).concat())
}

/// Takes the changed file into force.
fn take(home: &Home) {
    let (status, body) = reload(home);
    assert_eq!(status, 200, "{body}");
}

/// Waits until both brokers have these, of several sources, in any order; and ends the program to see no more.
fn exactly(line: &mut Line, home: &Home, program: Program, expected: &[Push]) {
    let mut expected: Vec<_> = expected.iter().map(|push| push.body()).collect();
    let (mut messages, mut records) = (Vec::new(), Vec::new());
    wait_for("a message of each", PATIENCE, || {
        messages.extend(line.queue.look().into_iter().map(|message| message.value));
        (messages.len() >= expected.len()).then_some(())
    });
    wait_for("a record of each", PATIENCE, || {
        records.extend(line.topic.look().into_iter().map(|record| record.value));
        (records.len() >= expected.len()).then_some(())
    });
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    messages.extend(line.queue.look().into_iter().map(|message| message.value));
    records.extend(line.topic.look().into_iter().map(|record| record.value));
    for list in [&mut expected, &mut messages, &mut records] {
        list.sort();
    }
    assert!(messages == expected, "{} messages, not {}", messages.len(), expected.len());
    assert!(records == expected, "{} records, not {}", records.len(), expected.len());
}

#[test]
fn empty_probes_are_answered_as_each_source_says_and_reach_no_broker() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home_of(&sources([("strict", "", ""), ("open", "    probe: accept\n", "")]), EVERYTHING);
    let program = home.start();
    let mut pushes = (0..).map(|number| Push { key: 0, number });
    let mut expected = Vec::new();
    for (strict, open) in [(401, 200), (200, 401)] {
        for (source, status) in [("strict", strict), ("open", open)] {
            for probe in [&b""[..], b"{}", b" {\r\n} "] {
                assert_eq!(post(&home, &request(source, "", probe)), status, "{source}: {probe:?}");
                // Who claims to have signed is held to it.
                assert_eq!(post(&home, &request(source, "Laigu-Signature: 00\r\n", probe)), 401, "{source}");
            }
            let push = pushes.next().unwrap();
            assert_eq!(post(&home, &request(source, "", &push.body())), 401, "{source}: a push is no probe");
            assert_eq!(post(&home, &signed(source, "", push)), 200, "{source}");
            expected.push(push);
        }
        // The other way round, from the next request on.
        edit(&home, "    probe: accept\n", "");
        edit(&home, "  strict:\n", "  strict:\n    probe: accept\n");
        take(&home);
    }
    program.wait_for("laigu_router_accepted_total", &[], 4.0);
    program.wait_for("laigu_router_rejected_total", &["reason=\"signature\""], f64::from(2 * (3 + 6 + 2)));
    exactly(&mut line, &home, program, &expected);
    line.end();
}

#[test]
fn only_listed_addresses_behind_a_trusted_proxy_reach_the_brokers() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let listed = ", allow_from: [203.0.113.0/24, '2001:db8::/32']";
    let home = line.home_of(&sources([("laigu", "", listed), ("other", "", "")]), EVERYTHING);
    edit(&home, "  shutdown_delay: 0s\n", "  shutdown_delay: 0s\n  trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n");
    let program = home.start();
    let mut expected = Vec::new();
    let mut turned_away = 0;
    let mut number = 0;
    let mut push = |hops: &str, status: u16| {
        let push = Push { key: 0, number };
        number += 1;
        let header = if hops.is_empty() { String::new() } else { format!("X-Forwarded-For: {hops}\r\n") };
        assert_eq!(post(&home, &signed("laigu", &header, push)), status, "{hops}");
        match status {
            200 => expected.push(push),
            _ => turned_away += 1,
        }
    };
    // The proxy says who came; what came before its word may be made up.
    push("203.0.113.7", 200);
    push("2001:db8:1::7", 200);
    push("198.51.100.1, 203.0.113.7, 10.1.2.3", 200);
    push("203.0.113.7, 198.51.100.1", 403);
    push("198.51.100.1", 403);
    push("not an address", 403);
    push("", 403);
    // Where nothing is listed everybody may sign.
    let unlisted = Push { key: 0, number: 100 };
    assert_eq!(post(&home, &signed("other", "X-Forwarded-For: 198.51.100.1\r\n", unlisted)), 200);
    // An address that is not listed learns nothing of the signature.
    let forged = request("laigu", "X-Forwarded-For: 198.51.100.1\r\nLaigu-Signature: 00\r\n", b"{}");
    assert_eq!(post(&home, &forged), 403);

    edit(&home, "  trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n", "");
    take(&home);
    push("203.0.113.7", 403);
    edit(&home, "203.0.113.0/24", "127.0.0.0/8");
    take(&home);
    push("198.51.100.1", 200);
    expected.push(unlisted);
    program.wait_for("laigu_router_rejected_total", &["reason=\"address\""], f64::from(turned_away + 1));
    exactly(&mut line, &home, program, &expected);
    line.end();
}
