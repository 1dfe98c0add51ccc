//! Hides the literal secrets of a file, one `*` for a byte, so that every place stays where it is.
//!
//! `${NAME}` stays readable: it names a variable and gives nothing away. Its default may be a secret and is hidden.

use super::yaml::{Node, Value};
use std::ops::Range;

/// Keys whose value is a secret, also with a slip of the finger in them.
const SECRETS: [&str; 8] =
    ["secret", "path_secret", "token", "access_token", "password", "app_id", "client_id", "secret_id"];
/// Parts of a key that give a secret away, such as in librdkafka's `sasl.password`.
const PARTS: [&str; 6] = ["secret", "token", "passw", "credential", "sasl", ".pem"];
/// Keys that look like it but are names, or hold other keys.
const HARMLESS: [&str; 3] = ["enterprise_token", "admin_tokens", "signature"];

/// Whether what stands behind this key is a secret.
fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if HARMLESS.contains(&key.as_str()) || key.ends_with("_file") {
        return false;
    }
    key == "sign" || PARTS.iter().any(|part| key.contains(part)) || super::nearest::nearest(&key, SECRETS).is_some()
}

/// What may stand behind a key.
#[derive(Clone, Copy)]
enum Behind {
    Anything,
    /// A URL, perhaps a broken one, that may hold a password.
    Url,
    Secret,
}

impl Behind {
    fn key(self, key: &str) -> Self {
        match self {
            Self::Secret => Self::Secret,
            _ if is_secret(key) => Self::Secret,
            _ if key.to_ascii_lowercase().contains("url") => Self::Url,
            _ => self,
        }
    }
}

/// Hides what the tree of the text says is secret, and the passwords of URLs.
#[must_use]
pub fn by_tree(text: &str, root: &Node) -> String {
    let mut spans = Vec::new();
    collect(text, root, Behind::Anything, &mut spans);
    hide(text, &spans)
}

fn collect(text: &str, node: &Node, behind: Behind, spans: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Null => {}
        Value::Scalar(_) => {
            let written = text.get(node.span.clone()).unwrap_or_default();
            let found = match behind {
                Behind::Secret => literals(written),
                Behind::Url if !written.contains("://") && written.contains('@') => literals(written),
                Behind::Url | Behind::Anything => user_infos(written),
            };
            spans.extend(found.into_iter().map(|part| node.span.start + part.start..node.span.start + part.end));
        }
        Value::List(items) => items.iter().for_each(|item| collect(text, item, behind, spans)),
        Value::Map(entries) => {
            entries.iter().for_each(|entry| collect(text, &entry.value, behind.key(&entry.key), spans));
        }
    }
}

/// Hides, in a text that is no YAML, all that stands behind a secret's key up to the next key that is not below it.
#[must_use]
pub fn by_lines(text: &str) -> String {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut below = None;
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        let deeper = below.is_some_and(|depth| indent > depth) || line.trim().is_empty();
        below = below.filter(|_| deeper);
        let from = if below.is_some() { Some(0) } else { secret_value(line) };
        match from {
            Some(from) => {
                below = below.or(Some(indent));
                let rest = line.get(from..).unwrap_or_default();
                spans.extend(literals(rest).into_iter().map(|part| start + from + part.start..start + from + part.end));
            }
            None => {
                let found = user_infos(line).into_iter();
                spans.extend(found.map(|part| start + part.start..start + part.end));
            }
        }
        start += line.len();
    }
    hide(text, &spans)
}

/// Where the value of the first secret's key of a line begins.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices(':').map(|(at, _)| at).find_map(|at| {
        let before = line.get(..at)?.trim_end_matches(['"', '\'', ' ']);
        let word = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-' | '.');
        let key = before.rsplit(|char| !word(char)).next()?;
        is_secret(key).then_some(at + 1)
    })
}

