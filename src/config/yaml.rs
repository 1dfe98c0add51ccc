//! YAML text as a tree whose every node knows its place.
//!
//! Deserializing into types would stop at the first mistake; a tree lets all of them be found. Scalars stay the
//! text they are: what reads them decides what they mean, so `no` is never a boolean and `0123` never a number.
//! Bounded: depth and nodes, aliases counted as often as they are used, so that no file can blow up.

use super::nearest;
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, Span};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    ops::Range,
};

/// Nothing in `routes.yaml` nests deeper than 8.
const DEPTH_MAX: usize = 24;
/// Thousands of routes; far below what would hurt.
const NODES_MAX: usize = 100_000;

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its bytes; of a collection without brackets, its first key or item.
    pub span: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any scalar, without quotes and escapes.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the file's order; keys are unique.
    Map(Vec<Entry>),
}

/// One pair of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its bytes.
    pub key_span: Range<usize>,
    /// What stands behind it.
    pub value: Node,
}

/// A document.
#[derive(Debug)]
pub struct Tree {
    /// Its one node.
    pub root: Node,
    /// What could be read but is not allowed: keys given twice, tags.
    pub faults: Vec<Fault>,
}

/// What is wrong with the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What, in lower case.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
    /// The way out.
    pub label: String,
}

impl Fault {
    fn new(message: impl Into<String>, span: Range<usize>, label: impl Into<String>) -> Self {
        Self { message: message.into(), span, label: label.into() }
    }
}

/// Reads the one document of a text.
///
/// # Errors
/// A [`Fault`] where the text is no YAML, not one document, or too large a tree.
pub fn read(text: &str) -> Result<Tree, Fault> {
    let shielded = shield(text)?;
    let mut options = Options::default();
    options.set_emit_comments(false);
    let bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let byte = |char: usize| bytes.get(char).copied().unwrap_or(text.len());
    let range = |span: &Span| byte(span.start.index())..byte(span.end.index());
    let mut builder = Builder::default();
    for next in Parser::new_from_str_with_options(&shielded, options) {
        let (event, span) = next.map_err(|error| {
            let at = byte(error.marker().index());
            let end = text.get(at..).and_then(|rest| rest.chars().next()).map_or(at, |char| at + char.len_utf8());
            Fault::new("this is not YAML", at..end, unshield(&error.info()))
        })?;
        builder.take(event, range(&span))?;
    }
    let root = builder.root.ok_or_else(|| Fault::new("the file is empty", 0..0, ""))?;
    Ok(Tree { root, faults: builder.faults })
}

/// A collection that is being read.
struct Open {
    start: Range<usize>,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    keys: HashSet<String>,
    /// The key whose value comes next.
    key: Option<(String, Range<usize>)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    faults: Vec<Fault>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Range<usize>) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Fault::new("a second document begins here", span, "one file holds one document"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.no_tag(tag.is_some(), &span);
                let text = unshield(&text);
                let null = style == ScalarStyle::Plain && matches!(text.as_str(), "" | "~" | "null");
                let size = weight(&text);
                let value = if null { Value::Null } else { Value::Scalar(text) };
                self.put(Node { span, value }, anchor, size)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.no_tag(tag.is_some(), &span);
                self.start(Open { start: span, anchor, content: Content::List(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.no_tag(tag.is_some(), &span);
                self.start(Open { start: span, anchor, content: Content::Map(OpenMap::default()) })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((node, size)) => self.put(Node { span, ..node }, 0, size),
                None => Err(Fault::new("this alias stands inside what it names", span, "write the value out")),
            },
            _ => Ok(()),
        }
    }

    fn no_tag(&mut self, tagged: bool, span: &Range<usize>) {
        if tagged {
            self.faults.push(Fault::new("tags have no meaning here", span.clone(), "leave the `!…` before this out"));
        }
    }

    fn start(&mut self, open: Open) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::new("this nests too deep", open.start, format!("at most {DEPTH_MAX} levels")));
        }
        if let Some(Open { content: Content::Map(OpenMap { key: None, .. }), .. }) = self.open.last() {
            return Err(Fault::new("a key must be plain text", open.start, ""));
        }
        self.open.push(open);
        Ok(())
    }

    fn end(&mut self, span: Range<usize>) -> Result<(), Fault> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        // Brackets have a width of their own; without them the first thing inside stands for the whole.
        let bracketed = !span.is_empty() && !open.start.is_empty();
        let (first, value) = match open.content {
            Content::List(items) => (items.first().map(|item| item.span.clone()), Value::List(items)),
            Content::Map(OpenMap { entries, .. }) => {
                (entries.first().map(|entry| entry.key_span.clone()), Value::Map(entries))
            }
        };
        let span = match first {
            Some(first) if !bracketed => first,
            _ => open.start.start..span.end.max(open.start.end),
        };
        let node = Node { span, value };
        let size = size(&node);
        // Its parts were counted when they were put.
        self.nodes -= size - 1;
        self.put(node, open.anchor, size)
    }

    fn put(&mut self, node: Node, anchor: usize, size: usize) -> Result<(), Fault> {
        self.nodes += size;
        if self.nodes > NODES_MAX {
            return Err(Fault::new("the file says too much", node.span, format!("at most {NODES_MAX} values")));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map(map)) => match map.key.take() {
                None => map.key = Some((key_text(&node)?, node.span)),
                Some((key, key_span)) if map.keys.insert(key.clone()) => {
                    map.entries.push(Entry { key, key_span, value: node });
                }
                Some((key, key_span)) => {
                    let message = format!("{} is given twice", nearest::quoted(&key));
                    self.faults.push(Fault::new(message, key_span, "the first one stands above"));
                }
            },
        }
        Ok(())
    }
}

