//! Templates beyond plain names, rendered by minijinja: on fuel, without loops, with few filters.

use crate::{
    domain::{EnrichmentPart, Event},
    routing::{
        json::{self, Json},
        mistake::Mistake,
        scope::{self, Scope},
        template::{self, AddressKind, FILTERS, TemplateError, Trust},
    },
};
use bytes::Bytes;
use minijinja::{
    Environment, Error, ErrorKind, Output, UndefinedBehavior, filters, tests,
    value::{Object, ObjectRepr, Value, ValueKind},
};
use std::{fmt, sync::Arc};

/// Steps that rendering may take, a few hundred times what a long template needs: a filter pays by the byte.
const FUEL: u64 = 50_000;

/// Room for reading any template of the permitted length.
const READING_STACK_BYTES: usize = 16 << 20;

/// Tests that a template may use.
const TESTS: [&str; 2] = ["defined", "undefined"];

/// Words that may stand before a parenthesis.
const KEYWORDS: [&str; 7] = ["and", "or", "not", "if", "else", "in", "is"];

/// The one template of an environment.
const NAME: &str = "key";

/// A compiled template.
pub struct Jinja {
    environment: Environment<'static>,
}

impl fmt::Debug for Jinja {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Jinja")
    }
}

impl Jinja {
    /// Compiles a template that holds nothing but text and `{{ … }}`.
    ///
    /// # Errors
    /// What minijinja has to say.
    pub fn compile(source: &str, kind: AddressKind) -> Result<Self, Vec<Mistake>> {
        let mut environment = environment();
        environment.set_formatter(move |out, _, value| write(out, value, kind));
        let added = on_a_deep_stack(|| environment.add_template_owned(NAME, source.to_owned()));
        match added {
            Some(Ok(())) => Ok(Self { environment }),
            Some(Err(error)) => Err(vec![Mistake::error(0..0, "the template is not Jinja", reason(&error))]),
            None => Err(vec![Mistake::error(0..0, "the template cannot be read", "not Jinja")]),
        }
    }

    /// The names that an expression uses, `body.source` and the like.
    ///
    /// # Errors
    /// What minijinja has to say.
    pub fn names(expression: &str) -> Result<Vec<String>, String> {
        let source = format!("{{{{{expression}}}}}");
        let environment = environment();
        let read = on_a_deep_stack(|| {
            let template = environment.template_from_str(&source).map_err(|error| reason(&error))?;
            let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
            names.sort();
            Ok(names)
        });
        read.unwrap_or_else(|| Err("it cannot be read".to_owned()))
    }

    /// What an expression uses that is not here: filters, tests, calls, and `*`, by which a payload could make a
    /// text of any size. minijinja would tell only when an event gets there.
    #[must_use]
    pub fn refused(expression: &str) -> Option<String> {
        let mut before = "";
        let mut words = words(expression).into_iter().peekable();
        while let Some(word) = words.next() {
            let next = words.peek().copied().unwrap_or_default();
            let is_name = |word: &str| word.starts_with(|first: char| first.is_alphabetic() || first == '_');
            match (before, word, next) {
                (_, "*", _) => return Some("`*` has no place in a key".to_owned()),
                ("|", filter, _) if !FILTERS.contains(&filter) => {
                    return Some(format!("there is no filter `{filter}`; there are {}", FILTERS.join(", ")));
                }
                ("is", "not", test) if TESTS.contains(&test) => before = word,
                ("is", "not", test) | ("is", test, _) if !TESTS.contains(&test) => {
                    return Some(format!("there is no test `{test}`; there are {}", TESTS.join(", ")));
                }
                (before, name, "(") if before != "|" && is_name(name) && !KEYWORDS.contains(&name) => {
                    return Some(format!("there is no function `{name}`"));
                }
                ("]" | ")", "(", _) => return Some("only filters can be called".to_owned()),
                _ => before = word,
            }
        }
        None
    }

    /// Renders it.
    ///
    /// # Errors
    /// [`TemplateError`]
    pub fn render(&self, scope: &Scope<'_>) -> Result<String, TemplateError> {
        let failed = |error: Error| match error.kind() {
            ErrorKind::UndefinedError => TemplateError::Engine("a value is not there; give it a default".to_owned()),
            ErrorKind::OutOfFuel => TemplateError::Engine("it takes too much work".to_owned()),
            // Errors of our own formatter carry our own words; minijinja's may hold values.
            ErrorKind::CannotDeserialize => TemplateError::Engine(error.detail().unwrap_or_default().to_owned()),
            kind => TemplateError::Engine(kind.to_string()),
        };
        let root = Value::from_object(Root {
            event: scope.event().clone(),
            payload: scope.event().payload().map(|payload| scope.event().body.slice_ref(payload)).unwrap_or_default(),
            parts: scope.parts().to_vec(),
        });
        self.environment.get_template(NAME).and_then(|template| template.render(root)).map_err(failed)
    }
}

