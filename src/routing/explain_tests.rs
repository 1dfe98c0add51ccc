//! What explanations say.

use super::{Answer, Explanation};
use crate::{
    config::settings::Route,
    domain::{EnrichmentPart, EnrichmentStatus, Event},
    routing::fixtures::{compile, event, located, part, route, settings, to},
};

fn explain(routes: Vec<Route>, event: &Event, parts: Option<&[EnrichmentPart]>) -> Explanation {
    let table = compile(&settings(routes)).expect("good routes").0;
    let explanation = table.explain(event, parts);
    let decision = table.finish(event, &table.evaluate(event), parts.unwrap_or_default());
    let matched = explanation.routes.iter().filter(|it| matches!(it.answer, Answer::Matched { .. }));
    let matched: Vec<_> = matched.map(|it| it.route.as_str()).collect();
    let mut decided: Vec<_> = decision.targets.iter().map(|it| it.route.as_str()).collect();
    decided.dedup();
    assert!(parts.is_none() && matched.len() <= decided.len() || matched == decided, "{explanation}");
    explanation
}

fn because(when: &str, payload: &str) -> Vec<String> {
    let explanation = explain(vec![route("it", when)], &event(payload), Some(&[]));
    match &explanation.routes[0].answer {
        Answer::NotMatched { because, .. } | Answer::Dead { because, .. } => {
            because.iter().map(ToString::to_string).collect()
        }
        answer => panic!("{when}: {answer:?}"),
    }
}

#[test]
fn a_no_is_traced_to_the_smallest_part_that_said_so() {
    for (when, payload, wanted) in [
        (
            r#"event.type == "x" && has(body.tel)"#,
            r#"{"tel":"1"}"#,
            &[r#"`event.type == "x"` is false: `event.type` is "cus.upsert""#][..],
        ),
        (
            r#"event.type == "cus.upsert" && (has(body.tel) || has(body.weixin))"#,
            "{}",
            &[
                "`has(body.tel)` is false: there is no `body.tel`",
                "`has(body.weixin)` is false: there is no `body.weixin`",
            ],
        ),
        (
            "!(has(body.tel) && body.n > 1)",
            r#"{"tel":"1","n":2}"#,
            &[r#"`has(body.tel)` is true: `body.tel` is "1""#, "`body.n > 1` is true: `body.n` is 2"],
        ),
        (
            "body.n > 1 ? body.tel == 'x' : true",
            r#"{"tel":"小黄鸭","n":2}"#,
            &["`body.n > 1` is true: `body.n` is 2", r#"`body.tel == "x"` is false: `body.tel` is "小黄鸭""#],
        ),
        (
            "body.tel == '1' && true",
            r#"{"tel":null}"#,
            &[r#"`body.tel == "1"`: no match: a field is not there: there is no `body.tel`"#],
        ),
        ("true && body.n > 'x'", r#"{"n":2}"#, &[r#"`body.n > "x"`: `>` does not take (int, string): `body.n` is 2"#]),
        (
            "'vip' in body.tags && body.tags[0] == 'a'",
            r#"{"tags":["a","b"]}"#,
            &[r#"`"vip" in body.tags` is false: `body.tags` is a list of 2"#],
        ),
        (
            "body.tags.exists(t, t == 'c') || body.a.b.matches('^x')",
            r#"{"tags":["a"],"a":{"b":"y"}}"#,
            &[
                r#"`body.tags.exists(t, t == "c")` is false: `body.tags` is a list of 1"#,
                r#"`body.a.b.matches("^x")` is false: `body.a.b` is "y""#,
            ],
        ),
        (
            r#"!body["yes"] || size(body.o) - 1 == -2 * 3"#,
            r#"{"yes":true,"o":{}}"#,
            &[
                r#"`!body["yes"]` is false: `body["yes"]` is true"#,
                "`(size(body.o) - 1) == (-2 * 3)` is false: `body.o` is an object",
            ],
        ),
    ] {
        assert_eq!(because(when, payload), wanted, "{when}");
    }
}

#[test]
fn long_values_are_cut() {
    let text = "黄".repeat(100);
    let said = because("body.x == ''", &format!(r#"{{"x":"{text}"}}"#));
    assert!(said[0].ends_with('…') && said[0].chars().count() < 100, "{said:?}");
}

#[test]
fn every_route_has_its_answer() {
    let event = event(r#"{"tel":"1"}"#);
    let vip = Route {
        enrich: vec!["client".into()],
        when_enriched: Some(located("enrichment.client.record.level == 'A'")),
        stop: true,
        ..route("vip", "has(body.tel)")
    };
    let keyed = Route { to: vec![to("crm", Some("{{ body.tel }}")), to("archive", None)], ..route("keyed", "") };
    let dead = Route { to: vec![to("crm", Some("{{ body.nope }}"))], ..route("dead", "") };
    let routes = || vec![route("no", "false"), vip.clone(), keyed.clone(), dead.clone()];

    let before = explain(routes(), &event, None).to_string();
    assert!(before.contains("vip: matches so far, wants client"), "{before}");
    let b = [part("client", EnrichmentStatus::Ok, Some(r#"{"level":"B"}"#))];
    let after = explain(routes(), &event, Some(&b)).to_string();
    for wanted in [
        "no: does not match by its `when`",
        "vip: does not match by its `when_enriched`",
        r#"`enrichment.client.record.level == "A"` is false: `enrichment.client.record.level` is "B""#,
        "keyed: matches\n    to crm, key \"1\"\n    to archive\n",
        "dead: dead letter `template`: to `crm`: `body.nope` is not there",
    ] {
        assert!(after.contains(wanted), "{wanted} in {after}");
    }
    let a = [part("client", EnrichmentStatus::Ok, Some(r#"{"level":"A"}"#))];
    let stopped = explain(routes(), &event, Some(&a)).to_string();
    assert!(stopped.contains("keyed: not asked: `vip` matched and says `stop`"), "{stopped}");
}

#[test]
fn scripts_get_the_same_as_json() {
    let explanation = explain(vec![route("it", "has(body.tel)")], &event("{}"), Some(&[]));
    let json = serde_json::to_value(&explanation).unwrap();
    let saw = serde_json::json!([{"name": "body.tel", "value": null}]);
    let reason = serde_json::json!({"expression": "has(body.tel)", "result": "false", "saw": saw});
    assert_eq!(json["type"], "cus.upsert");
    let wanted = serde_json::json!(
        {"route": "it", "answer": "not_matched", "condition": "when", "because": [reason]}
    );
    assert_eq!(json["routes"][0], wanted);
}

#[test]
fn an_event_that_cannot_be_read_is_said_to_be_so() {
    let mut event = event("{}");
    (event.content.kind, event.content.payload) = ("".into(), None);
    let explanation = explain(vec![route("it", "")], &event, Some(&[]));
    assert_eq!(explanation.routes[0].answer, Answer::Unparsable);
}
