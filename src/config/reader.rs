//! Reads a tree section by section and collects everything that is wrong on the way.
//!
//! A read that fails leaves a mistake behind and gives `None` or the default, so that reading goes on; what comes
//! out is only used when there was no mistake at all. Messages never hold a value that came from a variable.

use super::{
    diagnostic::Diagnostic,
    interpolate,
    keys::Keys,
    nearest,
    settings::{Located, Rate},
    units,
    yaml::{Entry, Node, Value},
};
use crate::domain::NameError;
use sha2::{Digest, Sha256};
use std::{
    io,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

/// Mistakes beyond this are not collected: a file of nothing else must not fill the memory.
const COLLECTED_MAX: usize = 1_000;

/// What a file may refer to outside itself.
pub(super) struct Outside<'a> {
    /// The environment.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Files; bounded.
    pub(super) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// What reading needs and leaves behind.
pub(super) struct Reader<'a> {
    text: &'a str,
    folder: PathBuf,
    outside: Outside<'a>,
    /// Mistakes and warnings so far.
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Of the text and every file that was read.
    pub(super) hash: Sha256,
}

/// A mapping whose keys are known.
#[derive(Clone, Copy)]
pub(super) struct Section<'n> {
    keys: Keys,
    entries: &'n [Entry],
    /// What to point at when something is missing.
    pub(super) place: &'n Range<usize>,
}

/// A key of a section that is there, with what stands behind it.
#[derive(Clone, Copy)]
pub(super) struct Field<'n> {
    /// The key.
    pub(super) key: &'n str,
    /// Its place.
    pub(super) key_span: &'n Range<usize>,
    /// Its value; never [`Value::Null`].
    pub(super) node: &'n Node,
}

/// A scalar after its variables were put in.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// What it says. Not to be printed unless [`Text::quoted`] does.
    pub(super) value: String,
    /// Its place.
    pub(super) span: Range<usize>,
    replaced: bool,
}

impl Text {
    /// The text for a message, cut; without it when a variable is part of it.
    pub(super) fn quoted(&self) -> String {
        if self.replaced { "this value".to_owned() } else { nearest::quoted(&self.value) }
    }

    /// A suggestion for it, if it may be shown what it is near to.
    pub(super) fn suggest<'a>(&self, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
        nearest::suggest(if self.replaced { "" } else { &self.value }, known)
    }
}

impl<'n> Section<'n> {
    /// A key that must be one of the section's table. Nothing behind it counts as left out.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'n>> {
        debug_assert!(self.keys.keys.contains(&key), "`{key}` is not in the table of `{}`", self.keys.section);
        self.present().find(|field| field.key == key)
    }

    /// Every key that is there.
    pub(super) fn present(&self) -> impl Iterator<Item = Field<'n>> + use<'n> {
        self.entries.iter().filter(|entry| entry.value.value != Value::Null).map(Field::of)
    }
}

