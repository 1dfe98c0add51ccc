//! `docs/security.md` names the test behind each line: every name must be a test, or the page would be a wish.

use crate::vendors::documented::{named, tests};

#[test]
fn every_test_that_the_page_about_security_names_exists() {
    let page = include_str!("../../../docs/security.md");
    let (named, tests) = (named(page), tests());
    assert!(named.len() > 50, "{}", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn the_page_about_security_has_every_attack_that_it_promises() {
    let page = include_str!("../../../docs/security.md");
    for number in 1..=40 {
        assert!(page.lines().any(|line| line.starts_with(&format!("| S{number} |"))), "S{number}");
    }
}
