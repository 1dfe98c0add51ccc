//! `docs/security.md` and `ARCHITECTURE.md` name the test behind each line: every name must be a test, or the page would be a
//! wish.

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
    for number in 1..=41 {
        assert!(page.lines().any(|line| line.starts_with(&format!("| S{number} |"))), "S{number}");
    }
}

#[test]
fn every_test_and_judge_that_the_architecture_names_exists() {
    let page = include_str!("../../../ARCHITECTURE.md");
    let (named, tests) = (named(page), tests());
    assert!(named.len() > 8, "{}", named.len());
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(*name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    let judges: Vec<_> = page.split("`tests/sim` (`").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    assert!(judges.len() > 8, "{judges:?}");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sim");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    let code: String = files.collect();
    let missing: Vec<_> = judges.iter().filter(|judge| !code.contains(&format!("fn {judge}("))).collect();
    assert!(missing.is_empty(), "the simulator has no such judge: {missing:?}");
}
