//! `docs/vendors.md` names the test behind each promise: every name must be a test, or the page would be a wish.

use std::{collections::BTreeSet, fs, path::Path};

fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// The names of all functions without arguments, in `src` and `tests`: every test is one.
pub fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests"), &mut code);
    let names = code.split("fn ").skip(1).filter_map(|rest| rest.split_once("()"));
    names.map(|(name, _)| name.to_owned()).filter(|name| is_name(name)).collect()
}

/// What a page names: a sentence of five words or more in back-ticks is a test's name; fields and parameters are shorter.
pub fn named(page: &str) -> BTreeSet<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let sentences = quoted.filter(|text| text.bytes().filter(|byte| *byte == b'_').count() >= 4);
    sentences.filter(|text| is_name(text)).map(str::to_owned).collect()
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[test]
fn every_test_that_the_page_about_vendors_names_exists() {
    let page = include_str!("../../../docs/vendors.md");
    let (named, tests) = (named(page), tests());
    assert!(named.len() > 50, "{}", named.len());
    let fields = ["conv_first_resp_wait_in_secs", "conv_first_response_wait_time", "agent_first_response_wait_time"];
    let missing: Vec<_> = named.iter().filter(|name| !tests.contains(*name) && !fields.contains(&&***name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}
