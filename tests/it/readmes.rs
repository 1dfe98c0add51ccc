//! `README.md` and `README.zh-CN.md` say the same: the same commands, the same examples, the same pages.

use std::{collections::BTreeSet, path::Path};

const ENGLISH: &str = include_str!("../../README.md");
const CHINESE: &str = include_str!("../../README.zh-CN.md");

/// The blocks of a language, their comments left out: those are prose.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mark = format!("```{language}\n");
    let found = page.split(&mark).skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let bare = |line: &str| line.split(" # ").next().unwrap().trim_end().to_owned();
    found.map(|block| block.lines().map(bare).collect::<Vec<_>>().join("\n")).collect()
}

/// Texts in back-ticks outside of blocks that are commands, keys or headers.
fn words(page: &str) -> BTreeSet<String> {
    let outside: String = page.split("```").step_by(2).collect();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn pages(page: &str) -> BTreeSet<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("README")).collect()
}

#[test]
fn both_readmes_name_the_same_commands_examples_and_pages() {
    for language in ["sh", "yaml"] {
        let english = blocks(ENGLISH, language);
        assert!(!english.is_empty(), "{language}");
        assert_eq!(english, blocks(CHINESE, language));
    }
    assert!(blocks(ENGLISH, "sh").iter().any(|block| block.starts_with("cargo run --release -- demo")));
    assert!(blocks(ENGLISH, "sh").iter().any(|block| block.contains("laigu-router serve")));
    let (english, chinese) = (words(ENGLISH), words(CHINESE));
    let unknown: Vec<_> = chinese.difference(&english).collect();
    assert!(unknown.is_empty(), "only in Chinese: {unknown:?}");
    assert!(pages(CHINESE).is_subset(&pages(ENGLISH)) && pages(CHINESE).len() > 5);
    assert!(ENGLISH.contains("(README.zh-CN.md)") && CHINESE.contains("(README.md)"));
    for page in pages(ENGLISH) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(page).exists(), "{page} is not there");
    }
}
