//! The template of a routing key or a record key: Jinja, nothing but `{{ … }}`, strict.
//!
//! Almost every template is text and plain names such as `customer.{{ body.source | default('unknown') }}`; those are
//! rendered here, without a conversion. Anything more goes to minijinja, with the filters of [`FILTERS`], on fuel.
//!
//! What a sender controls cannot choose where a message goes beyond one word of the key: in a routing key each value
//! is `[A-Za-z0-9_-]{1,64}`; `event.type` may have such words with dots between them. Names that the operator gave,
//! our id and our times are taken as they are.

use crate::{
    config::nearest::nearest,
    domain::Event,
    routing::{
        braces::{Part, split},
        jinja::Jinja,
        json::{self, Json},
        mistake::Mistake,
        scope::{self, ENRICHMENT_MEMBERS, EVENT_MEMBERS, Scope},
    },
};
use std::{borrow::Cow, ops::Range};

/// Longer templates are refused.
const TEMPLATE_BYTES_MAX: usize = 1024;

/// AMQP's short string holds no more.
const ROUTING_KEY_BYTES_MAX: usize = 255;

/// A Kafka record key; longer ones would only make partitions' indexes heavy.
const RECORD_KEY_BYTES_MAX: usize = 1024;

/// One value within a routing key.
const WORD_BYTES_MAX: usize = 64;

/// Filters that a template may use. What loops, repeats or formats is left out.
pub const FILTERS: [&str; 11] =
    ["default", "d", "lower", "upper", "trim", "replace", "int", "string", "length", "first", "last"];

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressKind {
    /// RabbitMQ's routing key.
    RoutingKey,
    /// Kafka's record key.
    RecordKey,
}

/// Why nothing was rendered; holds nothing of the payload but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A value is not there and has no default.
    #[error("`{0}` is not there; give it a default: `{{{{ {0} | default('…') }}}}`")]
    Undefined(String),
    /// A value that is neither text, nor an integer, nor true or false.
    #[error("`{0}` is a {1}; use a filter that makes it a text")]
    NotText(String, &'static str),
    /// A value that may not stand in a routing key.
    #[error("`{0}` may not stand in a routing key: 1 to 64 of A-Z a-z 0-9 _ - are taken")]
    NotAWord(String),
    /// The key as a whole is too long.
    #[error("the key is longer than {0} bytes")]
    TooLong(usize),
    /// A NUL in a record key.
    #[error("`{0}` holds a NUL")]
    Nul(String),
    /// Whatever the template engine found.
    #[error("the template failed: {0}")]
    Engine(String),
    /// The payload is not JSON.
    #[error(transparent)]
    Malformed(#[from] json::Malformed),
}

/// How much a value is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The operator's or our own word.
    Ours,
    /// The event's type: words with dots between them.
    Type,
    /// From a push, a header or a record.
    Theirs,
}

/// A template, ready to be rendered.
#[derive(Debug)]
pub struct Template {
    kind: AddressKind,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Plain(Vec<Piece>),
    Jinja(Box<Jinja>),
}

#[derive(Debug)]
enum Piece {
    Text(Box<str>),
    Value { path: Vec<Box<str>>, written: Box<str>, default: Option<Box<str>> },
}

