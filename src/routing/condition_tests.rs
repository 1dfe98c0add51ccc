//! What conditions match, miss and refuse.

use super::{Condition, Verdict};
use crate::{
    domain::{EnrichmentStatus, Event},
    routing::{budget::Budget, fixtures, scope::Scope},
};
use std::time::{Duration, Instant};

const PAYLOAD: &str = r#"{"source":"redbook","name":"小黄鸭","tel":"138","n":7,"f":7.5,"big":18446744073709551615,
    "yes":true,"note":null,"tags":[9,"售前",null],"empty":[],"custom":{"意向":["甲"],"level":"A"},
    "t\u006fo":"a\"b","dup":1,"dup":2}"#;

fn ask(event: &Event, source: &str) -> Verdict {
    let budget = Budget::default();
    Condition::compile(source, None).unwrap().evaluate(&Scope::new(event, &budget))
}

fn refused(source: &str) -> String {
    let mistakes = Condition::compile(source, None).unwrap_err();
    let texts = mistakes.into_iter().map(|mistake| {
        let under = source.get(mistake.at.clone()).unwrap_or_default();
        format!("{} [{under}] {}", mistake.message, mistake.help.unwrap_or_default())
    });
    texts.collect::<Vec<_>>().join("; ")
}

#[test]
fn conditions_match_what_they_say() {
    let event = fixtures::event(PAYLOAD);
    for source in [
        "true",
        r#"event.type == "cus.upsert" && (has(body.tel) || has(body.weixin))"#,
        r#"event.key == "t1" && event.source == "laigu" && event.tenant == "acme" && event.origin == "push""#,
        r#"event.id.startsWith("evt_") && event.received_at > event.created_at"#,
        r#"body.name == "小黄鸭" && body.name.size() == 3 && body["name"].contains("黄")"#,
        "body.n == 7 && body.n < 8 && body.n + 1 == 8 && body.n == 7.0 && body.f > 7.0",
        "body.yes && !has(body.nothing)",
        r#"body.source in ["redbook", "douyin"] && "source" in body && !("nothing" in body)"#,
        r#"9 in body.tags && "售前" in body.tags && body.tags.size() == 3 && body.tags[0] == 9"#,
        r#"body.custom.level == "A" && has(body.custom.level) && size(body.custom) == 2"#,
        r#"body.custom["意向"] == ["甲"] && "甲" in body.custom["意向"]"#,
        r#"body.custom == {"level": "A", "意向": ["甲"]} && body.custom != {"level": "A"}"#,
        r#"body.custom.exists(name, name == "level") && body.tags.filter(t, t == 9).size() == 1"#,
        r#"body.too == "a\"b" && body.dup == 2"#,
        r#"body.?nick.orValue("x") == "x" && body.?source.orValue("x") == "redbook" && !body.?nick.hasValue()"#,
        r#"headers["Content-Type"] == "application/json" && "user-agent" in headers && !has(headers.x)"#,
        r#"push.event == "cus.upsert" && push.body.n == 7"#,
        r#"body.tel.matches("^1[0-9]{2}$") && !body.name.matches("[a-z]")"#,
        r#"body.source.upperAscii() == "REDBOOK" && "b" in "a,b".split(",")"#,
        "body.big == 18446744073709551615u && type(body.n) == int && string(body.n) == '7'",
        r#"body.nothing == 1 || event.type == "cus.upsert""#,
        r#"!(7 == "x") && body.n != "7""#,
        "!has(body.note) && !('note' in body)",
    ] {
        assert_eq!(ask(&event, source), Verdict::Yes, "{source}");
    }
    for source in [
        "false",
        r#"event.type == "client.updated""#,
        r#"7 == "x""#,
        r#"body.n == "7""#,
        "has(body.note)",
        "has(body.weixin)",
        "body.empty.exists(x, true)",
        r#"body.nothing == 1 && event.type == "x""#,
    ] {
        assert_eq!(ask(&event, source), Verdict::No, "{source}");
    }
}

#[test]
fn a_field_that_is_not_there_or_null_does_not_match() {
    let mut event = fixtures::event(PAYLOAD);
    event.content.key = None;
    for source in [
        "body.nothing == 1",
        "body.note == null",
        "body.note != null",
        "!body.nothing",
        "body.custom.level.size() == 1 && body.custom.nope == 1",
        "body.empty[0] == 1",
        r#"event.key == "t1""#,
        r#"headers["x-none"] == "1""#,
        "has(body.nothing.deeper)",
        "body.nothing == 1 || body.n == 8",
    ] {
        assert!(matches!(ask(&event, source), Verdict::Missing(_)), "{source}");
    }
}

