//! Rules about the source that no compiler checks: who may import whom, where each third-party crate is at home,
//! how long a file may get, what must not be left lying about.
//!
//! The tables are in `tables.rs`: to change a rule, change it there first and say why. A failure names each
//! offending file and line.

mod source;
mod tables;

use source::{Source, sources};
use std::collections::BTreeSet;
use tables::{CRATES, Counts, Home, LAYERS, LINES_MAX, WORDS};

/// Fails with every complaint, one a line.
fn none_of(complaints: &[String], rule: &str) {
    assert!(complaints.is_empty(), "{rule}\n{}\n", complaints.join("\n"));
}

/// The row of the import table that a file belongs to: the longest path that begins its own.
fn layer_of(path: &str) -> Option<&'static tables::Layer> {
    LAYERS.iter().filter(|layer| tables::begins(layer.path, path)).max_by_key(|layer| layer.path.len())
}

/// The row of the import table that `crate::first::second` means.
fn layer_named(path: &[String]) -> Option<&'static tables::Layer> {
    let row = |name: &str| LAYERS.iter().find(|layer| layer.name == name);
    let first = path.first()?;
    let second = path.get(1).filter(|second| is_module(first, second));
    second
        .and_then(|second| row(&format!("{first}::{second}")).or_else(|| row(&format!("{first}::*"))))
        .or_else(|| row(first))
}

/// Whether a name is a file or a folder of a module, and not one of its items.
fn is_module(parent: &str, name: &str) -> bool {
    let path = source::root().join("src").join(parent).join(name);
    path.is_dir() || path.with_extension("rs").is_file()
}

fn import_complaints(file: &Source) -> Vec<String> {
    let Some(own) = layer_of(&file.path) else {
        return vec![format!("{}:1: has no row in the import table", file.path)];
    };
    let mut complaints = Vec::new();
    for (line, path) in file.imports() {
        let Some(used) = layer_named(&path) else { continue };
        if used.name != own.name && !own.may_use.iter().any(|group| group.contains(&used.name)) {
            complaints.push(format!("{}:{line}: `{}` may not use `{}`", file.path, own.name, used.name));
        }
    }
    complaints
}

#[test]
fn imports_go_down_only() {
    let complaints: Vec<_> =
        sources(&["src"]).iter().filter(|file| !file.is_test()).flat_map(import_complaints).collect();
    none_of(&complaints, "an import goes up or sideways; the table is LAYERS in tests/it/tidy/tables.rs");
}

#[test]
fn the_import_table_itself_goes_down_only() {
    let mut below = BTreeSet::new();
    for layer in LAYERS {
        for used in layer.may_use.iter().copied().flatten() {
            assert!(below.contains(used), "`{}` uses `{used}`, which stands above it or nowhere", layer.name);
        }
        assert!(below.insert(layer.name), "`{}` has two rows", layer.name);
    }
}

#[test]
fn every_third_party_crate_has_a_home() {
    let manifest = std::fs::read_to_string(source::root().join("Cargo.toml")).unwrap();
    let dependencies = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let declared: BTreeSet<_> = dependencies
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect();
    let known: BTreeSet<_> = CRATES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let homeless: Vec<_> = declared.difference(&known).map(|name| format!("Cargo.toml: `{name}` has no row")).collect();
    none_of(&homeless, "a crate without a home; the table is CRATES in tests/it/tidy/tables.rs");
    let gone: Vec<_> = known.difference(&declared).map(|name| format!("CRATES: `{name}` is no dependency")).collect();
    none_of(&gone, "a row without a crate");
}

#[test]
fn third_party_crates_stay_at_home() {
    let mut complaints = Vec::new();
    for file in sources(&["src"]) {
        for (name, home) in CRATES {
            let allowed = match home {
                Home::Anywhere => true,
                Home::NotIn(paths) => !paths.iter().any(|path| tables::begins(path, &file.path)),
                Home::Only(paths) => paths.iter().any(|path| tables::begins(path, &file.path)),
            };
            if !allowed {
                let lines = file.uses_of_crate(name);
                complaints
                    .extend(lines.iter().map(|line| format!("{}:{line}: `{name}` is not at home here", file.path)));
            }
        }
    }
    none_of(&complaints, "a crate outside its home; the table is CRATES in tests/it/tidy/tables.rs");
}

#[test]
fn every_file_begins_with_what_it_is() {
    let complaints: Vec<_> = sources(&["src", "tests", "benches", "fuzz"])
        .iter()
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}:1: the first line is no `//!` sentence", file.path))
        .collect();
    none_of(&complaints, "a file does not say what it is");
}

#[test]
fn no_file_is_longer_than_one_sitting() {
    let mut complaints = Vec::new();
    for file in sources(&["src", "tests", "benches", "fuzz"]) {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            complaints.push(format!("{}:{LINES_MAX}: {lines} lines: look for the second idea", file.path));
        }
    }
    none_of(&complaints, "a file is too long");
}

#[test]
fn nothing_is_left_lying_about() {
    let mut complaints = Vec::new();
    for file in sources(&["src", "tests", "benches", "fuzz"]) {
        for word in WORDS {
            let covers = |paths: &[&str]| paths.iter().any(|path| tables::begins(path, &file.path));
            if !covers(word.within) || covers(word.except) {
                continue;
            }
            let text = match word.counts {
                Counts::Text => &file.text,
                Counts::Code => &file.code,
                Counts::Shipped if file.is_test() => continue,
                Counts::Shipped => file.shipped(),
            };
            for (number, line) in text.lines().enumerate() {
                if source::has_word(line, word.text) {
                    complaints.push(format!("{}:{}: `{}`: {}", file.path, number + 1, word.text, word.why));
                }
            }
        }
    }
    none_of(&complaints, "something was left in the source");
}
