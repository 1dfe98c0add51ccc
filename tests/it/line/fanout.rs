//! One push, three destinations: who gets it, and what exactly.

use super::{
    Line,
    marks::{CREATED_AT, Marks, same_event},
    post,
};
use crate::{
    crash::push::{ENTERPRISE, request, signed},
    program::{PATIENCE, wait_for},
    proxy::Mode,
};
use serde_json::{Value, value::RawValue};
use std::collections::BTreeMap;

const ROUTES: &str = "routes:
  - name: leads
    when: event.type == \"cus.upsert\" && has(body.tel)
    to:
      - { destination: crm, routing_key: \"customer.{{ body.source | default('unknown') }}\" }
      - destination: lake
  - { name: customers, when: event.type == \"cus.upsert\", to: [archive] }
";

fn body(event: &str, id: &str, payload: &str) -> String {
    format!(
        "{{\"event\": \"{event}\",\t\"enterprise_token\":\"{ENTERPRISE}\",\"created_at\":{CREATED_AT},\
         \"body\":{{{payload}, \"n\":1.00e2,\"名\":\"鸭\\u00e9\\/\"}} ,\"id\":\"{id}\"}}"
    )
}

#[test]
fn one_push_arrives_at_rabbitmq_kafka_and_file_as_the_contract_says() {
    let mut line = Line::new(Mode::Pass, Mode::Pass);
    let home = line.home(ROUTES);
    let program = home.start();
    let lead = body("cus.upsert", "sub_lead", "\"tel\":\"13800000000\",\"source\":\"redbook\",\"track_id\":\"trk_1\"");
    let nameless = body("cus.upsert", "sub_nameless", "\"tel\":\"13800000001\",\"track_id\":\"trk_2\"");
    let visitor = body("cus.upsert", "sub_visitor", "\"track_id\":\"trk_3\"");
    let other = body("client.updated", "sub_other", "\"track_id\":\"trk_4\"");
    let broken = "{\"event\":\"cus.upsert\",";
    for taken in [&lead, &nameless, &visitor, &other, broken] {
        assert_eq!(post(&home, &signed(taken.as_bytes())), 200, "{taken}");
    }
    assert_eq!(post(&home, &request(lead.as_bytes(), &"0".repeat(40))), 401);
    assert_eq!(post(&home, &signed(lead.as_bytes())), 200);

    let mut messages = Vec::new();
    wait_for("two messages", PATIENCE, || {
        messages.extend(line.queue.look());
        (messages.len() >= 2).then_some(())
    });
    let mut records = Vec::new();
    wait_for("two records", PATIENCE, || {
        records.extend(line.topic.look());
        (records.len() >= 2).then_some(())
    });
    program.wait_for("laigu_router_delivered_total", &["archive"], 3.0);
    messages.sort_by_key(|message| message.routing_key.clone());
    records.sort_by_key(|record| record.key.clone());
    assert_eq!(
        messages.iter().map(|message| &*message.routing_key).collect::<Vec<_>>(),
        ["customer.redbook", "customer.unknown"]
    );
    let marks = Marks { subject: "trk_1", vendor_id: "sub_lead" };
    marks.check_message(&messages[0], &lead);
    marks.check_record(&records[0], &lead);
    assert_eq!(messages[1].value, nameless.as_bytes());
    assert_eq!(records[1].key.as_deref(), Some("acme/trk_2"));
    assert_eq!(records[1].value, nameless.as_bytes());
    let id = same_event(&messages[0], &records[0]);
    check_lines(&home, &id, [&lead, &nameless, &visitor]);

    for (name, labels, expected) in [
        ("accepted_total", &[][..], 5.0),
        ("duplicates_total", &[], 1.0),
        ("rejected_total", &["reason=\"signature\""], 1.0),
        ("unrouted_total", &[], 1.0),
        ("dead_letters_total", &["destination=\"\"", "cause=\"unparsable\""], 1.0),
        ("dead_letters_total", &[], 1.0),
        ("routed_total", &["leads"], 4.0),
        ("routed_total", &["customers"], 3.0),
        ("delivered_total", &["crm"], 2.0),
        ("delivered_total", &["lake"], 2.0),
        ("destination_state", &["crm", "state=\"up\""], 1.0),
        ("destination_state", &["lake", "state=\"up\""], 1.0),
        ("destination_state", &["archive", "state=\"up\""], 1.0),
        ("lag_events", &[], 0.0),
    ] {
        program.wait_for(&format!("laigu_router_{name}"), labels, expected);
    }
    assert!(program.terminate(PATIENCE).success(), "{}", home.log());
    assert_eq!((line.queue.look().len(), line.topic.look().len()), (0, 0), "more than was asked for");
    line.end();
}

fn check_lines(home: &crate::program::Home, id: &str, bodies: [&String; 3]) {
    let folder = home.path("archive");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(file).unwrap();
    let mut data: Vec<_> = text
        .lines()
        .map(|line| {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(line).unwrap();
            members["data"].get().to_owned()
        })
        .collect();
    let mut expected: Vec<_> = bodies.into_iter().cloned().collect();
    data.sort();
    expected.sort();
    assert_eq!(data, expected);
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lead = lines.into_iter().find(|line| line["xvendorid"] == "sub_lead").unwrap();
    for (name, value) in [
        ("specversion", "1.0"),
        ("id", id),
        ("source", "/laigu/acme"),
        ("type", "com.laigu.cus.upsert"),
        ("subject", "trk_1"),
        ("datacontenttype", "application/json"),
        ("xroute", "customers"),
        ("xdelivery", &format!("{id}/customers")),
    ] {
        assert_eq!(lead[name], value, "{name}");
    }
}
