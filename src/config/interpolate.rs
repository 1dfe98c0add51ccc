//! `${NAME}` and `${NAME:-default}`.
//!
//! Every scalar value is treated the same, quoted or not; keys, expressions and templates are not touched. What
//! is put in is text: it is never read as YAML, and a `${` inside it means nothing.
//!
//! | written | becomes |
//! | --- | --- |
//! | `${NAME}` | the variable's value, which may be empty; a mistake if it is not set |
//! | `${NAME:-default}` | the value if it is set and not empty, else `default`, literally up to the next `}` |
//! | `$${` | `${` |
//! | `$` before anything else | `$` |

use std::ops::Range;

/// What went wrong with one `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The variable is not set and has no default.
    Unset {
        /// The variable.
        name: String,
        /// The bytes of the text that name it.
        place: Range<usize>,
    },
    /// Something stands behind `${` that is not a variable.
    Malformed {
        /// From `${` to the end.
        place: Range<usize>,
    },
}

/// A text after its variables were put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpolated {
    /// The text. Never to be printed when `replaced`.
    pub text: String,
    /// Whether there was a variable in it.
    pub replaced: bool,
}

/// Puts the variables of a text in.
///
/// # Errors
/// Every [`Fault`] of the text.
pub fn interpolate(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Interpolated, Vec<Fault>> {
    let mut result = Interpolated { text: String::with_capacity(text.len()), replaced: false };
    let mut faults = Vec::new();
    let mut from = 0;
    let part = |range: Range<usize>| text.get(range).unwrap_or_default();
    while let Some(at) = part(from..text.len()).find("${").map(|at| from + at) {
        if part(from..at).ends_with('$') {
            result.text.push_str(part(from..at - 1));
            result.text.push_str("${");
            from = at + 2;
            continue;
        }
        result.text.push_str(part(from..at));
        let Some(variable) = Variable::at_start(part(at + 2..text.len())) else {
            faults.push(Fault::Malformed { place: at..text.len() });
            break;
        };
        from = at + 2 + variable.length;
        result.replaced = true;
        match (env(variable.name), variable.default) {
            (Some(value), None) => result.text.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => result.text.push_str(&value),
            (_, Some(default)) => result.text.push_str(default),
            (None, None) => faults.push(Fault::Unset { name: variable.name.to_owned(), place: at..from }),
        }
    }
    result.text.push_str(part(from..text.len()));
    if faults.is_empty() { Ok(result) } else { Err(faults) }
}

/// Finds the first variable of a text that is not to be interpolated.
#[must_use]
pub fn find(text: &str) -> Option<Range<usize>> {
    let at = text.find("${")?;
    let variable = Variable::at_start(text.get(at + 2..)?)?;
    Some(at..at + 2 + variable.length)
}

struct Variable<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// Without `${`, with `}`.
    length: usize,
}

impl<'a> Variable<'a> {
    fn at_start(text: &'a str) -> Option<Self> {
        let inside = text.get(..text.find('}')?)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let first = name.bytes().next()?;
        let good = !first.is_ascii_digit() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        // A default cannot hold a variable: its brace would end the outer one.
        let nested = default.is_some_and(|default| default.contains("${"));
        (good && !nested).then_some(Self { name, default, length: inside.len() + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Interpolated, find, interpolate};

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICKY" => Some("${A} $${ } : # 'x".to_owned()),
            _ => None,
        }
    }

    fn check(text: &str, expected: &str) {
        let replaced = text.contains("${") && !text.contains("$${");
        assert_eq!(interpolate(text, &env), Ok(Interpolated { text: expected.to_owned(), replaced }), "{text}");
    }

    #[test]
    fn variables_are_put_in_wherever_they_stand() {
        check("${A}", "one");
        check("x-${A}/${A}.y", "x-one/one.y");
        check("${EMPTY}", "");
        check("${EMPTY:-two}", "two");
        check("${UNSET:-two, { three: [4]}", "two, { three: [4]");
        check("${UNSET:-}", "");
        check("${TRICKY}", "${A} $${ } : # 'x");
    }

    #[test]
    fn a_dollar_alone_means_nothing() {
        check("pa$$word$", "pa$$word$");
        check("$A $(B) $", "$A $(B) $");
        check("a $${A} b", "a ${A} b");
    }

    #[test]
    fn what_is_not_set_or_no_variable_is_a_mistake() {
        let unset = |name: &str, place| Fault::Unset { name: name.to_owned(), place };
        assert_eq!(interpolate("a ${X} ${A} ${Y}", &env), Err(vec![unset("X", 2..6), unset("Y", 12..16)]));
        for text in ["${A", "${}", "${A-b}", "${1}", "${名}", "${X:-${A}}", "${ A }"] {
            assert_eq!(interpolate(text, &env), Err(vec![Fault::Malformed { place: 0..text.len() }]), "{text}");
        }
    }

    #[test]
    fn variables_are_found_where_they_have_no_place() {
        assert_eq!(find("a ${X:-b} c"), Some(2..9));
        assert_eq!(find("{{ a }} ${{ b }} matches('^a${2}')"), None);
    }
}
