//! Mistakes in `routes.yaml`, shown where they stand: file, line, column, the text, the way out.
//!
//! A snippet shows the file's own text with literal secrets masked, byte for byte; what a `${VAR}` stands for is
//! never part of it. `routing` adds mistakes of its own for expressions and templates.

use super::{
    mask, nearest,
    settings::Located,
    yaml::{self, Node},
};
use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};
use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How many mistakes are shown; the others are counted.
const SHOWN_MAX: usize = 200;

/// Whether it must be put right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file is not taken.
    Error,
    /// The file is taken.
    Warning,
}

/// One mistake, or one warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line; names the thing, never a secret.
    pub message: String,
    /// The bytes of the file that it is about.
    pub span: Range<usize>,
    /// What stands beside the marked text; may be empty.
    pub label: String,
    /// The way out, if there is more to say.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error about a place.
    #[must_use]
    pub fn error(message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span, label: label.into(), help: None }
    }

    /// Makes a warning about a place.
    #[must_use]
    pub fn warning(message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(message, span, label) }
    }

    /// The same with a way out.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Prints it alone, without colours.
    #[must_use]
    pub fn render(&self, source: &SourceText) -> String {
        render(&Renderer::plain(), self, source)
    }
}

/// A file's text and where it lies.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceText {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text. May hold literal secrets: for hashing and parsing, never for printing.
    pub text: String,
    /// The same bytes count with secrets masked, for printing.
    shown: String,
}

impl SourceText {
    /// Takes a text; finds the secrets in it.
    #[must_use]
    pub fn new(path: &Path, text: &str) -> Self {
        let tree = yaml::read(text);
        Self::with_tree(path, text, tree.as_ref().map(|tree| &tree.root).ok())
    }

    /// As [`SourceText::new`], when the text has been read already; without a tree, lines are looked at.
    pub(super) fn with_tree(path: &Path, text: &str, tree: Option<&Node>) -> Self {
        let shown = match tree {
            Some(root) => mask::by_tree(text, root),
            None => mask::by_lines(text),
        };
        Self { path: path.to_owned(), text: text.to_owned(), shown }
    }

    /// The text with its secrets masked: safe to show.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Takes out of a message what it quotes from a place that holds a secret.
    pub(super) fn conceal(&self, diagnostic: &mut Diagnostic) {
        let [raw, shown] = [&self.text, &self.shown].map(|text| text.get(diagnostic.span.clone()).unwrap_or_default());
        if raw == shown {
            return;
        }
        let parts = diagnostic.message.split('`').enumerate();
        let parts = parts.map(|(index, part)| match index % 2 {
            1 if raw.contains(part.trim_end_matches('…')) && !shown.contains(part) => "…",
            _ => part,
        });
        diagnostic.message = parts.collect::<Vec<_>>().join("`");
    }

    /// Where a piece of an expression or a template stands in the file.
    ///
    /// `piece` counts bytes of `located.text`. Quotes, escapes of quotes and the line folding of block scalars are
    /// followed; where that fails, the whole scalar is the answer.
    #[must_use]
    pub fn place(&self, located: &Located, piece: Range<usize>) -> Range<usize> {
        let whole = located.byte_offset..located.byte_offset.saturating_add(located.byte_len);
        let Some(written) = self.text.get(whole.clone()) else { return whole };
        let Some(start) = follow(&located.text, written, piece.start) else { return whole };
        let Some(end) = follow(&located.text, written, piece.end) else { return whole };
        whole.start + start..whole.start + end.max(start)
    }
}

/// Not the text: it may hold secrets.
impl fmt::Debug for SourceText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SourceText").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The byte of `written` (a scalar as it stands in the file) that means byte `at` of `text` (what it means).
fn follow(text: &str, written: &str, at: usize) -> Option<usize> {
    let mut rest = written.char_indices().peekable();
    if let Some((_, '\'' | '"')) = rest.peek() {
        rest.next();
    }
    let mut end = 0;
    for (index, wanted) in text.char_indices() {
        let (offset, found) = loop {
            let (offset, found) = rest.next()?;
            let same = found == wanted || (wanted == ' ' && found == '\n');
            match found {
                _ if same => break (offset, found),
                // What a scalar may hold beside what it means: folds and indents, and escapes of quotes.
                ' ' | '\t' | '\r' | '\n' | '\\' | '\'' => {}
                _ => return None,
            }
        };
        if index >= at {
            return Some(offset);
        }
        end = offset + found.len_utf8();
    }
    Some(end)
}

/// Everything that is wrong with one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file.
    pub source: Arc<SourceText>,
    /// The mistakes, in the file's order; at least one.
    pub list: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Takes mistakes and puts them into the file's order.
    #[must_use]
    pub fn new(source: Arc<SourceText>, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        Self { source, list }
    }

    /// Prints all of them with a line that counts them, in colours for a terminal.
    #[must_use]
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let shown = self.list.iter().take(SHOWN_MAX).map(|one| render(&renderer, one, &self.source));
        let mut text = shown.collect::<Vec<_>>().join("\n\n");
        let errors = self.list.iter().filter(|one| one.severity == Severity::Error).count();
        let count = match (errors, self.list.len()) {
            (0, all) => format!("{all} warning{}", nearest::plural(all)),
            (some, _) => format!("{some} mistake{}", nearest::plural(some)),
        };
        text.push_str(&format!("\n\n{}: {count}", self.source.path.display()));
        if self.list.len() > SHOWN_MAX {
            text.push_str(&format!(", the first {SHOWN_MAX} are shown"));
        }
        text
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