impl Template {
    /// Reads a template. `enrich` names the records that the route fetches.
    ///
    /// # Errors
    /// Everything that is wrong with it; warnings alone come with the template.
    pub fn compile(source: &str, kind: AddressKind, enrich: &[String]) -> Result<(Self, Vec<Mistake>), Vec<Mistake>> {
        if source.len() > TEMPLATE_BYTES_MAX {
            let message = format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes");
            return Err(vec![Mistake::error(0..0, message, format!("{} bytes", source.len()))]);
        }
        for (mark, what) in [("{%", "blocks"), ("{#", "comments")] {
            if let Some(at) = source.find(mark) {
                let message = format!("{what} have no place in a key");
                return Err(vec![Mistake::error(at..at + 2, message, "only `{{ … }}` is taken")]);
            }
        }
        let mut mistakes = Vec::new();
        let mut warnings = Vec::new();
        let mut pieces = Some(Vec::new());
        for part in split(source)? {
            match part {
                Part::Text(text, at) => {
                    if let Some(found) = text.find(|letter: char| letter.is_control()) {
                        let at = at.start + found..at.start + found + 1;
                        mistakes.push(Mistake::error(at, "a control character in a key", "cannot be sent"));
                    }
                    if let Some(pieces) = &mut pieces {
                        pieces.push(Piece::Text(text.into()));
                    }
                }
                Part::Expression(text, at) => {
                    let plain = plain(text);
                    let fed = check(text, &at, plain.as_ref(), enrich, &mut mistakes);
                    if let Some(name) = fed {
                        let message = format!("`{name}` may be absent, and the event would be a dead letter then");
                        let help = format!("`{{{{ {name} | default('unknown') }}}}`");
                        warnings.push(Mistake::warning(at, message, "no default").help(help));
                    }
                    match (plain, &mut pieces) {
                        (Some(piece), Some(pieces)) => pieces.push(piece),
                        _ => pieces = None,
                    }
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let form = match pieces {
            Some(pieces) => Form::Plain(pieces),
            None => Form::Jinja(Box::new(Jinja::compile(source, kind)?)),
        };
        Ok((Self { kind, form }, warnings))
    }

    /// Renders the key.
    ///
    /// # Errors
    /// [`TemplateError`]: the route becomes a dead letter for this event.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Box<str>, TemplateError> {
        let pieces = match &self.form {
            Form::Jinja(jinja) => return finish(jinja.render(scope)?, self.kind),
            Form::Plain(pieces) => pieces,
        };
        let mut key = String::with_capacity(64);
        for piece in pieces {
            match piece {
                Piece::Text(text) => key.push_str(text),
                Piece::Value { path, written, default } => match look_up(scope, path, written)? {
                    Some((value, trust)) => key.push_str(taken(&value, trust, self.kind, written)?),
                    None => {
                        let default = default.as_deref();
                        key.push_str(default.ok_or_else(|| TemplateError::Undefined(written.to_string()))?);
                    }
                },
            }
        }
        finish(key, self.kind)
    }
}

/// What a destination gets where the route gives no template: RabbitMQ the event's type, Kafka `tenant/key`, or no
/// key where the event has none.
///
/// # Errors
/// [`TemplateError`] when the event's own words cannot be a key.
pub fn default_address(event: &Event, kind: AddressKind) -> Result<Option<Box<str>>, TemplateError> {
    match kind {
        AddressKind::RoutingKey => {
            let key = taken(&event.kind, Trust::Type, kind, "event.type")?;
            finish(key.to_owned(), kind).map(Some)
        }
        AddressKind::RecordKey => {
            let Some(key) = &event.key else { return Ok(None) };
            taken(key, Trust::Theirs, kind, "event.key")?;
            finish(format!("{}/{key}", event.tenant), kind).map(Some)
        }
    }
}

/// A value as it may stand in a key of that kind.
///
/// # Errors
/// [`TemplateError::NotAWord`] or [`TemplateError::Nul`].
pub fn taken<'a>(value: &'a str, trust: Trust, kind: AddressKind, written: &str) -> Result<&'a str, TemplateError> {
    let is_word = |word: &str| {
        (1..=WORD_BYTES_MAX).contains(&word.len())
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    match (kind, trust) {
        (_, Trust::Ours) => Ok(value),
        (AddressKind::RoutingKey, Trust::Theirs) if is_word(value) => Ok(value),
        (AddressKind::RoutingKey, Trust::Type) if value.split('.').all(is_word) => Ok(value),
        (AddressKind::RoutingKey, Trust::Theirs | Trust::Type) => Err(TemplateError::NotAWord(written.to_owned())),
        (AddressKind::RecordKey, _) if value.contains('\0') => Err(TemplateError::Nul(written.to_owned())),
        (AddressKind::RecordKey, _) => Ok(value),
    }
}

fn finish(key: String, kind: AddressKind) -> Result<Box<str>, TemplateError> {
    let most = match kind {
        AddressKind::RoutingKey => ROUTING_KEY_BYTES_MAX,
        AddressKind::RecordKey => RECORD_KEY_BYTES_MAX,
    };
    if key.len() > most { Err(TemplateError::TooLong(most)) } else { Ok(key.into()) }
}

/// How much a name is trusted.
#[must_use]
pub fn trust(root: &str, member: &str) -> Trust {
    match (root, member) {
        ("event", "type") => Trust::Type,
        ("event", "id" | "source" | "tenant" | "origin" | "received_at" | "created_at") => Trust::Ours,
        ("enrichment", "status") => Trust::Ours,
        _ => Trust::Theirs,
    }
}

/// The text of a plain name; `None` when it is not there.
fn look_up<'a>(
    scope: &Scope<'a>,
    path: &[Box<str>],
    written: &str,
) -> Result<Option<(Cow<'a, str>, Trust)>, TemplateError> {
    let (Some(root), Some(first)) = (path.first(), path.get(1)) else { return Ok(None) };
    let rest = path.get(2..).unwrap_or_default();
    let trust = trust(root, first);
    let value = match &**root {
        "event" if rest.is_empty() => {
            return Ok(scope::event_member(scope.event(), first).map(|text| (text, trust)));
        }
        "headers" if rest.is_empty() => {
            return Ok(scope::header(scope.event(), first).map(|text| (text.into(), trust)));
        }
        "body" => scope.body()?.find(first),
        "push" => scope.push()?.find(first),
        "enrichment" => {
            let Some(part) = scope.parts().iter().find(|part| *part.what == **first) else { return Ok(None) };
            let text = match (rest.first().map(|member| &**member), rest.len()) {
                (Some("status"), 1) => Some(part.status.as_str().into()),
                (Some("reason"), 1) => part.reason.as_deref().map(Cow::Borrowed),
                (Some("fetched_at"), 1) => part.fetched_at.map(|time| time.to_string().into()),
                (Some("record"), 2..) => {
                    let Some(record) = &part.record else { return Ok(None) };
                    let members = json::members(&record.bytes)?;
                    let found = rest.get(1).and_then(|name| json::find(&members, name.as_bytes()));
                    let Some(value) = descend(found, rest.get(2..).unwrap_or_default())? else { return Ok(None) };
                    return text_of(value, written).map(|text| Some((text.into_owned().into(), Trust::Theirs)));
                }
                (Some("record"), _) => return Err(TemplateError::NotText(written.to_owned(), "record")),
                _ => None,
            };
            return Ok(text.map(|text| (text, Trust::Theirs)));
        }
        _ => None,
    };
    let Some(value) = descend(value, rest)? else { return Ok(None) };
    Ok(Some((text_of(value, written)?, trust)))
}