#[test]
fn any_other_error_is_said_without_a_value_of_the_payload() {
    let event = fixtures::event(PAYLOAD);
    for source in [
        "body.n < 'x'",
        "body.tel > 3",
        "body.tel.deeper == 1",
        "body.tel",
        "body.n",
        "body.n + 'x' == ''",
        "body.n / 0 == 1",
        "body.n % 0 == 1",
        "int(body.tel + 'x') == 1",
        "body.big + 1u == 1u",
        "!body.tel",
        "body.tel && true",
        "body.tel.exists(x, true)",
        "body.n.matches('x')",
        "body[3] == 1",
        "3 in body.tel",
        "-body.tel == 1",
    ] {
        let Verdict::Failed(words) = ask(&event, source) else { panic!("{source}: {:?}", ask(&event, source)) };
        assert!(!words.contains("138") && words.len() < 120, "{source}: {words}");
    }
}

#[test]
fn typos_are_found_when_the_file_is_read() {
    for (source, wanted) in [
        ("bdy.tel == '1'", "there is no `bdy` [bdy] did you mean `body`?"),
        ("event.typ == 'x'", "`event` has no `typ` [typ] did you mean `type`?"),
        ("'小黄鸭' == event.typ", "`event` has no `typ` [typ] did you mean `type`?"),
        ("has(event.tipe)", "`event` has no `tipe` [tipe] did you mean `type`?"),
        ("event.tel == '1'", "`event` has id, type, key"),
        ("body.tel.startswith('1')", "no function `startswith` [startswith] did you mean `startsWith`?"),
        ("startsWith(body.tel, '1')", "it is called on a value: `x.startsWith(…)`"),
        ("body.tel.int() == 1", "it is called by name: `int(x)`"),
        ("lenght(body.tel) == 1", "there is no function `lenght`"),
        ("body.tags.exists(t, tt == 1)", "there is no `tt` [tt]"),
        ("enrichment.client.status == 'ok'", "use `when_enriched`"),
        ("body.tel.matches('[')", "the pattern cannot be used"),
        ("body.tel.matches(body.pattern)", "a pattern must be written out"),
        ("body.tel.matches('(a{1000}){1000}')", "the pattern cannot be used"),
        ("body.tel == ", "the condition is not CEL"),
        ("body.tel = '1'", "the condition is not CEL [=]"),
        ("'小黄鸭' = body.tel", "the condition is not CEL [=]"),
        ("has(body)", "the condition is not CEL"),
        ("", "the condition is not CEL"),
        ("Foo{a: 1} == 1", "there is no type `Foo`"),
        ("body.a.all(x, x.all(y, y.all(z, z)))", "loops are nested deeper than 2"),
    ] {
        let said = refused(source);
        assert!(said.contains(wanted), "{source}: {said}");
    }
}