fn render(renderer: &Renderer, diagnostic: &Diagnostic, source: &SourceText) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = source.path.to_string_lossy();
    let excerpt = Excerpt::of(&source.shown, &diagnostic.span);
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    group = if source.shown.is_empty() {
        group.element(Origin::path(path.as_ref()))
    } else {
        let mark = AnnotationKind::Primary.span(excerpt.span);
        let mark = if diagnostic.label.is_empty() { mark } else { mark.label(diagnostic.label.as_str()) };
        group.element(Snippet::source(excerpt.lines).line_start(excerpt.line).path(path.as_ref()).annotation(mark))
    };
    if let Some(help) = &diagnostic.help {
        group = group.element(Element::from(Level::HELP.message(help.as_str())));
    }
    renderer.render(&[group])
}

/// The lines that a span touches, at most three of them.
struct Excerpt<'a> {
    lines: &'a str,
    line: usize,
    span: Range<usize>,
}

impl<'a> Excerpt<'a> {
    fn of(text: &'a str, span: &Range<usize>) -> Self {
        let start = floor_char(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let from = before.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        let rest = text.get(from..).unwrap_or_default();
        let mut end = floor_char(text, span.end.max(start)) - from;
        let mut length = 0;
        for (count, piece) in rest.split_inclusive('\n').enumerate() {
            if count == 3 || (count > 0 && length >= end) {
                break;
            }
            length += piece.len();
        }
        let lines = rest.get(..length).unwrap_or_default().trim_end_matches(['\n', '\r']);
        end = end.min(lines.len());
        Self { lines, line, span: (start - from).min(end)..end }
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{Diagnostic, Diagnostics, SourceText};
    use crate::config::{
        settings::Located,
        yaml::{self, Node, Value},
    };
    use std::{path::Path, sync::Arc};

    fn source(text: &str) -> SourceText {
        SourceText::new(Path::new("routes.yaml"), text)
    }

    #[test]
    fn a_mistake_is_shown_where_it_stands_also_behind_wide_characters() {
        let text = "routes:\n  - when: body.名字 == \"甲\" &&& x # 备注\n";
        let at = text.find("&&&").unwrap();
        let diagnostic = Diagnostic::error("cannot read the condition", at..at + 3, "expected an operand")
            .with_help("`&&` has two ampersands");
        assert_eq!(
            diagnostic.render(&source(text)),
            "\
error: cannot read the condition
 --> routes.yaml:2:26
  |
2 |   - when: body.名字 == \"甲\" &&& x # 备注
  |                             ^^^ expected an operand
  |
  = help: `&&` has two ampersands"
        );
    }

    #[test]
    fn all_of_them_are_printed_in_the_files_order_with_a_count() {
        let list = vec![Diagnostic::error("second", 8..9, ""), Diagnostic::error("first", 0..1, "here")];
        let all = Diagnostics::new(Arc::new(source("to: 1\nid: 2\n")), list);
        assert_eq!(
            all.to_string(),
            "\
error: first
 --> routes.yaml:1:1
  |
1 | to: 1
  | ^ here

error: second
 --> routes.yaml:2:3
  |
2 | id: 2
  |   ^

routes.yaml: 2 mistakes"
        );
    }

    #[test]
    fn spans_that_do_not_fit_the_text_do_no_harm() {
        for span in [0..0, 3..900, 900..1_000, 2..3, 7..7] {
            let shown = Diagnostic::error("odd", span.clone(), "here").render(&source("名: 甲\n"));
            assert!(shown.starts_with("error: odd\n --> routes.yaml:"), "{span:?}: {shown}");
        }
        assert!(Diagnostic::error("empty", 0..0, "").render(&source("")).contains("routes.yaml"));
    }

    fn check_place(written: &str, text: &str, piece: &str) {
        let file = format!("when: {written}\n");
        let source = source(&file);
        let Value::Map(entries) = yaml::read(&file).unwrap().root.value else { panic!("a map") };
        let Node { span, value } = &entries[0].value;
        assert_eq!(value, &Value::Scalar(text.to_owned()));
        let located = Located { text: text.to_owned(), byte_offset: span.start, byte_len: span.len() };
        let at = text.find(piece).unwrap();
        assert_eq!(source.text.get(source.place(&located, at..at + piece.len())), Some(piece), "{written}");
    }

    #[test]
    fn a_piece_of_an_expression_is_found_in_every_way_to_write_a_scalar() {
        check_place("a == 1", "a == 1", "== 1");
        check_place("'a == ''x'' + 1'", "a == 'x' + 1", "+ 1");
        check_place("\"a == \\\"x\\\" + 名\"", "a == \"x\" + 名", "+ 名");
        check_place("|\n  a == 1\n  && b", "a == 1\n&& b\n", "b");
        check_place(">-\n  a == 1\n  && b", "a == 1 && b", "b");
        check_place("a\n  && b", "a && b", "&& b");
    }

    #[test]
    fn a_piece_that_cannot_be_found_is_the_whole_scalar() {
        let source = source("when: \"\\u0061 b\"\n");
        let located = Located { text: "a b".into(), byte_offset: 6, byte_len: 10 };
        assert_eq!(source.place(&located, 2..3), 6..16);
    }
}