/// Goes down the rest of a path; `None` where it ends.
fn descend<'a>(value: Option<&'a [u8]>, rest: &[Box<str>]) -> Result<Option<&'a [u8]>, TemplateError> {
    let mut found = value;
    for name in rest {
        let Some(value) = found else { return Ok(None) };
        let Json::Object(object) = json::decode(value)? else { return Ok(None) };
        found = json::find(&json::members(object)?, name.as_bytes());
    }
    Ok(found)
}

/// A JSON value as it is written into a key.
fn text_of<'a>(value: &'a [u8], written: &str) -> Result<Cow<'a, str>, TemplateError> {
    let refused = |what| Err(TemplateError::NotText(written.to_owned(), what));
    match json::decode(value)? {
        Json::Text(text) => Ok(text),
        Json::Int(_) | Json::Uint(_) | Json::Big(_) | Json::Bool(_) => {
            Ok(std::str::from_utf8(value).map_err(|_| json::Malformed)?.into())
        }
        Json::Float(_) => refused("fraction"),
        Json::List(_) => refused("list"),
        Json::Object(_) => refused("record"),
        Json::Null => refused("null"),
    }
}

/// Reads `a.b.c` and `a.b.c | default('text')`; `None` for anything more.
fn plain(expression: &str) -> Option<Piece> {
    let (name, filter) = match expression.split_once('|') {
        None => (expression, None),
        Some((name, filter)) => (name, Some(filter.trim())),
    };
    let name = name.trim();
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && word.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
    };
    let path: Vec<Box<str>> = name.split('.').map(Box::from).collect();
    if path.len() < 2 || !path.iter().all(|word| is_word(word)) {
        return None;
    }
    let default = match filter {
        None => None,
        Some(filter) => {
            let quoted = filter.strip_prefix("default").or_else(|| filter.strip_prefix('d'))?.trim();
            let quoted = quoted.strip_prefix('(')?.strip_suffix(')')?.trim();
            let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
            let text = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
            // A default that holds quotes, escapes or control characters is minijinja's to read.
            if text.contains(|letter: char| matches!(letter, '\'' | '"' | '\\') || letter.is_control()) {
                return None;
            }
            Some(text.into())
        }
    };
    Some(Piece::Value { path, written: name.into(), default })
}

