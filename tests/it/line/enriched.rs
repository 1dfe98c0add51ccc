//! A push and what was fetched for it, as consumers of both brokers get them; beside a route that fetches nothing.

use super::{
    Line,
    marks::{CREATED_AT, Marks, same_event},
    post,
};
use crate::{
    brokers::rabbitmq::Received,
    crash::push::{ENTERPRISE, SECRET, signed},
    enrich::{Vendor, calls_max, conversation},
    kafka::support::Seen,
    program::{PATIENCE, wait_for},
    proxy::Mode,
};
use laigu_router::{
    domain::Timestamp,
    sandbox::{faults::Endpoint, world::is_customer},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::{collections::BTreeMap, time::Instant};

const ROUTES: &str = "routes:
  - { name: leads, enrich: [client], to: [{ destination: crm, routing_key: rich }, lake] }
  - { name: plain, to: [{ destination: crm, routing_key: plain }, lake] }
";

fn source(vendor: &Vendor) -> String {
    format!(
        "sources:
  laigu:
    type: laigu
    tenants:
      acme: {{ enterprise_token: {ENTERPRISE}, enterprise_id: 104, secret: {SECRET}, api: {} }}
",
        vendor.api("200/s")
    )
}

/// What a consumer reads of an enriched value.
#[derive(Deserialize)]
struct Rich<'a> {
    #[serde(borrow)]
    enrichment: &'a RawValue,
}

/// The text that follows the push's own bytes, up to its last brace and from there, is one member and no more.
fn added<'a>(value: &'a [u8], push: &str) -> &'a str {
    let (head, tail) = push.split_at(push.rfind('}').unwrap());
    let value = std::str::from_utf8(value).unwrap();
    let rest = value.strip_prefix(head).unwrap_or_else(|| panic!("the push's bytes come first: {value}"));
    rest.strip_suffix(tail).unwrap_or_else(|| panic!("and last: {value}"))
}

#[test]
fn an_enriched_push_keeps_its_bytes_at_both_brokers_beside_a_route_that_adds_nothing() {
    let (vendor, mut line) = (Vendor::start(), Line::new(Mode::Pass, Mode::Pass));
    let home = line.home_of(&source(&vendor), ROUTES);
    let program = home.start();
    let row = vendor.sandbox.with_world(|world| {
        let id = world.clients.iter().find(|row| is_customer(row)).unwrap().id.clone();
        assert!(world.touch_client(&id, Timestamp::now()));
        world.clients.iter().find(|row| row.id == id).unwrap().clone()
    });
    let (track_id, updated) = (&row.id, &row.json["updated_on"]);
    let push = format!(
        "{{\"event\": \"cus.upsert\",\t\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":{CREATED_AT},\r\n\
         \"body\":{{\"tel\":\"13800000000\",\"track_id\":\"{track_id}\",\"updated_on\":{updated}, \"n\":1.00e2,\
         \"big\":12345678901234567890123,\"名\":\"鸭\\u00e9\\/}}\"}} ,\"id\":\"sub_rich\" }}\n"
    );
    assert_eq!(post(&home, &signed(push.as_bytes())), 200);

    let (mut messages, mut records) = (Vec::new(), Vec::new());
    wait_for("two messages", PATIENCE, || {
        messages.extend(line.queue.look());
        (messages.len() >= 2).then_some(())
    });
    wait_for("two records", PATIENCE, || {
        records.extend(line.topic.look());
        (records.len() >= 2).then_some(())
    });
    messages.sort_by_key(|message| message.header("x-route"));
    records.sort_by_key(|record| record.headers["x-route"].clone());
    let ([rich, plain], [rich_record, plain_record]) = (&messages[..], &records[..]) else { panic!("two of each") };
    assert_eq!([&*rich.routing_key, &*plain.routing_key], ["rich", "plain"]);
    assert_eq!([plain.header("x-route"), plain_record.headers["x-route"].clone()], ["plain", "plain"]);
    assert_eq!(plain.value, push.as_bytes());
    assert_eq!(plain_record.value, push.as_bytes());

    let value = std::str::from_utf8(&rich.value).unwrap();
    let marks = Marks { subject: track_id, vendor_id: "sub_rich" };
    marks.check_message(rich, value);
    marks.check_record(rich_record, value);
    let id = same_event(rich, rich_record);
    assert_eq!(id, same_event(plain, plain_record), "one event, however many routes");
    let member: Rich<'_> = serde_json::from_slice(&rich.value).unwrap();
    assert_eq!(added(&rich.value, &push), format!(",\"enrichment\":{}", member.enrichment.get()));
    let enrichment: Value = serde_json::from_str(member.enrichment.get()).unwrap();
    let client = &enrichment["client"];
    assert_eq!((&client["status"], client.get("reason")), (&"ok".into(), None), "{client}");
    let fetched_at = client["fetched_at"].as_str().and_then(Timestamp::parse_rfc3339);
    assert!(fetched_at.is_some_and(|at| at.since(Timestamp::now()).is_zero()), "{client}");
    assert_eq!(client["record"], Value::Object(row.json.clone()), "the API's record, whole");
    assert_eq!(enrichment.as_object().unwrap().len(), 1, "what the route asked for, alone");

    program.wait_for("laigu_router_lag_events", &[], 0.0);
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was asked for");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    line.end();
}

