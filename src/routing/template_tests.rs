//! What keys come of templates.

use super::{AddressKind, Form, Template, TemplateError, default_address};
use crate::{
    domain::{EnrichmentStatus, Event},
    routing::{budget::Budget, fixtures, scope::Scope},
};

const PAYLOAD: &str = r#"{"source":"redbook","name":"小黄鸭","n":7,"big":184467440737095516150,"f":1.5,"yes":true,
    "note":null,"list":["a","b"],"custom":{"level":"A","级别":"B"},"star":"*.#","dot":"a.b","empty":"",
    "nul":"a\u0000b","id":9007199254740993}"#;

fn render(event: &Event, source: &str, kind: AddressKind) -> Result<String, TemplateError> {
    let enrich = ["client".to_owned()];
    let parts = [fixtures::part("client", EnrichmentStatus::Ok, Some(r#"{"level":"A","deep":{"x":1}}"#))];
    let (template, _) = Template::compile(source, kind, &enrich).expect(source);
    template.render(&Scope::enriched(event, &parts, &Budget::default())).map(String::from)
}

#[test]
fn values_render_as_they_are() {
    let event = fixtures::event(PAYLOAD);
    for (source, wanted) in [
        ("plain", "plain"),
        ("", ""),
        ("customer.{{ body.source | default('unknown') }}", "customer.redbook"),
        ("customer.{{body.nope|default(\"unknown\")}}.x", "customer.unknown.x"),
        ("{{ body.note | d('none') }}", "none"),
        ("{{ body.n }}-{{ body.yes }}-{{ body.big }}-{{ body.id }}", "7-true-184467440737095516150-9007199254740993"),
        ("{{ event.type }}", "cus.upsert"),
        ("{{ event.tenant }}.{{ event.source }}.{{ event.key }}.{{ event.origin }}", "acme.laigu.t1.push"),
        ("{{ body.custom.level }}", "A"),
        ("{{ body.custom.级别 }}", "B"),
        ("{{ push.body.source }}.{{ push.event | replace('.', '_') }}", "redbook.cus_upsert"),
        ("{{ enrichment.client.status }}.{{ enrichment.client.record.level }}", "ok.A"),
        ("{{ enrichment.client.record.deep.x }}", "1"),
        // From here on minijinja's.
        ("{{ body.source | upper }}", "REDBOOK"),
        ("{{ body.nope | default('x') | upper }}", "X"),
        ("{{ body['custom']['level'] | lower }}", "a"),
        ("{{ body.list | first }}.{{ body.list[1] }}.{{ body.list | length }}", "a.b.2"),
        ("{{ body.x if body.x is defined else ('y' if body.x is not defined else 'z*') }}", "y"),
        ("{{ 'vip' if body.n > 5 else 'plain' }}", "vip"),
        ("{{ body.f | int }}.{{ body.n + 1 }}.{{ body.yes and 1 }}", "1.8.1"),
        ("{{ event.type | upper | replace('.', '-') }}", "CUS-UPSERT"),
        ("{{ event.type }}.{{ body.source ~ '-' ~ body.n }}", "cus.upsert.redbook-7"),
        ("{{ enrichment.client.record.level | lower }}", "a"),
        ("{{ headers['content-type'] | replace('/', '-') }}", "application-json"),
        ("{{ body.big | string }}", "184467440737095516150"),
        ("{{ '}}' | replace('}', 'x') }}", "xx"),
    ] {
        assert_eq!(render(&event, source, AddressKind::RoutingKey).as_deref(), Ok(wanted), "{source}");
    }
}

#[test]
fn plain_names_and_minijinja_agree() {
    let event = fixtures::event(PAYLOAD);
    let names = ["source", "name", "n", "big", "f", "yes", "note", "list", "custom", "star", "dot", "empty", "nul"];
    for name in names.into_iter().chain(["id", "nope", "custom.level", "custom.nope", "source.x", "note.x"]) {
        for kind in [AddressKind::RoutingKey, AddressKind::RecordKey] {
            let plain = render(&event, &format!("k.{{{{ body.{name} }}}}"), kind);
            // Parentheses are beyond the plain reader.
            let jinja = render(&event, &format!("k.{{{{ (body.{name}) }}}}"), kind);
            assert_eq!(plain.as_ref().ok(), jinja.as_ref().ok(), "{name} {kind:?}: {plain:?} {jinja:?}");
        }
    }
}

#[test]
fn what_is_undefined_or_no_text_is_an_error() {
    let event = fixtures::event(PAYLOAD);
    for source in [
        "{{ body.nope }}",
        "{{ body.note }}",
        "{{ body.custom }}",
        "{{ body.list }}",
        "{{ body.f }}",
        "{{ body }}",
        "{{ event }}",
        "{{ body.nope.deeper }}",
        "{{ body.nope | upper }}",
        "{{ body.nope ~ 'x' }}",
        "{{ enrichment.client }}",
        "{{ enrichment.client.record }}",
        "{{ headers.none }}",
        "{{ body.n / 0 }}",
        "{{ none }}",
    ] {
        for kind in [AddressKind::RoutingKey, AddressKind::RecordKey] {
            let rendered = render(&event, source, kind);
            let words = rendered.expect_err(source).to_string();
            assert!(!words.contains("redbook") && !words.contains("小黄鸭"), "{source}: {words}");
        }
    }
}

#[test]
fn a_payload_cannot_choose_more_than_a_word_of_a_routing_key() {
    let event = fixtures::event(PAYLOAD);
    for name in ["name", "star", "dot", "empty", "nul"] {
        for source in [format!("{{{{ body.{name} }}}}"), format!("{{{{ body.{name} | trim }}}}")] {
            assert!(render(&event, &source, AddressKind::RoutingKey).is_err(), "{source}");
        }
    }
    let key = render(&event, "{{ body.name }}/{{ body.star }}", AddressKind::RecordKey);
    assert_eq!(key.as_deref(), Ok("小黄鸭/*.#"), "a record key is any text");
    assert!(render(&event, "{{ body.nul }}", AddressKind::RecordKey).is_err(), "but for NUL");
    let long = fixtures::event(&format!(r#"{{"w":"{}","x":"{}"}}"#, "w".repeat(64), "x".repeat(65)));
    assert!(render(&long, "{{ body.w }}", AddressKind::RoutingKey).is_ok());
    assert!(render(&long, "{{ body.x }}", AddressKind::RoutingKey).is_err());
    let four = "{{ body.w }}{{ body.w }}{{ body.w }}{{ body.w }}";
    assert_eq!(render(&long, four, AddressKind::RoutingKey), Err(TemplateError::TooLong(255)));
    assert!(render(&long, &format!("{}{{{{ body.w }}}}", "t".repeat(991 - 64)), AddressKind::RecordKey).is_ok());
    let more = "{{ body.w }}".repeat(17);
    assert_eq!(render(&long, &more, AddressKind::RecordKey), Err(TemplateError::TooLong(1024)));
}

#[test]
fn a_strange_event_type_is_no_routing_key() {
    for kind in ["", "a..b", "a.*", "小黄鸭", "a b", "a.#"] {
        let mut event = fixtures::event("{}");
        event.content.kind = kind.into();
        for source in ["{{ event.type }}", "{{ (event.type) }}"] {
            assert!(render(&event, source, AddressKind::RoutingKey).is_err(), "{kind} {source}");
        }
        assert!(default_address(&event, AddressKind::RoutingKey).is_err(), "{kind}");
    }
}

#[test]
fn the_defaults_are_the_type_and_tenant_with_key() {
    let mut event = fixtures::event("{}");
    let default = |event: &Event, kind| default_address(event, kind).unwrap();
    assert_eq!(default(&event, AddressKind::RoutingKey).as_deref(), Some("cus.upsert"));
    assert_eq!(default(&event, AddressKind::RecordKey).as_deref(), Some("acme/t1"));
    event.content.key = None;
    assert_eq!(default(&event, AddressKind::RecordKey), None);
}

#[test]
fn mistakes_are_found_when_the_file_is_read() {
    let enrich = ["client".to_owned()];
    for (source, wanted) in [
        ("{% for x in body.list %}{{ x }}{% endfor %}", "blocks have no place in a key"),
        ("{% include 'x' %}", "blocks have no place in a key"),
        ("{# note #}x", "comments have no place in a key"),
        ("{{ body.tel", "`{{` is never closed"),
        ("{{ bdy.tel }}", "there is no `bdy`"),
        ("{{ (bdy.tel) }}", "there is no `bdy`"),
        ("{{ event.typ }}", "`event` has no `typ`"),
        ("{{ event.typ | upper }}", "`event` has no `typ`"),
        ("{{ enrichment.agent.status }}", "the route does not fetch `agent`"),
        ("{{ enrichment.client.level }}", "`enrichment.client` has no `level`"),
        ("{{ body. }}", "the template is not Jinja"),
        ("{{ body.x | }}", "the template is not Jinja"),
        ("{{ }}", "the template is not Jinja"),
        ("a\nb", "a control character in a key"),
        ("a\0b", "a control character in a key"),
        ("{{ body.x | nofilter }}", "there is no filter `nofilter`"),
        ("{{ range(9) }}", "there is no `range`"),
        ("{{ body.x.split('|') | first }}", "there is no function `split`"),
        ("{{ body.x is odd }}", "there is no test `odd`"),
        ("{{ body.x is not odd }}", "there is no test `odd`"),
        ("{{ 'x' * 99 }}", "`*` has no place in a key"),
        (&"x".repeat(1025), "the template is longer than 1024 bytes"),
    ] {
        let mistakes = Template::compile(source, AddressKind::RoutingKey, &enrich).map(|_| ()).expect_err(source);
        assert!(mistakes.iter().any(|it| it.message.contains(wanted)), "{source}: {mistakes:?}");
    }
}

#[test]
fn a_payload_fed_template_without_a_default_is_warned_about() {
    let warned = |source| {
        let (_, warnings) = Template::compile(source, AddressKind::RoutingKey, &[]).expect(source);
        warnings.len()
    };
    for source in ["{{ body.x }}", "{{ event.key }}", "{{ headers.x }}", "{{ body.x | upper }}", "{{ push.a.b }}"] {
        assert_eq!(warned(source), 1, "{source}");
    }
    for source in ["x", "{{ event.type }}", "{{ body.x | default('y') }}", "{{ body.x | d('y') | upper }}"] {
        assert_eq!(warned(source), 0, "{source}");
    }
}

#[test]
fn templates_made_to_exhaust_something_do_not() {
    let text = "x".repeat(900_000);
    let event = fixtures::event(&format!(r#"{{"t":"{text}","u":"{text}","n":1000000000,"s":"x"}}"#));
    for source in [
        "{{ body.t | replace('x', body.u) }}",
        "{{ body.t | replace('', body.u) }}",
        "{{ (body.t ~ body.u ~ body.t) | upper | lower }}",
    ] {
        assert!(render(&event, source, AddressKind::RecordKey).is_err(), "{source}");
    }
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(500), ")".repeat(500));
    let sum = format!("{{{{ 1{} }}}}", "+1".repeat(500));
    let nots = format!("{{{{ {} 1 }}}}", "not ".repeat(240));
    let filters = format!("{{{{ 'x'{} }}}}", "|d".repeat(500));
    for source in [deep, sum, nots, filters] {
        let compiled = Template::compile(&source, AddressKind::RecordKey, &[]);
        if let Ok((template, _)) = compiled {
            let _ = template.render(&Scope::new(&event, &Budget::default()));
        }
    }
}

#[test]
fn the_usual_templates_are_plain() {
    for source in ["{{ event.tenant }}/{{ event.key }}", "customer.{{ body.source | default('unknown') }}"] {
        let (template, _) = Template::compile(source, AddressKind::RecordKey, &[]).unwrap();
        assert!(matches!(template.form, Form::Plain(_)), "{source}");
    }
}

proptest::proptest! {
    #[test]
    fn no_payload_leaves_its_word_of_a_routing_key(value: String, kind: String) {
        let mut event = fixtures::event(&format!(r#"{{"v":{}}}"#, serde_json::json!(value)));
        event.content.kind = kind.into();
        event.content.key = Some(value.into());
        for inner in ["body.v", "event.key", "event.type", "body.v | upper", "(event.key)", "(event.type)"] {
            let source = format!("fixed.{{{{ {inner} }}}}.end");
            if let Ok(key) = render(&event, &source, AddressKind::RoutingKey) {
                let word = key.strip_prefix("fixed.").and_then(|rest| rest.strip_suffix(".end")).unwrap();
                let dots = usize::from(inner.contains("type")) * word.matches('.').count();
                assert_eq!(word.matches('.').count(), dots);
                assert!(!word.is_empty() && word.split('.').all(|it| !it.is_empty() && it.len() <= 64));
                assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
                assert!(key.len() <= 255);
            }
            if let Ok(key) = render(&event, &source, AddressKind::RecordKey) {
                assert!(key.len() <= 1024 && !key.contains('\0'));
            }
        }
    }
}