/// Checks the names in one expression. Returns the name that may be absent and has no default, if there is one.
fn check(
    text: &str,
    at: &Range<usize>,
    plain: Option<&Piece>,
    enrich: &[String],
    mistakes: &mut Vec<Mistake>,
) -> Option<String> {
    let names: Vec<String> = match plain {
        Some(Piece::Value { written, .. }) => vec![written.to_string()],
        _ => match Jinja::names(text) {
            Ok(names) => {
                mistakes.extend(Jinja::refused(text).map(|it| Mistake::error(at.clone(), it, "cannot be used")));
                names
            }
            Err(reason) => {
                mistakes.push(Mistake::error(at.clone(), "the template is not Jinja", reason));
                return None;
            }
        },
    };
    let mut fed = None;
    for name in names {
        let path: Vec<&str> = name.split('.').collect();
        if let Some(mistake) = unknown(&path, at, enrich) {
            mistakes.push(mistake);
            continue;
        }
        let ours = matches!(path.as_slice(), ["event", member, ..] if !matches!(*member, "key" | "created_at"));
        let has_default = match plain {
            Some(Piece::Value { default, .. }) => default.is_some(),
            _ => text.contains("default") || text.contains("| d") || text.contains("|d") || text.contains(" if "),
        };
        if !ours && !has_default {
            fed = Some(name);
        }
    }
    fed
}

fn unknown(path: &[&str], at: &Range<usize>, enrich: &[String]) -> Option<Mistake> {
    let mistake = |message: String, help: Option<String>| {
        Some(Mistake { help, ..Mistake::error(at.clone(), message, "unknown name") })
    };
    let meant = |name: Option<&str>| name.map(|name| format!("did you mean `{name}`?"));
    match path {
        ["body" | "push" | "headers", ..] | ["event" | "enrichment"] => None,
        ["event", member, ..] if EVENT_MEMBERS.contains(member) => None,
        ["event", member, ..] => mistake(format!("`event` has no `{member}`"), meant(nearest(member, EVENT_MEMBERS))),
        ["enrichment", what, ..] if !enrich.iter().any(|it| it == what) => {
            let help = meant(nearest(what, enrich.iter().map(String::as_str)));
            let help = help.unwrap_or_else(|| format!("add `{what}` to the route's `enrich`"));
            mistake(format!("the route does not fetch `{what}`"), Some(help))
        }
        ["enrichment", what, member, ..] if !ENRICHMENT_MEMBERS.contains(member) => {
            let help = meant(nearest(member, ENRICHMENT_MEMBERS));
            mistake(format!("`enrichment.{what}` has no `{member}`"), help)
        }
        ["enrichment", ..] => None,
        [root, ..] => {
            let roots = ["event", "body", "push", "headers"];
            mistake(format!("there is no `{root}`"), meant(nearest(root, roots)))
        }
        [] => None,
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
