//! Takes a template apart into text and `{{ … }}`.

use crate::routing::mistake::Mistake;
use std::ops::Range;

/// A piece of a template.
pub enum Part<'a> {
    /// Text and its place.
    Text(&'a str, Range<usize>),
    /// What stands between the braces, and the place of all of it.
    Expression(&'a str, Range<usize>),
}

/// Takes the template apart. A closing brace within a quoted text does not end an expression.
///
/// # Errors
/// When an expression is never closed.
pub fn split(source: &str) -> Result<Vec<Part<'_>>, Vec<Mistake>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(open) = rest.find("{{") else {
            parts.push(Part::Text(rest, at..source.len()));
            break;
        };
        if let Some(text) = rest.get(..open).filter(|text| !text.is_empty()) {
            parts.push(Part::Text(text, at..at + open));
        }
        let start = at + open;
        let inside = source.get(start + 2..).unwrap_or_default();
        let Some(length) = expression_end(inside) else {
            return Err(vec![Mistake::error(start..start + 2, "`{{` is never closed", "no `}}` follows")]);
        };
        let end = start + 2 + length + 2;
        parts.push(Part::Expression(inside.get(..length).unwrap_or_default(), start..end));
        at = end;
    }
    Ok(parts)
}

fn expression_end(inside: &str) -> Option<usize> {
    let mut quote = None;
    let mut letters = inside.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (letter, quote) {
            ('\\', Some(_)) => {
                letters.next();
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            ('}', None) if inside.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at),
            _ => {}
        }
    }
    None
}
