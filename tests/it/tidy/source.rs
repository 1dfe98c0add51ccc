//! Reads Rust files the way the tidy rules need them: without comments and literals, with the line of each import.
//!
//! No parser: a scanner that knows comments, strings and characters, and `use` trees. It reads what rustfmt wrote.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file.
pub struct Source {
    /// Its path from the root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// With blanks for comments and literals; lines are kept.
    pub code: String,
}

/// The root of the package.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files under these folders, by path; folders that are not there hold none.
pub fn sources(folders: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut found);
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no source found under {folders:?}");
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = blank(&text);
            let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            found.push(Source { path, text, code });
        }
    }
}

impl Source {
    /// Whether the whole file is test code: named so, or a module for tests only.
    pub fn is_test(&self) -> bool {
        let path = Path::new(&self.path);
        let named =
            self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs") || self.path.contains("/tests/");
        let (Some(name), Some(folder)) = (path.file_stem().and_then(|name| name.to_str()), path.parent()) else {
            return named;
        };
        let parents = [folder.join("mod.rs"), folder.join("lib.rs"), folder.with_extension("rs")];
        let only_for_tests = parents.iter().any(|parent| {
            let text = fs::read_to_string(root().join(parent)).unwrap_or_default();
            ["", "pub ", "pub(crate) "].iter().any(|seen| text.contains(&format!("#[cfg(test)]\n{seen}mod {name};")))
        });
        named || only_for_tests
    }

    /// The code before the unit tests, which stand last.
    pub fn shipped(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
    }

    /// Every path into this package, with its line: `crate::journal::Log` gives `["journal", "Log"]`.
    pub fn imports(&self) -> Vec<(usize, Vec<String>)> {
        let code = self.shipped();
        let mut found = Vec::new();
        for root in ["crate::", "laigu_router::"] {
            for (at, _) in code.match_indices(root) {
                if starts_word(code, at) {
                    walk(code, at + root.len(), &mut Vec::new(), &mut found);
                }
            }
        }
        found.into_iter().map(|(at, path)| (line_of(code, at), path)).collect()
    }

    /// The lines that name a third-party crate.
    pub fn uses_of_crate(&self, name: &str) -> Vec<usize> {
        let start = format!("{name}::");
        let alone = [format!("use {name};"), format!("extern crate {name};")];
        let found = |(_, line): &(usize, &str)| {
            let at_start =
                |(at, _): (usize, &str)| starts_word(line, at) && !line.get(..at).unwrap_or_default().ends_with("::");
            line.match_indices(&start).any(at_start) || alone.iter().any(|alone| line.contains(alone))
        };
        self.shipped().lines().enumerate().filter(found).map(|(number, _)| number + 1).collect()
    }
}

/// Follows a `use` tree from a byte on, and notes each leaf with its place. Returns where it ended.
fn walk(code: &str, mut at: usize, path: &mut Vec<String>, found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let depth = path.len();
    let rest = |at: usize| code.get(at..).unwrap_or_default();
    let blanks = |at: usize| rest(at).len() - rest(at).trim_start().len();
    loop {
        at += blanks(at);
        if rest(at).starts_with('{') {
            at += 1;
            loop {
                at += blanks(at);
                if rest(at).is_empty() || rest(at).starts_with('}') {
                    break;
                }
                at = walk(code, at, path, found);
                at += rest(at).find([',', '}', '{']).unwrap_or(rest(at).len());
                at += usize::from(rest(at).starts_with(','));
            }
            at += 1;
            break;
        }
        let name: String = rest(at).chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        if name.is_empty() {
            break;
        }
        let start = at;
        at += name.len();
        path.push(name);
        if rest(at).starts_with("::") {
            at += 2;
        } else {
            found.push((start, path.clone()));
            break;
        }
    }
    path.truncate(depth);
    at
}

fn line_of(code: &str, at: usize) -> usize {
    code.get(..at).unwrap_or_default().matches('\n').count() + 1
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn starts_word(text: &str, at: usize) -> bool {
    !text.get(..at).unwrap_or_default().ends_with(is_word)
}

/// Whether a line has the text, and not as the end of a longer word.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| starts_word(line, at))
}

/// The same text with blanks for comments and literals.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let length = literal_len(rest, out.chars().next_back());
        let (piece, tail) = rest.split_at(if length == 0 { first_len(rest) } else { length });
        if length == 0 {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    out
}

fn first_len(text: &str) -> usize {
    text.chars().next().map_or(0, char::len_utf8)
}

/// How long the comment or literal is that begins here; 0 when none does.
fn literal_len(text: &str, before: Option<char>) -> usize {
    let to_end = |found: Option<usize>| found.unwrap_or(text.len());
    if text.starts_with("//") {
        return to_end(text.find('\n'));
    }
    if text.starts_with("/*") {
        return to_end(text.find("*/").map(|at| at + 2));
    }
    if text.starts_with('"') {
        return quoted_len(text, '"');
    }
    // `br"…"` is met at its `r`.
    if text.starts_with('r') && !before.is_some_and(|letter| is_word(letter) && letter != 'b') {
        let hashes = text.chars().skip(1).take_while(|letter| *letter == '#').count();
        if text.get(1 + hashes..).is_some_and(|rest| rest.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = 2 + hashes;
            return to_end(text.get(body..).and_then(|rest| rest.find(&end)).map(|at| body + at + end.len()));
        }
    }
    if text.starts_with('\'') {
        // A lifetime has no closing quote right behind its first letter.
        let second = text.chars().nth(1);
        if second == Some('\\') || text.chars().nth(2) == Some('\'') {
            return quoted_len(text, '\'');
        }
    }
    0
}

fn quoted_len(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let check = |text: &str, expected: &str| assert_eq!(blank(text), expected, "of {text}");
    check("a // b\nc", "a     \nc");
    check("a /* b\n */ c", "a     \n    c");
    check("a(\"b \\\" c\", d)", "a(        , d)");
    check("r#\"a \"b\"# + c", "          + c");
    check("for_r \"a\"", "for_r    ");
    check("fn f<'a>('\"', '\\'', 'b')", "fn f<'a>(   ,     ,    )");
}

#[test]
fn the_scanner_follows_use_trees() {
    let check = |text: &str, expected: &[&str]| {
        let file = Source { path: String::new(), text: text.to_owned(), code: blank(text) };
        let found: Vec<_> =
            file.imports().into_iter().map(|(line, path)| format!("{line} {}", path.join("::"))).collect();
        assert_eq!(found, expected, "of {text}");
    };
    check("use crate::journal::Log;", &["1 journal::Log"]);
    check("use crate::{\n    a::{B, c::D},\n    e as f,\n};", &["2 a::B", "2 a::c::D", "3 e"]);
    check("let x: crate::domain::Event = y; // crate::admin", &["1 domain::Event"]);
    check("my_crate::nothing\n#[cfg(test)]\nmod tests { use crate::admin; }", &[]);
}
