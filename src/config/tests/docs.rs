//! `docs/routes.md` and the parser tell the same truth.

use crate::config::keys;
use std::collections::BTreeMap;

const DOCS: &str = include_str!("../../../docs/routes.md");

/// The first column of every table, by the heading above it.
fn documented() -> BTreeMap<&'static str, Vec<&'static str>> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut section = "";
    for line in DOCS.lines() {
        if let Some(heading) = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')) {
            section = heading.split('`').nth(1).unwrap_or_default();
        } else if let Some(key) = line.strip_prefix("| `").and_then(|rest| rest.split('`').next()) {
            found.entry(section).or_default().push(key);
        }
    }
    found
}

#[test]
fn every_key_is_described_and_nothing_else() {
    let documented = documented();
    let known: BTreeMap<&str, Vec<&str>> = keys::ALL.iter().map(|keys| (keys.section, keys.keys.to_vec())).collect();
    for (section, keys) in &known {
        assert_eq!(documented.get(section), Some(keys), "`{section}` in docs/routes.md");
    }
    let tables: Vec<&&str> = documented.keys().filter(|section| !section.is_empty()).collect();
    assert_eq!(tables, known.keys().collect::<Vec<_>>());
}
