//! The whole way from a text to settings, without files.

mod destination_mistakes;
mod docs;
mod full;
mod mistakes;
mod pem;
mod source_mistakes;

use super::{Loaded, diagnostic::Diagnostics, parse_with, reader::Outside};
use proptest::prelude::{ProptestConfig, proptest};
use std::{collections::BTreeMap, io, path::Path};

/// Reads a text with an environment and files that are only here.
pub(super) fn read(text: &str, env: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Loaded, Diagnostics> {
    let env: BTreeMap<&str, &str> = env.iter().copied().collect();
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let find_file = |path: &Path| {
        let found = files.get(path.to_str().expect("UTF-8")).map(|text| text.as_bytes().to_vec());
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let find_variable = |name: &str| env.get(name).map(|value| (*value).to_owned());
    parse_with(text, Path::new("/etc/lr/routes.yaml"), Outside { env: &find_variable, read: &find_file })
}

/// A certificate and its key, PEM.
fn certified() -> [String; 2] {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    [certified.cert.pem(), certified.signing_key.serialize_pem()]
}

const SHIPPED: &str = include_str!("../../../routes.yaml");

#[test]
fn the_shipped_file_needs_nothing_but_the_secret() {
    let secret = "0123456789abcdef0123456789abcdef";
    let loaded = read(SHIPPED, &[("LAIGU_SECRET", secret)], &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.settings.destinations.len(), 3);
    assert_eq!(loaded.settings.server.admin_tokens, []);
    let without = read(SHIPPED, &[], &[]).expect_err("no secret, no start");
    assert_eq!(without.list.len(), 1, "{without}");
    assert!(without.to_string().contains("the variable `LAIGU_SECRET` is not set"), "{without}");
}

#[test]
fn variables_stand_inside_brackets_as_everywhere_else() {
    let long = "0123456789abcdef0123456789abcdef";
    let env = [
        ("LAIGU_SECRET", long),
        ("LAIGU_ACCESS_TOKEN", "access"),
        ("AMQP_URL", "amqps://u:p@mq"),
        ("KAFKA_BROKERS", "a:9092,b:9092"),
        ("KEFU_HOOK_SECRET", long),
        ("KEFU_CLIENT_ID", "id"),
        ("KEFU_SECRET_ID", "sid"),
        ("AUTOMATION_SECRET", long),
        ("SHOP_SECRET", long),
    ];
    let loaded = read(include_str!("example.yaml"), &env, &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(loaded.settings.sources.len(), 4);
    assert_eq!(loaded.settings.server.admin_tokens, []);
    let warned: Vec<&str> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(warned, ["the files of this destination lie in the store's folder"]);
    let without = read(include_str!("example.yaml"), &[], &[]).expect_err("nothing is set");
    assert_eq!(without.list.len(), env.len(), "{without}");
}

#[test]
fn the_numbers_are_put_into_sentences() {
    let secret = "0123456789abcdef0123456789abcdef";
    let loaded = read(SHIPPED, &[("LAIGU_SECRET", secret)], &[]).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(
        super::capacity::capacity(&loaded.settings),
        [
            "20GiB keep 7d of delivered events at up to 6.9/s of 1 KB, or 4.6/s of 3 KB; faster, older ones go earlier",
            "with a destination down, 100/s of 1 KB fill them in 13h; the alarm comes after 6h"
        ]
    );
}

/// A file with literal secrets, which no slip may bring to light.
const GUARDED: &str = "\
version: 1
sources: { a: { type: laigu, tenants: { b: { secret: hunter2, allow_from: [] } } } }
destinations:
  crm:
    type: rabbitmq
    url: amqp://u:hunter2@127.0.0.1
    exchange: { name: x }
server:
  admin_tokens:
    - name: a
      token: hunter2
    - { name: b, role: viewer, token: hunter2 }
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_brings_the_parser_down(text in "[a-c:\\-\\[\\]{}\"'$ \n#&*!|>?%@,\u{f0041}名]{0,80}") {
        if let Err(mistakes) = read(&text, &[], &[]) {
            assert_eq!(mistakes.source.shown().len(), text.len());
            assert!(mistakes.list.iter().all(|one| one.span.end <= text.len()));
            assert!(!mistakes.to_string().is_empty());
        }
    }
}

#[test]
fn a_slip_in_the_file_shows_no_secret() {
    let slips = ",:&\n".chars().map(Some).chain([None]);
    for slip in slips {
        for at in 0..GUARDED.len() {
            let mut text = GUARDED.to_owned();
            match slip {
                Some(slip) => text.insert(at, slip),
                None => drop(text.remove(at)),
            }
            // A secret that the slip itself changed is another text.
            let shown = read(&text, &[], &[]).err().map(|mistakes| mistakes.to_string()).unwrap_or_default();
            assert!(!shown.contains("hunter2"), "{slip:?} at {at}: {shown}");
        }
    }
}
