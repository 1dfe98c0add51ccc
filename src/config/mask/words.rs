//! Secrets in plain text: which words announce one, what of a text is one.

use crate::config::nearest::nearest;
use std::ops::Range;

/// Keys whose value is a secret, also with a slip of the finger in them.
const SECRETS: [&str; 8] =
    ["secret", "path_secret", "token", "access_token", "password", "app_id", "client_id", "secret_id"];
/// Parts of a key that give a secret away, such as in librdkafka's `sasl.password`.
const PARTS: [&str; 6] = ["secret", "token", "passw", "credential", "sasl", ".pem"];
/// Keys that look like it but are names, or hold other keys.
const HARMLESS: [&str; 3] = ["enterprise_token", "admin_tokens", "signature"];
/// Whether what stands behind this key is a secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if HARMLESS.contains(&key.as_str()) || key.ends_with("_file") {
        return false;
    }
    key == "sign" || PARTS.iter().any(|part| key.contains(part)) || nearest(&key, SECRETS).is_some()
}

/// Where what follows the first word that may be a secret's key begins.
///
/// A word may be torn: by one odd character, or by a line break after `word_before`. With `keys_only`, a word counts
/// when a `:` or a single `=` follows.
pub fn behind_secret_word(line: &str, word_before: &str, keys_only: bool) -> Option<usize> {
    let mut before = Some(word_before);
    let mut at = 0;
    for piece in line.split(|char| !is_word(char)) {
        let end = at + piece.len();
        let torn = before.is_some_and(|word| is_secret(&format!("{word}{piece}")) && !word.is_empty());
        if !piece.is_empty() && (torn || is_secret(piece)) {
            let rest = line.get(end..).unwrap_or_default();
            let from = line.len() - rest.trim_start_matches(['"', '\'', ' ', ':', '=']).len();
            if !keys_only || is_key(line, from) {
                return Some(from);
            }
        }
        let separator = line.get(end..).and_then(|rest| rest.chars().next());
        // At the start of a line, white space does not end the word that the line break tore.
        let indent = line.get(..end).unwrap_or_default().trim().is_empty();
        before = match separator {
            Some(' ' | '\t' | '\r' | '\n') => before.filter(|_| indent),
            _ => Some(piece),
        };
        at = end + separator.map_or(0, char::len_utf8);
    }
    None
}

/// The word that ends a line, if one does.
pub fn last_word(line: &str) -> &str {
    line.trim_end().rsplit(|char| !is_word(char)).next().unwrap_or_default()
}

fn is_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.')
}

/// What of a line is secret when what begins at `from` stands behind a secret's key.
pub fn behind(line: &str, from: usize) -> Vec<Range<usize>> {
    let rest = literals(line.get(from..).unwrap_or_default()).into_iter();
    rest.map(|part| from + part.start..from + part.end).collect()
}

/// Whether the word before `from` is used as a key: a `:` or a single `=` stands between.
fn is_key(line: &str, from: usize) -> bool {
    let before = line.get(..from).unwrap_or_default().trim_end_matches(['"', '\'', ' ']);
    before.ends_with(':') || (before.ends_with('=') && !before.ends_with("=="))
}

/// What may be a password before an `@` whose URL is torn: the run of text that it ends.
pub fn before_at(line: &str) -> Option<Range<usize>> {
    let at = line.rfind('@')?;
    let before = line.get(..at)?;
    let start = before.rfind([' ', '\t', '"', '\'']).map_or(0, |space| space + 1);
    Some(start..at)
}

/// Secrets in a text that should hold none: passwords of URLs, and a key that has swallowed its value.
pub fn anywhere(written: &str) -> Vec<Range<usize>> {
    let mut spans = user_infos(written);
    spans.extend(
        swallowed(written).map(|from| from..written.trim_end_matches(['"', '\'', ' ', '\r', '\n']).len().max(from)),
    );
    spans
}