impl<'n> Field<'n> {
    fn of(entry: &'n Entry) -> Self {
        Self { key: &entry.key, key_span: &entry.key_span, node: &entry.value }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, path: &Path, outside: Outside<'a>) -> Self {
        let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        Self { text, folder, outside, diagnostics: Vec::new(), hash: Sha256::new_with_prefix(text) }
    }

    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether no more is collected, so that nobody need look for words.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= COLLECTED_MAX
    }

    pub(super) fn error(&mut self, message: impl Into<String>, span: &Range<usize>, label: impl Into<String>) {
        self.report(Diagnostic::error(message, span.clone(), label));
    }

    pub(super) fn warn(&mut self, message: impl Into<String>, span: &Range<usize>, label: impl Into<String>) {
        self.report(Diagnostic::warning(message, span.clone(), label));
    }

    /// Takes a mapping and reports the keys that do not belong there.
    pub(super) fn section<'n>(&mut self, field: Field<'n>, keys: Keys) -> Option<Section<'n>> {
        self.section_of(field.node, field.key_span, keys)
    }

    /// As [`Reader::section`], of a node that may be an item of a list.
    pub(super) fn section_of<'n>(
        &mut self,
        node: &'n Node,
        place: &'n Range<usize>,
        keys: Keys,
    ) -> Option<Section<'n>> {
        let Value::Map(entries) = &node.value else {
            let label = format!("expected keys of `{}`: {}", keys.section, nearest::list(keys.keys.iter().copied()));
            self.wrong_shape(node, label);
            return None;
        };
        let unknown = entries.iter().filter(|entry| !keys.keys.contains(&entry.key.as_str()));
        for entry in unknown.take(COLLECTED_MAX) {
            let message = format!("{} is not a key of `{}`", nearest::quoted(&entry.key), keys.section);
            self.error(message, &entry.key_span, nearest::suggest(&entry.key, keys.keys.iter().copied()));
        }
        Some(Section { keys, entries, place })
    }

    /// The pairs of a mapping whose keys are the operator's.
    pub(super) fn named<'n>(&mut self, field: Field<'n>) -> Vec<Field<'n>> {
        match &field.node.value {
            Value::Map(entries) => entries.iter().map(Field::of).collect(),
            _ => {
                self.wrong_shape(field.node, "expected names with their settings below");
                Vec::new()
            }
        }
    }

    /// As [`Reader::named`], with at least one.
    pub(super) fn named_some<'n>(&mut self, field: Field<'n>) -> Vec<Field<'n>> {
        if matches!(&field.node.value, Value::Map(entries) if entries.is_empty()) {
            self.error(format!("`{}` is empty", field.key), field.key_span, "name at least one");
        }
        self.named(field)
    }

    /// The items of a list.
    pub(super) fn list<'n>(&mut self, field: Field<'n>) -> &'n [Node] {
        match &field.node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_shape(field.node, format!("expected a list, such as `{}: […]`", field.key));
                &[]
            }
        }
    }

    /// A scalar, or a list of them.
    pub(super) fn one_or_more(&mut self, field: Field<'_>) -> Vec<Text> {
        match &field.node.value {
            Value::List(items) => items.iter().filter_map(|item| self.scalar(item)).collect(),
            _ => self.scalar(field.node).into_iter().collect(),
        }
    }

    /// A list of scalars.
    pub(super) fn texts(&mut self, field: Option<Field<'_>>) -> Vec<Text> {
        let items = field.map_or(&[][..], |field| self.list(field));
        items.iter().filter_map(|item| self.scalar(item)).collect()
    }

    pub(super) fn wrong_shape(&mut self, node: &Node, label: impl Into<String>) {
        let found = match node.value {
            Value::Null => "nothing",
            Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        };
        self.error(format!("{found} has no place here"), &node.span, label);
    }

    /// A scalar, its variables put in.
    pub(super) fn scalar(&mut self, node: &Node) -> Option<Text> {
        let Value::Scalar(written) = &node.value else {
            self.wrong_shape(node, "expected one value");
            return None;
        };
        match interpolate::interpolate(written, self.outside.env) {
            Ok(done) => Some(Text { value: done.text, span: node.span.clone(), replaced: done.replaced }),
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.bad_variable(fault, written, node));
                None
            }
        }
    }

    fn bad_variable(&mut self, fault: interpolate::Fault, written: &str, node: &Node) {
        let (place, message, label) = match fault {
            interpolate::Fault::Unset { name, place } => (
                place,
                format!("the variable `{name}` is not set"),
                format!("set it, or give a default: `${{{name}:-…}}`"),
            ),
            interpolate::Fault::Malformed { place } => (
                place,
                "this is not a variable".to_owned(),
                "write `${NAME}`, `${NAME:-default}`, or `$${` for a plain `${`".to_owned(),
            ),
        };
        // Exact where the file has the very text; else the whole scalar.
        let inside = self.text.get(node.span.clone()).and_then(|raw| raw.find(written));
        let span = match inside {
            Some(at) => node.span.start + at + place.start..node.span.start + at + place.end,
            None => node.span.clone(),
        };
        self.error(message, &span, label);
    }

    pub(super) fn text(&mut self, field: Option<Field<'_>>) -> Option<Text> {
        self.scalar(field?.node)
    }

    /// A scalar that must not be empty.
    pub(super) fn filled(&mut self, field: Option<Field<'_>>) -> Option<Text> {
        let text = self.text(field)?;
        if text.value.is_empty() {
            let key = field.map_or("", |field| field.key);
            self.error(format!("`{key}` is empty"), &text.span, "give a value, or leave the key out");
            return None;
        }
        Some(text)
    }

    /// A key that must be there; what it is for goes into the label when it is not.
    pub(super) fn required<'n>(&mut self, section: &Section<'n>, key: &'static str, label: &str) -> Option<Field<'n>> {
        let field = section.get(key);
        if field.is_none() {
            self.error(format!("`{key}` is missing in `{}`", section.keys.section), section.place, label);
        }
        field
    }

    /// Reads a scalar by `parse`; a mistake names the key and shows the form.
    pub(super) fn parsed<T>(
        &mut self,
        field: Option<Field<'_>>,
        form: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(field)?;
        let value = parse(&text.value);
        if value.is_none() {
            let key = field.map_or("", |field| field.key);
            self.error(format!("`{key}` cannot be read"), &text.span, format!("expected {form}"));
        }
        value
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&mut self, field: Option<Field<'_>>, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(field)?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let key = field.map_or("", |field| field.key);
            let label = text.suggest(words.iter().map(|(word, _)| *word));
            self.error(format!("{} is not a value of `{key}`", text.quoted()), &text.span, label);
        }
        found
    }

    /// `true` or `false`; `yes`, `no`, `on` and `off` are none.
    pub(super) fn flag(&mut self, field: Option<Field<'_>>) -> Option<bool> {
        self.parsed(field, "`true` or `false`", |text| text.parse().ok())
    }

    pub(super) fn whole(&mut self, field: Option<Field<'_>>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let form = format!("a whole number from {} to {}", bounds.start(), bounds.end());
        self.parsed(field, &form, |text| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|number| digits && bounds.contains(number))
        })
    }

    pub(super) fn duration(&mut self, field: Option<Field<'_>>, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.parsed(field, units::DURATION_FORM, units::duration)?;
        self.bounded(field?, value, &bounds, units::show_duration)
    }

    pub(super) fn size(&mut self, field: Option<Field<'_>>, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.parsed(field, units::SIZE_FORM, units::size)?;
        self.bounded(field?, value, &bounds, units::show_size)
    }

    fn bounded<T: PartialOrd + Copy>(
        &mut self,
        field: Field<'_>,
        value: T,
        bounds: &RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let label = format!("expected {} to {}", show(*bounds.start()), show(*bounds.end()));
        self.error(format!("`{}` is out of bounds", field.key), &field.node.span, label);
        None
    }

    pub(super) fn rate(&mut self, field: Option<Field<'_>>) -> Option<Rate> {
        self.parsed(field, units::RATE_FORM, units::rate)
    }

    /// A path, relative to the folder of `routes.yaml`.
    pub(super) fn path(&mut self, field: Option<Field<'_>>) -> Option<PathBuf> {
        self.filled(field).map(|text| self.folder.join(text.value))
    }

    /// A path of a file that must be readable; its content counts for the hash, so that a new one is a change.
    pub(super) fn file(&mut self, field: Option<Field<'_>>) -> Option<(PathBuf, Vec<u8>)> {
        let text = self.filled(field)?;
        let path = self.folder.join(&text.value);
        match (self.outside.read)(&path) {
            Ok(content) => {
                self.hash.update((content.len() as u64).to_le_bytes());
                self.hash.update(&content);
                Some((path, content))
            }
            Err(error) => {
                let message = format!("`{}` cannot be read: {error}", field.map_or("", |field| field.key));
                self.error(message, &text.span, "relative to the folder of this file");
                None
            }
        }
    }

    /// An expression or a template: its text as it is, variables not put in.
    pub(super) fn located(&mut self, field: Option<Field<'_>>) -> Option<Located> {
        let node = field?.node;
        let Value::Scalar(text) = &node.value else {
            self.wrong_shape(node, "expected one text");
            return None;
        };
        if text.trim().is_empty() {
            self.error(format!("`{}` is empty", field?.key), &node.span, "leave the key out");
            return None;
        }
        if interpolate::find(text).is_some() {
            let label = "write the value out, or compare with a field of the event";
            self.error("variables are not put into expressions and templates", &node.span, label);
            return None;
        }
        Some(Located { text: text.clone(), byte_offset: node.span.start, byte_len: node.span.len() })
    }

    /// What an operator calls something, as a key.
    pub(super) fn name<T>(&mut self, field: Field<'_>, parse: impl Fn(&str) -> Result<T, NameError>) -> Option<T> {
        let result = parse(field.key);
        result.map_err(|_| self.not_a_name(&nearest::quoted(field.key), field.key_span)).ok()
    }

    /// What an operator calls something, as a value.
    pub(super) fn name_in<T>(&mut self, text: &Text, parse: impl Fn(&str) -> Result<T, NameError>) -> Option<T> {
        parse(&text.value).map_err(|_| self.not_a_name(&text.quoted(), &text.span)).ok()
    }

    fn not_a_name(&mut self, quoted: &str, span: &Range<usize>) {
        let label = "expected 1 to 64 letters, digits, `_`, `-` or `.`, starting with a letter or digit";
        self.error(format!("{quoted} is not a name"), span, label);
    }
}