#[test]
fn a_thousand_pushes_over_fifty_conversations_reach_both_brokers_with_their_records_for_fifty_calls() {
    let (vendor, mut line) = (Vendor::start(), Line::new(Mode::Pass, Mode::Pass));
    let chosen = vendor.sandbox.with_world(|world| world.conversations[0].json["agent_name"].clone());
    let routes = format!(
        "routes:
  - {{ name: all, enrich: [conversation], required: true, to: [crm, lake] }}
  - name: chosen
    enrich: [conversation]
    when_enriched: enrichment.conversation.record.agent_name == {chosen}
    to: [crm, lake]
"
    );
    let home = line.home_of(&source(&vendor), &routes);
    let program = home.start();
    // The push does not say whose it is: only the record does.
    let silent = |index: usize| {
        let mut row = vendor.sandbox.with_world(|world| world.conversations[index].clone());
        row.json.remove("agent_name");
        conversation(&row, "conversation.updated").1
    };
    let pushed: Vec<_> = (0..1_000).map(|number| silent(number % 50)).collect();
    let sent: Vec<_> = std::thread::scope(|scope| {
        let (pushed, home) = (&pushed, &home);
        let worker = |worker: usize| {
            scope.spawn(move || {
                // All of one conversation over one sender, in their order.
                let of_worker = pushed.iter().enumerate().filter(|(number, _)| number % 50 % 4 == worker);
                let one = |(number, body): (usize, &Vec<u8>)| {
                    assert_eq!(post(home, &signed(body)), 200);
                    (number % 50, Instant::now())
                };
                of_worker.map(one).collect::<Vec<_>>()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let rows = vendor.sandbox.with_world(|world| world.conversations[..50].to_vec());
    let of_route = |route: &str| {
        let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (number, body) in pushed.iter().enumerate() {
            let row = &rows[number % 50];
            if route == "all" || row.json["agent_name"] == chosen {
                expected.entry(format!("{route} {}", row.id)).or_default().push(vendor_id(body));
            }
        }
        expected
    };
    let mut expected = of_route("all");
    expected.append(&mut of_route("chosen"));
    let count: usize = expected.values().map(Vec::len).sum();
    assert!(count > 1_000 && count < 2_000, "some are chosen, and some are not: {count}");

    let (mut messages, mut records) = (Vec::new(), Vec::new());
    wait_for("a message for each", PATIENCE, || {
        let of = |message: Received| (message.header("x-route"), message.header("cloudEvents_subject"), message.value);
        messages.extend(line.queue.look().into_iter().map(of));
        (messages.len() >= count).then_some(())
    });
    wait_for("a record for each", PATIENCE, || {
        let of = |record: Seen| (record.headers["x-route"].clone(), record.headers["ce_subject"].clone(), record.value);
        records.extend(line.topic.look().into_iter().map(of));
        (records.len() >= count).then_some(())
    });
    for (broker, came) in [("RabbitMQ", messages), ("Kafka", records)] {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (route, subject, value) in came {
            let json: Value = serde_json::from_slice(&value).unwrap();
            let part = &json["enrichment"]["conversation"];
            assert_eq!(part["status"], "ok", "{broker}: {part}");
            assert_eq!(part["record"]["conv_id"].to_string(), subject, "{broker}: the record of another one");
            found.entry(format!("{route} {subject}")).or_default().push(vendor_id(&value));
        }
        assert!(found == expected, "{broker}: each once, in the order of its conversation");
    }
    let (calls, most) = (vendor.sandbox.calls(Endpoint::Conversation), calls_max(&sent));
    assert!(calls <= most, "{calls} of {most}");
    assert_eq!(vendor.calls(), calls, "and no others");
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was decided");
    line.end();
}

fn vendor_id(value: &[u8]) -> String {
    let json: Value = serde_json::from_slice(value).unwrap();
    json["id"].as_str().unwrap().to_owned()
}