/// Where the value begins in `secret:hunter2`, `secret=hunter2` or `secret hunter2`.
fn swallowed(written: &str) -> Option<usize> {
    let attached = written.match_indices([':', '=']).map(|(at, _)| at).find_map(|at| {
        let next = written.get(at + 1..)?.chars().next()?;
        let before = written.get(..at)?.trim_end_matches(['"', '\'']);
        let word = before.rsplit(|char: char| !(char.is_ascii_alphanumeric() || matches!(char, '_' | '-'))).next()?;
        (next != '=' && !next.is_whitespace() && is_secret(word)).then_some(at + 1)
    });
    let first = written.trim_start_matches(['"', '\'']).split(char::is_whitespace).next().unwrap_or_default();
    let alone = SECRETS.contains(&first) && written.trim_end_matches(['"', '\'']).len() > first.len() + 1;
    attached.or_else(|| written.find(first).filter(|_| alone).map(|at| at + first.len() + 1))
}

/// What of a secret is literal: all but the white space around it and the variables' names.
pub fn literals(written: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut from = written.len() - written.trim_start().len();
    let mut search = from;
    let end = written.trim_end().len();
    let part = |range: Range<usize>| written.get(range).unwrap_or_default();
    while let Some(at) = part(search..end).find("${").map(|at| search + at) {
        let name = part(at + 2..end).bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let after = at + 2 + name;
        let escaped = part(from..at).ends_with('$');
        let resume = match part(after..end) {
            rest if escaped || name == 0 || !rest.starts_with([':', '}']) => None,
            rest if rest.starts_with('}') => Some((after, after)),
            // The brace that ends a default stays: `${NAME:-****}`.
            rest => rest.find('}').filter(|_| rest.starts_with(":-")).map(|brace| (after + 2, after + brace)),
        };
        match resume {
            Some((hidden_from, brace)) => {
                spans.extend([from..at, hidden_from..brace]);
                from = brace + 1;
                search = from;
            }
            None if part(after..end).contains('}') => search = at + 2,
            // No variable can end any more.
            None => break,
        }
    }
    spans.push(from..end);
    // Quotes around the whole are no part of it.
    spans.retain(|span| !span.is_empty() && !matches!(part(span.clone()), "\"" | "'"));
    spans
}

/// The passwords, and the query, of the URLs in a text. What stands between two of them may be hidden too.
pub fn user_infos(written: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let Some(start) = written.find("://").map(|at| at + 3) else { return spans };
    let rest = written.get(start..).unwrap_or_default();
    // A password may hold anything that should have been escaped, so that the last `@` counts.
    if let Some(user_info) = rest.rfind('@') {
        let colon = rest.get(..user_info).and_then(|user| user.find(':')).map_or(0, |colon| colon + 1);
        spans.push(start + colon..start + user_info);
    } else {
        // The `@` may be what is missing: then what should be a port is none.
        let end = rest.find(['/', '"', '\'', ' ', '\r', '\n', ',', '?', '}']).unwrap_or(rest.len());
        let authority = rest.get(..end).unwrap_or_default();
        let port = authority.split_once(':').filter(|(host, _)| !host.starts_with('['));
        if let Some((host, port)) = port
            && !port.bytes().all(|byte| byte.is_ascii_digit())
        {
            spans.push(start + host.len() + 1..start + end);
        }
    }
    if let Some(query) = rest.find('?') {
        let end = rest.trim_end_matches(['"', '\'', '}', '\r', '\n']).len();
        spans.push(start + (query + 1).min(end)..start + end);
    }
    spans
}

/// Puts a `*` in the place of each byte but line breaks.
pub fn hide(text: &str, spans: &[Range<usize>]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        for byte in bytes.get_mut(span.clone()).unwrap_or_default() {
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b'*';
            }
        }
    }
    String::from_utf8(bytes)
        .unwrap_or_else(|_| text.chars().map(|char| if char == '\n' { '\n' } else { '*' }).collect())
}
