//! What is wrong with an expression or a template, with its place in the file.

use crate::config::settings::Located;
use std::ops::Range;

/// Whether the file can be used all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It can, but someone should look.
    Warning,
    /// It cannot.
    Error,
}

/// One thing to be said about a text of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Which bytes of the file.
    pub span: Range<usize>,
    /// What is wrong, naming the route.
    pub message: String,
    /// What to write under the offending text.
    pub label: String,
    /// The way out, when there is one to tell.
    pub help: Option<String>,
}

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
    pub fn located(self, place: &Located, whose: &str) -> Problem {
        let whole = place.byte_offset..place.byte_offset + place.byte_len;
        // A plain scalar and a quoted one without escapes hold the text as it is; in others places have moved.
        let shift = match place.byte_len.checked_sub(place.text.len()) {
            Some(0) => Some(0),
            Some(2) => Some(1),
            _ => None,
        };
        let span = match shift {
            Some(shift) if !self.at.is_empty() && self.at.end <= place.text.len() => {
                let start = place.byte_offset + shift;
                start + self.at.start..start + self.at.end
            }
            _ => whole,
        };
        let message = format!("{whose}{}", self.message);
        Problem { severity: self.severity, span, message, label: self.label, help: self.help }
    }
}

/// The candidate that was probably meant; `None` when none is close.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete or replace until one word is the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (deleted, letter) in one.chars().enumerate() {
        let mut diagonal = deleted;
        let mut left = deleted + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, theirs) in row.iter_mut().skip(1).zip(&other) {
            let replaced = diagonal + usize::from(letter != *theirs);
            diagonal = *cell;
            *cell = replaced.min(left + 1).min(diagonal + 1);
            left = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Mistake, nearest};
    use crate::config::settings::Located;

    #[test]
    fn the_nearest_name_is_offered_only_when_it_is_near() {
        let roots = ["event", "body", "headers"];
        assert_eq!(nearest("bdy", roots), Some("body"));
        assert_eq!(nearest("evnt", roots), Some("event"));
        assert_eq!(nearest("header", roots), Some("headers"));
        assert_eq!(nearest("customer", roots), None);
        assert_eq!(nearest("", roots), None);
    }

    #[test]
    fn a_place_in_the_text_becomes_a_place_in_the_file() {
        let span = |byte_len| {
            let place = Located { text: "bdy.tel".into(), byte_offset: 100, byte_len };
            Mistake::error(0..3, "", "").located(&place, "").span
        };
        assert_eq!(span(7), 100..103, "plain");
        assert_eq!(span(9), 101..104, "quoted");
        assert_eq!(span(12), 100..112, "escapes or folding: all of it");
    }
}