#[test]
fn records_are_known_by_the_names_that_the_route_fetches() {
    let enrich = ["client".to_owned()];
    let compile = |source| Condition::compile(source, Some(&enrich));
    let refused = |source| compile(source).unwrap_err().remove(0);
    assert_eq!(refused("enrichment.agent.status == 'ok'").message, "the route does not fetch `agent`");
    assert_eq!(refused("enrichment.clent.status == 'ok'").help.unwrap(), "did you mean `client`?");
    let below = refused("enrichment.client.level == 'A'").help.unwrap();
    assert_eq!(below, "the record's own members are below `enrichment.client.record`");

    let event = fixtures::event("{}");
    let ask =
        |source, parts: &[_]| compile(source).unwrap().evaluate(&Scope::enriched(&event, parts, &Budget::default()));
    let ok = [fixtures::part("client", EnrichmentStatus::Ok, Some(r#"{"level":"A","gone":null}"#))];
    assert_eq!(ask("enrichment.client.record.level == 'A' && !has(enrichment.client.reason)", &ok), Verdict::Yes);
    assert_eq!(ask("enrichment.client.fetched_at > event.received_at", &ok), Verdict::Yes);
    assert_eq!(ask("has(enrichment.client.record.gone)", &ok), Verdict::No);
    let failed = [fixtures::part("client", EnrichmentStatus::Failed, None)];
    assert_eq!(ask("enrichment.client.reason == 'timed out'", &failed), Verdict::Yes);
    assert!(matches!(ask("enrichment.client.record.level == 'A'", &failed), Verdict::Missing(_)));
}

#[test]
fn conditions_made_to_exhaust_the_stack_are_refused() {
    let sum = format!("{}1 == 1", "1+".repeat(500));
    let selects = format!("body{} == 1", ".a".repeat(500));
    let parens = format!("{}true{}", "(".repeat(500), ")".repeat(500));
    let nots = format!("{}true", "!".repeat(1000));
    let lists = format!("{}1{} == 1", "[".repeat(90), "]".repeat(90));
    let ternaries = format!("{}true", "true?true:".repeat(100));
    let long = format!("'{}' == ''", "x".repeat(1024));
    for source in [&sum, &selects, &parens, &lists, &ternaries, &long] {
        assert!(Condition::compile(source, None).is_err(), "{source}");
    }
    // An even number of `!` is nothing at all, or too deep; either way nobody dies.
    let _ = Condition::compile(&nots, None);
    let wide = vec!["event.type == 'x'"; 48].join(" || ");
    assert!(Condition::compile(&wide, None).is_ok(), "width is no depth");
}

#[test]
fn no_push_holds_the_router_for_long() {
    let numbers = (0..150_000).map(|number| number.to_string()).collect::<Vec<_>>().join(",");
    let payload = format!(r#"{{"a":[{numbers}],"t":"{}"}}"#, "x".repeat(100_000));
    let event = fixtures::event(&payload);
    for source in [
        "body.a.all(x, body.a.all(y, x + y >= 0))",
        "body.a.map(x, x).all(x, body.a.map(y, y).exists(y, y == x))",
        "body.a.all(x, body.t.contains('y') == false)",
        "body.t.split('').all(x, body.t.split('').all(y, x == y))",
        "body.a.exists(x, x in body.a && x < 0)",
    ] {
        let before = Instant::now();
        let verdict = ask(&event, source);
        assert!(matches!(verdict, Verdict::Failed(_)), "{source}: {verdict:?}");
        // Ten milliseconds optimised; this build is not.
        assert!(before.elapsed() < Duration::from_secs(2), "{source}: {:?}", before.elapsed());
    }
}

#[test]
fn no_route_pays_for_what_another_read() {
    let numbers = vec!["7"; 10_000].join(",");
    let event = fixtures::event(&format!(r#"{{"t":"{}x","a":[{numbers}]}}"#, "小".repeat(300_000)));
    let budget = Budget::default();
    let scope = Scope::new(&event, &budget);
    for source in ["body.t.endsWith('x') && body.t.contains('x')", "body.a.all(n, n == 7)"] {
        let condition = Condition::compile(source, None).unwrap();
        for _ in 0..20 {
            assert_eq!(condition.evaluate(&scope), Verdict::Yes, "{source}");
        }
    }
}

#[test]
fn an_event_without_a_payload_has_an_empty_body() {
    let mut event = fixtures::event("{}");
    event.content.payload = None;
    assert_eq!(ask(&event, "!has(body.tel) && size(body) == 0"), Verdict::Yes);
}

proptest::proptest! {
    #[test]
    fn no_payload_makes_it_panic(value in json(), key in "[a-c]") {
        let event = fixtures::event(&format!(r#"{{"{key}":{value}}}"#));
        for source in [
            "body.a == body.b || body.a < body.c",
            "body.a.b.c == 1 || has(body.a.b)",
            "body.a.exists(x, x == 1 || x.a == 2)",
            "body.b in body.a || body.a[0] == 1 || size(body.a) > 1",
            "body.a + body.b == body.c",
            "body.a.matches('a+') || body.a.contains('x')",
        ] {
            ask(&event, source);
        }
    }
}

fn json() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::{Strategy, any, prop_oneof};
    let leaf = prop_oneof![
        proptest::strategy::Just("null".to_owned()),
        any::<bool>().prop_map(|it| it.to_string()),
        any::<i64>().prop_map(|it| it.to_string()),
        any::<f64>().prop_map(|it| serde_json::json!(it).to_string()),
        any::<String>().prop_map(|it| serde_json::json!(it).to_string()),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|it| format!("[{}]", it.join(" , "))),
            proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|it| {
                let members: Vec<_> = it.into_iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}
