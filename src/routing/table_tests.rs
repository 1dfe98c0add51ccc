//! How routes are decided together.

use super::{Decided, Table};
use crate::{
    config::{
        diagnostic::{Severity, SourceText},
        settings::{Route, Settings, Unrouted},
    },
    domain::{DeadCause, Decision, EnrichmentPart, EnrichmentStatus, Event, RouteName},
    routing::fixtures::{compile, event, located, part, route, settings, to},
};
use std::{path::Path, time::Duration};

fn table(routes: Vec<Route>) -> Table {
    compile(&settings(routes)).expect("good routes").0
}

fn decide(table: &Table, event: &Event, parts: &[EnrichmentPart]) -> Decision {
    let matched = table.evaluate(event);
    let decision = table.finish(event, &matched, parts);
    if matched.needs(table).next().is_none() {
        assert_eq!(table.decide(event), Decided::Now(decision.clone()), "both ways agree");
    }
    decision
}

fn names(decision: &Decision) -> Vec<&str> {
    decision.targets.iter().map(|target| target.route.as_str()).collect()
}

fn dead(decision: &Decision) -> Vec<(Option<&str>, DeadCause)> {
    decision.dead.iter().map(|dead| (dead.route.as_ref().map(RouteName::as_str), dead.cause)).collect()
}