fn key_text(node: &Node) -> Result<String, Fault> {
    match &node.value {
        Value::Scalar(text) => Ok(text.clone()),
        Value::Null => Ok("~".to_owned()),
        Value::List(_) | Value::Map(_) => Err(Fault::new("a key must be plain text", node.span.clone(), "")),
    }
}

/// What a node counts: its own values, and long texts as several.
fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null => 1,
        Value::Scalar(text) => weight(text),
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|entry| weight(&entry.key) + size(&entry.value)).sum::<usize>(),
    }
}

/// An alias may repeat a long text: that costs memory as many short ones do.
const fn weight(text: &str) -> usize {
    1 + text.len() / 16
}

/// Where shielded ASCII lives: a private plane that no file has a use for.
const SHIELD: u32 = 0xF_0000;

/// A longer one is not shielded: looking for its end from every `${` would cost the square of the file.
const VARIABLE_BYTES_MAX: usize = 512;

/// Hides the punctuation of `${NAME}` and `${NAME:-default}` from the YAML parser, one character for one.
///
/// YAML reads `{` and `}` as brackets inside a flow mapping, so that `{ token: ${TOKEN} }` would not be what it
/// looks like. A default with a quote, a backslash or a line break in it is left as it is.
fn shield(text: &str) -> Result<Cow<'_, str>, Fault> {
    let reserved = |char: char| (SHIELD..SHIELD + 128).contains(&u32::from(char));
    if let Some((at, char)) = text.char_indices().find(|(_, char)| reserved(*char)) {
        return Err(Fault::new("this character is not taken", at..at + char.len_utf8(), "leave it out"));
    }
    let mut shielded = String::new();
    let mut rest = text.get(..text.rfind('}').map_or(0, |brace| brace + 1)).unwrap_or_default();
    let tail = text.get(rest.len()..).unwrap_or_default();
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let length = variable_length(from).unwrap_or(0);
        let (variable, after) = from.split_at(length.max(2));
        shielded.push_str(before);
        match length {
            0 => shielded.push_str(variable),
            _ => shielded.extend(variable.chars().map(hide)),
        }
        rest = after;
    }
    if shielded.is_empty() {
        return Ok(Cow::Borrowed(text));
    }
    shielded.push_str(rest);
    shielded.push_str(tail);
    Ok(Cow::Owned(shielded))
}

/// How many bytes the `${…}` at the start of `text` takes, if it is one that can be shielded.
fn variable_length(text: &str) -> Option<usize> {
    let inside = text.strip_prefix("${")?;
    let name = inside.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    let end = inside.bytes().take(VARIABLE_BYTES_MAX).position(|byte| byte == b'}')?;
    let default = inside.get(name..end)?;
    let plain = !default.contains(['"', '\'', '\\', '\n', '\r']);
    (name > 0 && plain && (default.is_empty() || default.starts_with(":-"))).then_some(2 + end + 1)
}

