//! What is wrong with an expression or a template, with its place in it.

use crate::config::{
    diagnostic::{Diagnostic, Severity, SourceText},
    settings::Located,
};
use std::ops::Range;

/// One thing to be said about a text, before its place in the file is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// How bad.
    pub severity: Severity,
    /// Which bytes of the text; all of it when empty.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write under the offending text.
    pub label: String,
    /// The way out.
    pub help: Option<String>,
}

impl Mistake {
    /// Something that keeps the file from being used.
    #[must_use]
    pub fn error(at: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Error, at, message: message.into(), label: label.into(), help: None }
    }

    /// Something that someone should look at.
    #[must_use]
    pub fn warning(at: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(at, message, label) }
    }

    /// The same with a way out.
    #[must_use]
    pub fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The same where it stands in the file. `whose` begins the message: ``route `leads`: ``.
    #[must_use]
    pub fn located(self, place: &Located, source: &SourceText, whose: &str) -> Diagnostic {
        let piece = if self.at.is_empty() { 0..place.text.len() } else { self.at };
        Diagnostic {
            severity: self.severity,
            message: format!("{whose}{}", self.message),
            span: source.place(place, piece),
            label: self.label,
            help: self.help,
        }
    }
}
