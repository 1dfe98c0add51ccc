//! Hides the literal secrets of a file, one `*` for a byte, so that every place stays where it is.
//!
//! `${NAME}` stays readable: it names a variable and gives nothing away. Its default may be a secret and is hidden.
//! So is what stands behind a key that nobody knows, and what a slip has made part of a key: `secret:hunter2`.

mod words;

use super::{
    keys,
    nearest::nearest,
    yaml::{Node, Value},
};
use std::{collections::BTreeSet, ops::Range};
use words::{anywhere, before_at, behind, behind_secret_word, hide, is_secret, last_word, literals, user_infos};

/// So many unknown keys are looked up; what stands behind the others is hidden without.
const LOOKED_UP_MAX: usize = 1_000;

/// Hides what the tree of the text says is secret, and the passwords of URLs.
#[must_use]
pub fn by_tree(text: &str, root: &Node) -> String {
    let mut collector =
        Collector { text, spans: Vec::new(), secrets: BTreeSet::new(), urls: BTreeSet::new(), looked_up: 0 };
    collector.node(root, Behind::Known);
    collector.leftovers();
    hide(text, &collector.spans)
}

/// Hides, in a text that is no YAML, all that stands behind a secret's key up to the next line that is not below it.
#[must_use]
pub fn by_lines(text: &str) -> String {
    let mut spans = Vec::new();
    let mut start = 0;
    let mut below = None;
    // A key that ends its line may have lost its value to the next one, wherever that stands.
    let mut open = false;
    let mut word_before = "";
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        let indent = line.len() - line.trim_start_matches([' ', '-']).len();
        below = below.filter(|depth| indent > *depth || blank || open);
        let from = if below.is_some() { Some(0) } else { behind_secret_word(line, word_before, false) };
        let found = match from {
            Some(from) => {
                below = below.or(Some(indent));
                behind(line, from)
            }
            None => match user_infos(line) {
                found if found.is_empty() => before_at(line).into_iter().collect(),
                found => found,
            },
        };
        open = from.is_some_and(|from| line.get(from..).is_none_or(|rest| rest.trim().is_empty()));
        word_before = if blank { word_before } else { last_word(line) };
        spans.extend(found.into_iter().map(|part| start + part.start..start + part.end));
        start += line.len();
    }
    hide(text, &spans)
}

/// What kind of key a value stands behind.
#[derive(Clone, Copy)]
enum Behind {
    Known,
    /// A URL's, perhaps a broken one, that may hold a password.
    Url,
    Secret,
    /// One that is in no table: a name with more below it, or a mistake.
    Unknown,
}

struct Collector<'a> {
    text: &'a str,
    spans: Vec<Range<usize>>,
    /// Where keys of secrets stand that have a value.
    secrets: BTreeSet<usize>,
    /// Where URLs stand.
    urls: BTreeSet<usize>,
    looked_up: usize,
}

impl Collector<'_> {
    fn node(&mut self, node: &Node, behind: Behind) {
        match &node.value {
            Value::Null => {}
            Value::Scalar(_) => {
                let written = self.text.get(node.span.clone()).unwrap_or_default();
                let found = match behind {
                    Behind::Secret | Behind::Unknown => literals(written),
                    Behind::Url if !written.contains("://") && written.contains('@') => literals(written),
                    Behind::Url | Behind::Known => anywhere(written),
                };
                if written.contains("://") {
                    self.urls.insert(node.span.start);
                }
                self.add(found, node.span.start);
            }
            Value::List(items) => items.iter().for_each(|item| self.node(item, behind)),
            Value::Map(entries) => {
                for entry in entries {
                    let key = self.text.get(entry.key_span.clone()).unwrap_or_default();
                    self.add(anywhere(key), entry.key_span.start);
                    let behind = match behind {
                        Behind::Secret => Behind::Secret,
                        Behind::Known | Behind::Url | Behind::Unknown => self.behind(&entry.key),
                    };
                    if matches!(behind, Behind::Secret) && entry.value.value != Value::Null {
                        self.secrets.insert(entry.key_span.start);
                    }
                    self.node(&entry.value, behind);
                }
            }
        }
    }

    /// Looks at the lines on which something looks like a secret or a URL that the tree has not: comments, and what a
    /// slip has made an anchor, a tag or two keys.
    fn leftovers(&mut self) {
        let mut start = 0;
        for line in self.text.split_inclusive('\n') {
            let end = start + line.len();
            if self.secrets.range(start..end).next().is_none()
                && let Some(from) = behind_secret_word(line, "", true)
            {
                self.add(behind(line, from), start);
            }
            if self.urls.range(start..end).next().is_none() {
                self.add(user_infos(line), start);
            }
            start = end;
        }
    }

    fn add(&mut self, found: Vec<Range<usize>>, start: usize) {
        self.spans.extend(found.into_iter().map(|part| start + part.start..start + part.end));
    }

    fn behind(&mut self, key: &str) -> Behind {
        if is_secret(key) {
            return Behind::Secret;
        }
        if key.to_ascii_lowercase().contains("url") {
            return Behind::Url;
        }
        let known = || keys::ALL.iter().flat_map(|section| section.keys.iter().copied());
        // A dot makes it one of librdkafka's.
        if key.contains('.') || known().any(|name| name == key) {
            return Behind::Known;
        }
        self.looked_up += 1;
        match nearest(key, known()) {
            Some(_) if self.looked_up <= LOOKED_UP_MAX => Behind::Known,
            _ => Behind::Unknown,
        }
    }
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
        check("secret: a$${bc} ${d\n", "secret: ***********\n");
        check("secret: [ab, ${C}]\n", "secret: [**, ${C}]\n");
        check("secret:\n  - |\n    ab\n    cd\n", "secret:\n  - |\n    **\n******\n");
        check("cret: hunter2\nwindw: 10\n", "cret: *******\nwindw: 10\n");
        check(
            "{ secret:hunter2, name: secret=x, 'token:x': y }\n",
            "{ secret:*******, name: secret=*, 'token:*': * }\n",
        );
        check("name: secret hunter2\nwhen: body.token == 'x'\n", "name: secret *******\nwhen: body.token == 'x'\n");
        check("secret_file: ./s\nenterprise_token: b6\n", "secret_file: ./s\nenterprise_token: b6\n");
        check("properties: { sasl.password: x, linger.ms: 5 }\n", "properties: { sasl.password: *, linger.ms: 5 }\n");
    }

    #[test]
    fn passwords_and_queries_of_urls_are_hidden() {
        check("url: amqp://guest:gu/est@mq/%2f\n", "url: amqp://guest:******@mq/%2f\n");
        check("url: ${U:-amqp://u:p@h}\n", "url: ${U:-amqp://u:*@h}\n");
        check("base_url: 'https://x/?token=1'\n", "base_url: 'https://x/?********\n");
        check("url: amqp://u:hun ter@h\n", "url: amqp://u:*******@h\n");
        check("url: 'amqp://u:p@h,amqp://u:p@h'\n", "url: 'amqp://u:**************@h'\n");
        check("url: u:hunter2@h\n", "url: ***********\n");
        check("url: amqp://u:hunter2127.0.0.1/%2f\n", "url: amqp://u:****************/%2f\n");
        check("url: https://h:80/x\nbrokers: a://[::1]:9\n", "url: https://h:80/x\nbrokers: a://[::1]:9\n");
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
