//! What deciding costs: one event of 1 KB with Chinese text, the conditions and keys that people write.
//!
//! `cargo bench --bench routing`. A fresh scope each time, so that scanning the payload is counted; `evaluate_only`
//! is the interpreter alone, over a payload that was scanned before.

use divan::{Bencher, black_box};
use laigu_router::{
    domain::Event,
    routing::{
        budget::Budget,
        condition::Condition,
        json, samples,
        scope::Scope,
        template::{AddressKind, Template},
    },
};

fn main() {
    divan::main();
}

const LEADS: &str = r#"event.type == "cus.upsert" && (has(body.tel) || has(body.weixin))"#;

const CONDITIONS: [&str; 6] = [
    "true",
    r#"event.type == "client.updated""#,
    LEADS,
    r#"event.type == "cus.upsert" && body.source in ["redbook", "douyin"] && has(body.tel)"#,
    r#"event.type == "cus.upsert" && (has(body.nope) || has(body.none))"#,
    r#"body.tags.exists(tag, tag == 77) && body.tel.matches("^1[0-9]{10}$")"#,
];

const TEMPLATES: [&str; 4] = [
    "{{ event.tenant }}/{{ event.key }}",
    "customer.{{ body.source | default('unknown') }}",
    "{{ event.type }}",
    "customer.{{ body.source | upper }}",
];

#[divan::bench(args = CONDITIONS)]
fn condition(bencher: Bencher<'_, '_>, source: &str) {
    let (event, condition) = (samples::lead(), Condition::compile(source, None).expect("good"));
    bencher.bench(|| {
        let budget = Budget::default();
        condition.evaluate(&Scope::new(black_box(&event), &budget))
    });
}

#[divan::bench(args = CONDITIONS)]
fn evaluate_only(bencher: Bencher<'_, '_>, source: &str) {
    let (event, condition) = (samples::lead(), Condition::compile(source, None).expect("good"));
    let budget = Budget::default();
    let scope = Scope::new(&event, &budget);
    let _ = scope.body().map(|body| body.names().count());
    bencher.bench(|| condition.evaluate(black_box(&scope)));
}

#[divan::bench(args = TEMPLATES)]
fn key(bencher: Bencher<'_, '_>, source: &str) {
    let event = samples::lead();
    let (template, _) = Template::compile(source, AddressKind::RecordKey, &[]).expect("good");
    let budget = Budget::default();
    let scope = Scope::new(&event, &budget);
    let _ = scope.body().map(|body| body.names().count());
    bencher.bench(|| template.render(black_box(&scope)));
}

/// The payload's members found, nothing decoded.
#[divan::bench]
fn scan(bencher: Bencher<'_, '_>) {
    let event = samples::lead();
    let payload = payload(&event);
    bencher.bench(|| json::members(black_box(payload)).map(|members| members.len()));
}

/// What scanning saves: a tree of the payload.
#[divan::bench]
fn tree(bencher: Bencher<'_, '_>) {
    let event = samples::lead();
    let payload = payload(&event);
    bencher.bench(|| serde_json::from_slice::<serde_json::Value>(black_box(payload)).expect("JSON"));
}

fn payload(event: &Event) -> &[u8] {
    event.payload().expect("the lead has a payload")
}