#[test]
fn all_matching_routes_fire_in_order() {
    let table = table(vec![
        route("leads", r#"event.type == "cus.upsert" && has(body.tel)"#),
        route("talks", r#"event.type.startsWith("conversation.")"#),
        route("everything", ""),
    ]);
    assert_eq!(names(&decide(&table, &event(r#"{"tel":"1"}"#), &[])), ["leads", "everything"]);
    assert_eq!(names(&decide(&table, &event("{}"), &[])), ["everything"]);
}

#[test]
fn stop_ends_the_search_only_when_its_route_matches() {
    let stop = |name, when| Route { stop: true, ..route(name, when) };
    let table = table(vec![stop("vip", "body.vip"), stop("broken", "body.n > 'x'"), route("rest", "")]);
    assert_eq!(names(&decide(&table, &event(r#"{"vip":true,"n":1}"#), &[])), ["vip"]);
    assert_eq!(names(&decide(&table, &event(r#"{"vip":false}"#), &[])), ["rest"]);
    let decision = decide(&table, &event(r#"{"vip":false,"n":1}"#), &[]);
    assert_eq!(names(&decision), ["rest"], "a failed condition has not matched");
    assert_eq!(dead(&decision), [(Some("broken"), DeadCause::Condition)]);
}

#[test]
fn a_stop_behind_when_enriched_is_decided_last() {
    let vip = Route {
        stop: true,
        enrich: vec!["client".into()],
        when_enriched: Some(located(r#"enrichment.client.record.level == "A""#)),
        ..route("vip", "has(body.tel)")
    };
    let table = table(vec![vip, route("broken", "body.tel > 1"), route("rest", "")]);
    let event = event(r#"{"tel":"1"}"#);
    let ok = |level| [part("client", EnrichmentStatus::Ok, Some(level))];
    let stopped = decide(&table, &event, &ok(r#"{"level":"A"}"#));
    assert_eq!((names(&stopped), stopped.dead.len()), (vec!["vip"], 0));
    let went_on = decide(&table, &event, &ok(r#"{"level":"B"}"#));
    assert_eq!(names(&went_on), ["rest"]);
    assert_eq!(dead(&went_on), [(Some("broken"), DeadCause::Condition)]);
    let failed = decide(&table, &event, &[part("client", EnrichmentStatus::Failed, None)]);
    assert_eq!(names(&failed), ["rest"], "no record, no level: it does not match");
}

#[test]
fn the_needs_of_matched_routes_are_joined() {
    let wants = |name, when, what: &[&str], required, seconds| Route {
        enrich: what.iter().map(|it| (*it).to_owned()).collect(),
        required,
        enrich_within: Duration::from_secs(seconds),
        ..route(name, when)
    };
    let table = table(vec![
        wants("one", "", &["client"], false, 5),
        wants("two", "", &["client", "agent"], true, 10),
        wants("other", "false", &["conversation"], true, 60),
    ]);
    let matched = table.evaluate(&event("{}"));
    let needs: Vec<_> = matched.needs(&table).map(|it| (it.what, it.required, it.within.as_secs())).collect();
    assert_eq!(needs, [("client", true, 10), ("agent", true, 10)]);
    assert!(matches!(table.decide(&event("{}")), Decided::Needs(_)));
}

#[test]
fn a_required_record_that_is_not_there_kills_its_route_alone() {
    let wants = Route { enrich: vec!["client".into()], required: true, ..route("wants", "") };
    let table = table(vec![wants, route("rest", "")]);
    let after = |parts: &[_]| decide(&table, &event("{}"), parts);
    for good in [EnrichmentStatus::Ok, EnrichmentStatus::NotApplicable] {
        assert_eq!(names(&after(&[part("client", good, Some("{}"))])), ["wants", "rest"]);
    }
    for bad in [EnrichmentStatus::Failed, EnrichmentStatus::Missing] {
        let decision = after(&[part("client", bad, None)]);
        assert_eq!(names(&decision), ["rest"]);
        assert_eq!(dead(&decision), [(Some("wants"), DeadCause::EnrichmentRequired)]);
    }
    assert_eq!(dead(&after(&[])), [(Some("wants"), DeadCause::EnrichmentRequired)]);
}

#[test]
fn a_route_sees_and_carries_what_it_asked_for_and_no_other_routes_records() {
    let wants = |name, what: &[&str], when_enriched: Option<&str>| Route {
        enrich: what.iter().map(|it| (*it).to_owned()).collect(),
        when_enriched: when_enriched.map(located),
        ..route(name, "")
    };
    let table = table(vec![
        wants("client", &["client"], None),
        route("raw", ""),
        wants(
            "both",
            &["agent", "client"],
            Some("enrichment.agent.status == 'ok' && enrichment.client.status == 'ok'"),
        ),
        wants("agent", &["agent"], Some("size(enrichment) == 1")),
    ]);
    let ok = |what| part(what, EnrichmentStatus::Ok, Some("{}"));
    let decision = decide(&table, &event("{}"), &[ok("client"), ok("agent")]);
    let parts: Vec<_> = decision.targets.iter().map(|target| (target.route.as_str(), target.parts.0)).collect();
    assert_eq!(parts, [("client", 0b01), ("raw", 0), ("both", 0b11), ("agent", 0b10)]);
}

#[test]
fn addresses_are_rendered_by_kind_of_destination() {
    let template = Some("customer.{{ body.source | default('unknown') }}");
    let all = Route {
        to: vec![to("crm", template), to("crm", None), to("lake", None), to("lake", template), to("archive", None)],
        ..route("all", "")
    };
    let table = table(vec![all]);
    let addresses = |event: &Event| {
        let decision = decide(&table, event, &[]);
        decision.targets.into_iter().map(|it| it.address.map(String::from)).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let mut event = event(r#"{"source":"redbook"}"#);
    let customer = some("customer.redbook");
    let wanted = [customer.clone(), some("cus.upsert"), some("acme/t1"), customer, None];
    assert_eq!(addresses(&event), wanted);
    event.content.key = None;
    event.content.payload = None;
    let unknown = some("customer.unknown");
    assert_eq!(addresses(&event), [unknown.clone(), some("cus.upsert"), None, unknown, None]);
}

#[test]
fn a_failed_template_kills_all_of_its_route_and_no_other() {
    let two = Route { to: vec![to("archive", None), to("crm", Some("{{ body.x }}"))], ..route("two", "") };
    let table = table(vec![two, route("rest", "")]);
    for payload in ["{}", r#"{"x":null}"#, r#"{"x":"a.b"}"#, r#"{"x":[1]}"#] {
        let decision = decide(&table, &event(payload), &[]);
        assert_eq!(names(&decision), ["rest"], "{payload}");
        assert_eq!(dead(&decision), [(Some("two"), DeadCause::Template)], "{payload}");
        assert!(decision.dead[0].detail.contains("`crm`") && decision.dead[0].detail.contains("body.x"));
    }
    assert_eq!(names(&decide(&table, &event(r#"{"x":"ok"}"#), &[])), ["two", "two", "rest"]);
}

#[test]
fn what_no_route_takes_is_kept_or_discarded_as_written() {
    let routes = || vec![route("leads", "has(body.tel)")];
    let discard = compile(&Settings { unrouted: Unrouted::Discard, ..settings(routes()) });
    let (keep, discard) = (table(routes()), discard.unwrap().0);
    assert!(decide(&keep, &event("{}"), &[]).is_unrouted());
    assert!(decide(&discard, &event("{}"), &[]).discarded);
    assert!(!decide(&discard, &event(r#"{"tel":"1"}"#), &[]).discarded);
    let fails = decide(&discard, &event(r#"{"tel":"1"}"#), &[]);
    assert!(!fails.is_unrouted());
    // One route alone says nothing about the others.
    let leads = RouteName::parse("leads").unwrap();
    let alone = discard.evaluate_route(&event("{}"), &leads).unwrap();
    assert!(discard.finish(&event("{}"), &alone, &[]).is_unrouted());
}

#[test]
fn one_route_can_be_decided_again() {
    let stop = Route { stop: true, ..route("first", "") };
    let table = table(vec![stop, route("second", "has(body.tel)")]);
    let event = event(r#"{"tel":"1"}"#);
    let name = |text| RouteName::parse(text).unwrap();
    let matched = table.evaluate_route(&event, &name("second")).unwrap();
    assert_eq!(names(&table.finish(&event, &matched, &[])), ["second"], "an earlier stop is nothing to it");
    assert_eq!(table.evaluate_route(&event, &name("gone")), None);
}

#[test]
fn what_is_no_json_object_is_unparsable() {
    let table = table(vec![route("leads", "has(body.tel)"), route("rest", "")]);
    let unparsable = [(None, DeadCause::Unparsable)];
    let mut broken = event("{}");
    broken.content.body = bytes::Bytes::from_static(b"{'body': [1, ");
    broken.content.payload = Some(9..13);
    assert_eq!(dead(&decide(&table, &broken, &[])), unparsable);
    let mut defective = event("{}");
    (defective.content.kind, defective.content.payload) = ("".into(), None);
    assert_eq!(dead(&decide(&table, &defective, &[])), unparsable);
    let first = RouteName::parse("rest").unwrap();
    let alone = table.evaluate_route(&defective, &first).unwrap();
    assert_eq!(dead(&table.finish(&defective, &alone, &[])), unparsable);
}

#[test]
fn a_field_that_is_not_there_is_counted() {
    let table = table(vec![route("leads", "body.tel == '1'"), route("rest", "has(body.tel)")]);
    for payload in ["{}", r#"{"tel":null}"#, r#"{"tel":"2"}"#, r#"{"tel":"1"}"#] {
        let _ = table.evaluate(&event(payload));
    }
    let counts: Vec<_> = table.missing_fields().map(|(name, count)| (name.as_str(), count)).collect();
    assert_eq!(counts, [("leads", 2), ("rest", 0)]);
}

#[test]
fn the_next_table_counts_on_where_a_route_of_that_name_left_off() {
    let before = table(vec![route("leads", "body.tel == '1'"), route("gone", "body.tel == '1'")]);
    let mut next = table(vec![route("new", "body.tel == '1'"), route("leads", "body.tel == '2'")]);
    let _ = before.evaluate(&event("{}"));
    next.count_on(&before);
    // An event that the table before still decides is not forgotten either.
    for table in [&next, &before] {
        let _ = table.evaluate(&event("{}"));
    }
    let counts: Vec<_> = next.missing_fields().map(|(name, count)| (name.as_str(), count)).collect();
    assert_eq!(counts, [("new", 1), ("leads", 3)]);
}

#[test]
fn a_condition_that_fails_on_a_sample_is_warned_about() {
    let warned = |when| {
        let (_, problems) = compile(&settings(vec![route("tried", when)])).expect(when);
        problems.into_iter().map(|it| format!("{}: {}", it.message, it.label)).collect::<Vec<_>>()
    };
    let type_clash = "route `tried`: the condition fails on a sample `cus.upsert`: `>` does not take (string, int)";
    assert_eq!(warned("body.age > 17"), [type_clash]);
    let no_answer = "route `tried`: the condition fails on a sample `cus.upsert`: the answer is a string, not true \
                     or false";
    assert_eq!(warned("body.tel"), [no_answer]);
    for fine in ["int(body.age) > 17", "body.nobody_knows > 17", "has(body.tel)", ""] {
        assert!(warned(fine).is_empty(), "{fine}");
    }
}

#[test]
fn every_mistake_is_reported_at_once_with_its_place() {
    let mut bad = route("bad", "bdy.tel == 1");
    bad.when_enriched = Some(located("enrichment.client.status == 'ok'"));
    bad.to = vec![to("crm", Some("{{ event.typ }}")), to("lake", Some("{{ body.x }}"))];
    let source = SourceText::new(Path::new("routes.yaml"), "bdy.tel == 1");
    let problems = Table::compile(&settings(vec![route("good", ""), bad]), &source).unwrap_err();
    let said: Vec<_> = problems.iter().map(|it| (it.severity, it.message.as_str())).collect();
    assert_eq!(
        said,
        [
            (Severity::Error, "route `bad`: there is no `bdy`"),
            (Severity::Error, "route `bad`: the route does not fetch `client`"),
            (Severity::Error, "route `bad`: `event` has no `typ`"),
            (Severity::Warning, "route `bad`: `body.x` may be absent, and the event would be a dead letter then"),
        ]
    );
    assert_eq!(problems[0].span, 0..3);
}
