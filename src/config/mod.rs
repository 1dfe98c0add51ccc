//! `routes.yaml`: from the text to checked [`settings`].
//!
//! [`load`] reads the text into a tree that knows its places (`yaml`), puts the environment in (`interpolate`), and
//! reads the tree section by section (`reader` and one file a section). No read stops at a mistake: all of them come
//! back at once, each with its place. `docs/routes.md` describes every key for operators.
//!
//! Expressions and templates are not compiled here; `routing` does that and reports with the same [`diagnostic`]s.

mod api;
pub mod capacity;
mod destinations;
pub mod diagnostic;
mod interpolate;
mod kafka;
pub mod keys;
mod mask;
pub mod nearest;
mod pem;
mod reader;
mod routes;
mod secrets;
mod server;
pub mod settings;
mod sources;
mod storage;
mod tenants;
#[cfg(test)]
mod tests;
pub mod units;
mod yaml;

use diagnostic::{Diagnostic, Diagnostics, Severity, SourceText};
use reader::{Field, Outside, Reader};
use settings::Settings;
use sha2::Digest;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};
use yaml::{Entry, Node, Value};

/// No file that a person wrote is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that was taken.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// The file itself, for more diagnostics.
    pub source: Arc<SourceText>,
    /// SHA-256 of the text and of every file that it refers to: another hash is another configuration.
    pub hash: [u8; 32],
    /// What is allowed but should be looked at, in the file's order.
    pub warnings: Vec<Diagnostic>,
}

/// Reads a file, the environment, and the secrets that it refers to.
///
/// # Errors
/// [`Diagnostics`] with every mistake.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    let refuse = |message: String| {
        let source = Arc::new(SourceText::new(path, ""));
        Diagnostics::new(source, vec![Diagnostic::error(message, 0..0, "")])
    };
    let bytes = read_bounded(path).map_err(|error| refuse(format!("the file cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        refuse(format!("the file is not UTF-8, from line {line} on"))
    })?;
    parse(&text, path, env)
}

/// As [`load`], when the text is at hand; `path` still says where other files lie.
///
/// # Errors
/// [`Diagnostics`] with every mistake.
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Diagnostics> {
    parse_with(text, path, Outside { env, read: &read_bounded })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    // A pipe or a device would never end.
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1MiB"));
    }
    Ok(bytes)
}

fn parse_with(text: &str, path: &Path, outside: Outside<'_>) -> Result<Loaded, Diagnostics> {
    if text.len() as u64 > FILE_BYTES_MAX {
        let source = Arc::new(SourceText::new(path, ""));
        return Err(Diagnostics::new(source, vec![Diagnostic::error("the file is larger than 1MiB", 0..0, "")]));
    }
    let tree = yaml::read(text);
    let source = Arc::new(SourceText::with_tree(path, text, tree.as_ref().map(|tree| &tree.root).ok()));
    let from_yaml = |fault: yaml::Fault| Diagnostic::error(fault.message, fault.span, fault.label);
    let tree = match tree {
        Ok(tree) => tree,
        Err(fault) => return Err(Diagnostics::new(source, vec![from_yaml(fault)])),
    };
    let mut reader = Reader::new(text, path, outside);
    tree.faults.into_iter().for_each(|fault| reader.report(from_yaml(fault)));
    let settings = read_file(&mut reader, &tree.root, path);
    reader.diagnostics.iter_mut().for_each(|one| source.conceal(one));
    let Diagnostics { list, .. } = Diagnostics::new(Arc::clone(&source), std::mem::take(&mut reader.diagnostics));
    let (errors, warnings): (Vec<_>, Vec<_>) = list.into_iter().partition(|one| one.severity == Severity::Error);
    match settings.filter(|_| errors.is_empty()) {
        Some(settings) => Ok(Loaded { settings, source, hash: reader.hash.finalize().into(), warnings }),
        None => Err(Diagnostics { source, list: errors }),
    }
}

fn read_file(reader: &mut Reader<'_>, root: &Node, path: &Path) -> Option<Settings> {
    let file = reader.section_of(root, &root.span, keys::FILE)?;
    let version = reader.required(&file, "version", "`version: 1`");
    reader.parsed(version, "`version: 1`", |text| (text == "1").then_some(()));
    let server = server::read(reader, &file);
    let storage = storage::read(reader, &file, path.parent().unwrap_or_else(|| Path::new("")));
    let sources = sources::read(reader, &file);
    let destinations = destinations::read(reader, &file, &storage.path);
    let routes = routes::read(reader, &file, &sources, &destinations);
    let unrouted = storage::unrouted(reader, &file);
    let retry = storage::retry(reader, &file);
    Some(Settings { server, storage, sources: sources.good, destinations: destinations.good, routes, unrouted, retry })
}

/// Reads the `type` of a source or a destination.
///
/// A type that is misspelt or missing is a mistake; what it was meant to be is guessed, so that the other mistakes
/// of the entry are told too.
fn kind_of<K: Copy>(
    reader: &mut Reader<'_>,
    field: Field<'_>,
    kinds: &[(&'static str, K)],
    telltales: &[(&str, K)],
) -> Option<K> {
    let words = || kinds.iter().map(|(word, _)| *word);
    let Value::Map(entries) = &field.node.value else {
        reader.wrong_shape(field.node, format!("expected a mapping with `type`: {}", nearest::list(words())));
        return None;
    };
    let there = |key: &str| entries.iter().find(|entry| entry.key == key && entry.value.value != Value::Null);
    let Some(Entry { value, .. }) = there("type") else {
        reader.error(
            format!("`{}` has no `type`", field.key),
            field.key_span,
            format!("one of {}", nearest::list(words())),
        );
        return telltales.iter().find(|(key, _)| there(key).is_some()).map(|(_, kind)| *kind);
    };
    let text = reader.scalar(value)?;
    let of = |text: &str| kinds.iter().find(|(word, _)| *word == text).map(|(_, kind)| *kind);
    of(&text.value).or_else(|| {
        reader.error(format!("{} is not a type", text.quoted()), &text.span, text.suggest(words()));
        nearest::nearest(&text.value, words()).and_then(of)
    })
}