/// What of a secret is literal: all but the white space around it and the variables' names.
fn literals(written: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut from = written.len() - written.trim_start().len();
    let end = written.trim_end().len();
    while let Some(at) = written.get(from..end).and_then(|rest| rest.find("${")).map(|at| from + at) {
        let name = written.get(at + 2..end).unwrap_or_default();
        let length = name.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
        let after = at + 2 + length;
        let rest = written.get(after..end).unwrap_or_default();
        let resume = match rest.strip_prefix(":-") {
            Some(_) => after + 2,
            None if rest.starts_with('}') => after + 1,
            None => at + 2,
        };
        spans.push(from..at);
        from = resume;
        // The brace that ends a default is not hidden: `${NAME:-****}`.
        if rest.starts_with(":-")
            && let Some(brace) = written.get(from..end).and_then(|rest| rest.find('}'))
        {
            spans.push(from..from + brace);
            from += brace + 1;
        }
    }
    spans.push(from..end);
    // Quotes around the whole are no part of it.
    let quoted = |span: &Range<usize>| matches!(written.get(span.clone()), Some("\"" | "'"));
    spans.retain(|span| !span.is_empty() && !quoted(span));
    spans
}

/// The user names and passwords, and the query, of every URL in a text.
fn user_infos(written: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    for (at, separator) in written.match_indices("://") {
        let start = at + separator.len();
        let rest = written.get(start..).unwrap_or_default();
        // A password may hold anything that should have been escaped, so that the last `@` counts.
        if let Some(user_info) = rest.rfind('@') {
            let colon = rest.get(..user_info).and_then(|user| user.find(':')).map_or(0, |colon| colon + 1);
            spans.push(start + colon..start + user_info);
        }
        if let Some(query) = rest.find('?') {
            let end = rest.trim_end_matches(['"', '\'', '}', '\r', '\n']).len();
            spans.push(start + (query + 1).min(end)..start + end);
        }
    }
    spans
}

fn hide(text: &str, spans: &[Range<usize>]) -> String {
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

#[cfg(test)]
mod tests {
    use super::{by_lines, by_tree};
    use crate::config::yaml;

    fn check(text: &str, expected: &str) {
        let tree = yaml::read(text).expect("YAML");
        assert_eq!(by_tree(text, &tree.root), expected);
        assert_eq!(by_tree(text, &tree.root).len(), text.len());
    }

    #[test]
    fn literal_secrets_are_hidden_and_variables_shown() {
        check("secret: hunter2\nname: x\n", "secret: *******\nname: x\n");
        check("token: \"密码\" # c\n", "token: ******** # c\n");
        check("secrte: hunter2\n", "secrte: *******\n");
        check("secret: ${LAIGU_SECRET}\n", "secret: ${LAIGU_SECRET}\n");
        check("secret: '${A:-hunter2}'\n", "secret: '${A:-*******}'\n");
        check("secret: a${B}c\n", "secret: *${B}*\n");
        check("secret: [ab, ${C}]\n", "secret: [**, ${C}]\n");
        check("secret:\n  - |\n    ab\n    cd\n", "secret:\n  - |\n    **\n******\n");
        check("secret_file: ./s\nenterprise_token: b6\n", "secret_file: ./s\nenterprise_token: b6\n");
        check("properties: { sasl.password: x, linger.ms: 5 }\n", "properties: { sasl.password: *, linger.ms: 5 }\n");
    }

    #[test]
    fn passwords_and_queries_of_urls_are_hidden() {
        check("url: amqp://guest:gu/est@mq/%2f\n", "url: amqp://guest:******@mq/%2f\n");
        check("url: ${U:-amqp://u:p@h}\n", "url: ${U:-amqp://u:*@h}\n");
        check("base_url: 'https://x/?token=1'\n", "base_url: 'https://x/?*******'\n");
        check("url: amqp://u:hun ter@h\n", "url: amqp://u:*******@h\n");
        check("url: u:hunter2@h\n", "url: ***********\n");
        check("ack: me@example.com\n", "ack: me@example.com\n");
    }

    #[test]
    fn in_a_text_that_is_no_yaml_whole_values_are_hidden() {
        let text = "a: 'x\n  secret: hunter2\n   more\n  other: y\n- { token: t, b: c }\nurl: amqp://u:p@h\n";
        assert_eq!(
            by_lines(text),
            "a: 'x\n  secret: *******\n   ****\n  other: y\n- { token: *********\nurl: amqp://u:*@h\n"
        );
    }
}