fn hide(char: char) -> char {
    match char {
        '$' => '$',
        _ if char.is_ascii() && !char.is_ascii_alphanumeric() => {
            char::from_u32(SHIELD + u32::from(char)).expect("a private plane has no gaps")
        }
        _ => char,
    }
}

/// Undoes [`shield`] on a part of the text.
fn unshield(text: &str) -> String {
    let back = |char: char| match u32::from(char).checked_sub(SHIELD).map(u8::try_from) {
        Some(Ok(byte)) if byte.is_ascii() => char::from(byte),
        _ => char,
    };
    text.chars().map(back).collect()
}

#[cfg(test)]
mod tests {
    use super::{Node, Value, read};

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Null => "null".to_owned(),
            Value::Scalar(text) => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
            Value::Map(entries) => {
                let pairs = entries.iter().map(|entry| format!("{}: {}", entry.key, show(&entry.value)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let shown = match read(text) {
            Ok(tree) => match tree.faults.first() {
                None => show(&tree.root),
                Some(fault) => format!("{} at {:?}", fault.message, &text[fault.span.clone()]),
            },
            Err(fault) => format!("{} at {:?}", fault.message, &text[fault.span]),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn scalars_stay_text() {
        check(
            "a: no\nb: 0123\nc: 'x'\nd:\ne: ~\nf: \"\"\n",
            r#"{a: "no", b: "0123", c: "x", d: null, e: null, f: ""}"#,
        );
        check("- a\n- [b, {c: d}]\n", r#"["a", ["b", {c: "d"}]]"#);
        check("\u{feff}名: '甲'\r\n", r#"{名: "甲"}"#);
    }

    #[test]
    fn a_variable_may_stand_anywhere() {
        check("{ a: ${X}, b: ${X:-p, q: [r]} }", r#"{a: "${X}", b: "${X:-p, q: [r]}"}"#);
        check("a: ${X:-}\nb: x${Y}z # ${c\n", r#"{a: "${X:-}", b: "x${Y}z"}"#);
        check("a: \"${X:-it\\\"s}\"\n", r#"{a: "${X:-it\"s}"}"#);
        check("a: '${not one}'\nb: $\n", r#"{a: "${not one}", b: "$"}"#);
        check("a: '${{ body.x }}'\n", r#"{a: "${{ body.x }}"}"#);
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused_with_its_place() {
        check("", "the file is empty at \"\"");
        check("# only words\n", "the file is empty at \"\"");
        check("a: 'b\n", "this is not YAML at \"'\"");
        check("a: 1\na: 2\n", "`a` is given twice at \"a\"");
        check("a: 1\n---\nb: 2\n", "a second document begins here at \"---\"");
        check("[a]: b\n", "a key must be plain text at \"[\"");
        check("a: !!str b\n", "tags have no meaning here at \"b\"");
        check("a: \u{f0041}\n", "this character is not taken at \"\\u{f0041}\"");
        check("a: &x [*x]\n", "this alias stands inside what it names at \"*x\"");
        check("a: *x\n", "this is not YAML at \"*\"");
    }

    #[test]
    fn an_alias_is_the_value_that_it_names() {
        check("a: &x [1, 2]\nb: *x\n", r#"{a: ["1", "2"], b: ["1", "2"]}"#);
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            laughs.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert_eq!(read(&laughs).unwrap_err().message, "the file says too much");
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(["this nests too deep", "this is not YAML"].contains(&read(&deep).unwrap_err().message.as_str()));
        let wide = "x,".repeat(400_000);
        assert_eq!(read(&format!("[{wide}]")).unwrap_err().message, "the file says too much");
    }

    #[test]
    fn places_count_bytes_of_the_file_as_it_is() {
        let text = "名: { a: ${X}, b: 'c d' }\nl:\n  - { e: f }\n  - g: h\n";
        let tree = read(text).unwrap();
        let Value::Map(entries) = &tree.root.value else { panic!("a map") };
        assert_eq!(&text[entries[0].value.span.clone()], "{ a: ${X}, b: 'c d' }");
        let Value::Map(inner) = &entries[0].value.value else { panic!("a map") };
        assert_eq!(&text[inner[0].value.span.clone()], "${X}");
        assert_eq!(&text[inner[1].value.span.clone()], "'c d'");
        let Value::List(items) = &entries[1].value.value else { panic!("a list") };
        assert_eq!(&text[items[0].span.clone()], "{ e: f }");
        assert_eq!(&text[items[1].span.clone()], "g");
    }
}