/// An expression's names and signs, texts in quotes left out.
fn words(expression: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = expression.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if matches!(first, '\'' | '"') {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, letter)| {
                let ends = *letter == first && !escaped;
                escaped = *letter == '\\' && !escaped;
                ends
            });
            end.map_or(rest.len(), |(at, quote)| at + quote.len_utf8())
        } else {
            let is_inner = |letter: char| letter.is_alphanumeric() || letter == '_';
            rest.find(|letter| !is_inner(letter)).filter(|length| *length > 0).unwrap_or(if is_inner(first) {
                rest.len()
            } else {
                first.len_utf8()
            })
        };
        let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        words.push(if matches!(first, '\'' | '"') { "''" } else { word });
        rest = after.trim_start();
    }
    words
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.add_filter("default", filters::default);
    environment.add_filter("d", filters::default);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("int", filters::int);
    environment.add_filter("string", filters::string);
    environment.add_filter("length", filters::length);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("undefined", tests::is_undefined);
    environment
}

fn on_a_deep_stack<R: Send>(work: impl FnOnce() -> R + Send) -> Option<R> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(READING_STACK_BYTES);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn reason(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// Writes one `{{ … }}`: texts, integers and booleans only, each checked for its kind of key.
fn write(out: &mut Output<'_>, value: &Value, kind: AddressKind) -> Result<(), Error> {
    let refused = |words: String| Error::new(ErrorKind::CannotDeserialize, words);
    let what = match value.kind() {
        ValueKind::String | ValueKind::Bool => None,
        ValueKind::Number if value.is_integer() => None,
        ValueKind::Undefined | ValueKind::None => return Err(Error::from(ErrorKind::UndefinedError)),
        ValueKind::Number => Some("fraction"),
        ValueKind::Seq | ValueKind::Iterable => Some("list"),
        _ => Some("record"),
    };
    if let Some(what) = what {
        return Err(refused(format!("a {what} has no place in a key; use a filter that makes it a text")));
    }
    // Jinja would write a boolean as Python does.
    let text = match bool::try_from(value.clone()) {
        Ok(answer) if value.kind() == ValueKind::Bool => answer.to_string(),
        _ => value.to_string(),
    };
    // What is marked safe is ours: texts from a push are never marked, and no filter here marks them.
    let trust = if value.is_safe() { Trust::Ours } else { Trust::Theirs };
    template::taken(&text, trust, kind, "a value").map_err(|error| refused(error.to_string()))?;
    out.write_str(&text).map_err(Error::from)
}

/// What a template begins with.
#[derive(Debug)]
struct Root {
    event: Event,
    payload: Bytes,
    parts: Vec<EnrichmentPart>,
}

impl Object for Root {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "event" => Some(Value::from_object(EventObject(self.event.clone()))),
            "headers" => Some(Value::from_object(HeadersObject(self.event.clone()))),
            "body" if self.payload.is_empty() => Some(Value::from_object(JsonObject(Bytes::from_static(b"{}")))),
            "body" => Some(Value::from_object(JsonObject(self.payload.clone()))),
            "push" => Some(Value::from_object(JsonObject(self.event.body.clone()))),
            "enrichment" => Some(Value::from_object(Parts(self.parts.clone()))),
            _ => None,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
}

#[derive(Debug)]
struct EventObject(Event);

impl Object for EventObject {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let text = scope::event_member(&self.0, key)?;
        // The type is marked only when it is words with dots, so that it is taken as such.
        let is_ours = match template::trust("event", key) {
            Trust::Ours => true,
            Trust::Type => template::taken(&text, Trust::Type, AddressKind::RoutingKey, key).is_ok(),
            Trust::Theirs => false,
        };
        Some(if is_ours { Value::from_safe_string(text.into_owned()) } else { Value::from(&*text) })
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
}

#[derive(Debug)]
struct HeadersObject(Event);

impl Object for HeadersObject {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        scope::header(&self.0, key).map(Value::from)
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
}

/// A JSON object that is scanned when a member is asked for.
#[derive(Debug)]
struct JsonObject(Bytes);

impl Object for JsonObject {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let members = json::members(&self.0).ok()?;
        value_of(&self.0, json::find(&members, key.as_bytes())?, 0)
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }
}

fn value_of(whole: &Bytes, value: &[u8], depth: usize) -> Option<Value> {
    Some(match json::decode(value).ok()? {
        Json::Null => return None,
        Json::Bool(value) => Value::from(value),
        Json::Int(value) => Value::from(value),
        Json::Uint(value) => Value::from(value),
        Json::Big(text) => Value::from(text),
        Json::Float(value) => Value::from(value),
        Json::Text(text) => Value::from(&*text),
        Json::Object(object) => Value::from_object(JsonObject(whole.slice_ref(object))),
        Json::List(list) => {
            let depth = json::deeper(depth).ok()?;
            let elements = json::elements(list).ok()?;
            Value::from_iter(elements.into_iter().map(|it| value_of(whole, it, depth).unwrap_or(Value::UNDEFINED)))
        }
    })
}

#[derive(Debug)]
struct Parts(Vec<EnrichmentPart>);

impl Object for Parts {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let part = self.0.iter().find(|part| *part.what == *key)?;
        Some(Value::from_object(Part(part.clone())))
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
}

#[derive(Debug)]
struct Part(EnrichmentPart);

impl Object for Part {
    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "status" => Some(Value::from(self.0.status.as_str())),
            "reason" => self.0.reason.as_deref().map(Value::from),
            "fetched_at" => self.0.fetched_at.map(|time| Value::from(time.to_string())),
            "record" => self.0.record.as_ref().map(|it| Value::from_object(JsonObject(it.bytes.clone()))),
            _ => None,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }
}
