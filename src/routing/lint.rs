//! Reads a parsed condition once, at load: unknown names and functions, patterns, nesting; and prepares it to run.
//!
//! The interpreter finds an unknown name or function, or a broken pattern, only when an event reaches it. Here they are
//! mistakes in the file. The walk also puts two things into the tree: every loop pays for its steps first, and a
//! pattern is compiled now instead of at every call.

use crate::{
    config::nearest::nearest,
    routing::{
        mistake::Mistake,
        scope::{ENRICHMENT_MEMBERS, EVENT_MEMBERS},
    },
};
use cel::{
    IdedExpr,
    common::{
        ast::{CallExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators},
        types::{DYN_TYPE, Type},
        value::{StaticVal, Val},
    },
};
use regex::Regex;
use std::{any::Any, ops::Range};

/// Loops within loops: three levels over a few hundred elements already take seconds.
const LOOP_DEPTH_MAX: usize = 2;

/// A tree deeper than this could overflow the stack of the thread that evaluates it.
pub const TREE_DEPTH_MAX: usize = 48;

/// Bounds a compiled pattern's memory.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Functions that are called by name.
pub const FUNCTIONS: [&str; 11] =
    ["size", "string", "int", "uint", "double", "bool", "bytes", "dyn", "type", "optional.of", "optional.none"];

/// Functions that are called on a value. `replace`, `join` and `format` are left out: fed by a payload they could
/// make a text of any size.
pub const METHODS: [&str; 18] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "lowerAscii",
    "upperAscii",
    "trim",
    "split",
    "substring",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "reverse",
    "value",
    "hasValue",
    "orValue",
    "or",
];

/// Names of types, as in `type(body.n) == int`.
const TYPES: [&str; 9] = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type"];

/// A pattern that was compiled when the file was read.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &DYN_TYPE
    }

    fn cel_type() -> &'static Type {
        &DYN_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// The compiled patterns, by the number that the tree knows them by.
    pub patterns: Vec<Pattern>,
}

/// How deep the tree is. Needs a deep stack itself.
#[must_use]
pub fn depth(node: &IdedExpr) -> usize {
    let below = match &node.expr {
        Expr::Call(call) => call.target.iter().map(|target| &**target).chain(&call.args).map(depth).max(),
        Expr::Select(select) => Some(depth(&select.operand)),
        Expr::List(list) => list.elements.iter().map(depth).max(),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_depth(&entry.expr)).max(),
        Expr::Struct(it) => it.entries.iter().map(|entry| entry_depth(&entry.expr)).max(),
        Expr::Comprehension(it) => {
            [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result].into_iter().map(depth).max()
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => None,
    };
    below.unwrap_or(0) + 1
}

fn entry_depth(entry: &EntryExpr) -> usize {
    match entry {
        EntryExpr::StructField(field) => depth(&field.value),
        EntryExpr::MapEntry(entry) => depth(&entry.key).max(depth(&entry.value)),
    }
}

/// Walks a condition. `enrich` names the records that `enrichment` will hold; `None`: it is not there at all.
#[must_use]
pub fn walk(root: &mut IdedExpr, info: &SourceInfo, enrich: Option<&[String]>) -> Found {
    let mut walk = Walk { info, enrich, bound: Vec::new(), loops: 0, found: Found::default() };
    walk.node(root);
    walk.found
}

struct Walk<'a> {
    info: &'a SourceInfo,
    enrich: Option<&'a [String]>,
    /// Variables of the loops around.
    bound: Vec<String>,
    loops: usize,
    found: Found,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut IdedExpr) {
        let id = node.id;
        match &mut node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                let name = name.clone();
                self.root(id, &name);
            }
            Expr::Select(select) => {
                self.node(&mut select.operand);
                if let Some(path) = path(&select.operand) {
                    self.member(id, &path, &select.field);
                }
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.node(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.node(&mut entry.key);
                        self.node(&mut entry.value);
                    }
                }
            }
            Expr::Struct(it) => {
                let message = format!("there is no type `{}`", it.type_name);
                self.error(id, "", message, "messages cannot be built here", None);
            }
            Expr::Comprehension(it) => {
                self.node(&mut it.iter_range);
                let range = std::mem::take(&mut it.iter_range);
                it.iter_range = call(range.id, "@steps", vec![range, ident("@budget")]);
                self.loops += 1;
                if self.loops > LOOP_DEPTH_MAX {
                    let message = format!("loops are nested deeper than {LOOP_DEPTH_MAX}");
                    self.error(id, "", message, "one loop too many", None);
                }
                let outer = self.bound.len();
                self.bound.extend([it.iter_var.clone(), it.accu_var.clone()]);
                self.bound.extend(it.iter_var2.clone());
                for part in [&mut it.accu_init, &mut it.loop_cond, &mut it.loop_step, &mut it.result] {
                    self.node(part);
                }
                self.bound.truncate(outer);
                self.loops -= 1;
            }
            Expr::Call(_) => self.call(node),
        }
    }

    fn call(&mut self, node: &mut IdedExpr) {
        let id = node.id;
        let Expr::Call(it) = &mut node.expr else { return };
        if it.func_name == "matches" {
            let args = std::mem::take(&mut it.args);
            let mut operands = it.target.take().map(|target| *target).into_iter().chain(args);
            let (Some(mut text), Some(pattern), None) = (operands.next(), operands.next(), operands.next()) else {
                self.error(id, "matches", "`matches` takes a text and a pattern", "how many are here", None);
                return;
            };
            self.node(&mut text);
            let number = self.pattern(&pattern);
            node.expr = call(id, "@matches", vec![text, ident(&format!("@pattern{number}"))]).expr;
            return;
        }
        let is_word = it.func_name.starts_with(|first: char| first.is_ascii_alphabetic());
        let mut is_qualified = false;
        if is_word {
            let name = it.func_name.clone();
            match &it.target {
                Some(target) if matches!(&target.expr, Expr::Ident(root) if root == "optional") => {
                    is_qualified = true;
                    self.function(id, &format!("optional.{name}"), &name, &FUNCTIONS);
                }
                Some(_) => self.function(id, &name, &name, &METHODS),
                None => self.function(id, &name, &name, &FUNCTIONS),
            }
        }
        if let Some(target) = it.target.as_mut().filter(|_| !is_qualified) {
            self.node(target);
        }
        it.args.iter_mut().for_each(|arg| self.node(arg));
    }

    fn function(&mut self, id: u64, name: &str, written: &str, known: &[&str]) {
        if known.contains(&name) {
            return;
        }
        let elsewhere = if known.len() == METHODS.len() { FUNCTIONS.as_slice() } else { METHODS.as_slice() };
        let help = if elsewhere.contains(&name) && elsewhere.len() == METHODS.len() {
            Some(format!("it is called on a value: `x.{name}(…)`"))
        } else if elsewhere.contains(&name) {
            Some(format!("it is called by name: `{name}(x)`"))
        } else {
            did_you_mean(name, known.iter().copied())
        };
        self.error(id, written, format!("there is no function `{name}`"), "unknown function", help);
    }

    fn root(&mut self, id: u64, name: &str) {
        let is_known = match name {
            "event" | "body" | "push" | "headers" => true,
            "enrichment" => self.enrich.is_some(),
            _ => name.starts_with('@') || TYPES.contains(&name) || self.bound.iter().any(|bound| bound == name),
        };
        if is_known {
            return;
        }
        let help = match name {
            "enrichment" => Some("`when` decides before anything is fetched; use `when_enriched`".to_owned()),
            _ => did_you_mean(name, ["event", "body", "push", "headers"]),
        };
        self.error(id, name, format!("there is no `{name}`"), "unknown name", help);
    }

    fn member(&mut self, id: u64, path: &[&str], field: &str) {
        if path.first().is_some_and(|root| self.bound.iter().any(|bound| bound == root)) {
            return;
        }
        match path {
            ["event"] if !EVENT_MEMBERS.contains(&field) => {
                let help = did_you_mean(field, EVENT_MEMBERS)
                    .unwrap_or_else(|| format!("`event` has {}; the payload is `body`", EVENT_MEMBERS.join(", ")));
                self.error(id, field, format!("`event` has no `{field}`"), "unknown member", Some(help));
            }
            ["enrichment"] => {
                let enrich = self.enrich.unwrap_or_default();
                if self.enrich.is_some() && !enrich.iter().any(|what| what == field) {
                    let help = did_you_mean(field, enrich.iter().map(String::as_str))
                        .unwrap_or_else(|| format!("add `{field}` to the route's `enrich`"));
                    self.error(id, field, format!("the route does not fetch `{field}`"), "never there", Some(help));
                }
            }
            ["enrichment", what] if !ENRICHMENT_MEMBERS.contains(&field) => {
                let help = did_you_mean(field, ENRICHMENT_MEMBERS)
                    .unwrap_or_else(|| format!("the record's own members are below `enrichment.{what}.record`"));
                let message = format!("`enrichment.{what}` has no `{field}`");
                self.error(id, field, message, "unknown member", Some(help));
            }
            _ => {}
        }
    }

    fn pattern(&mut self, node: &IdedExpr) -> usize {
        let Expr::Literal(LiteralValue::String(text)) = &node.expr else {
            let help = "use `contains`, `startsWith` or `endsWith` for texts from the push".to_owned();
            self.error(node.id, "", "a pattern must be written out", "not a text", Some(help));
            return 0;
        };
        let built = regex::RegexBuilder::new(text.inner())
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX)
            .build();
        match built {
            Ok(regex) => self.found.patterns.push(Pattern(regex)),
            Err(error) => {
                let reason = error.to_string();
                let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                self.error(node.id, "", "the pattern cannot be used", reason, None);
            }
        }
        self.found.patterns.len().saturating_sub(1)
    }

    fn error(
        &mut self,
        id: u64,
        word: &str,
        message: impl Into<String>,
        label: impl Into<String>,
        help: Option<String>,
    ) {
        let at = place(self.info, id, word);
        self.found.mistakes.push(Mistake { help, ..Mistake::error(at, message, label) });
    }
}

fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, candidates).map(|name| format!("did you mean `{name}`?"))
}

/// Where a node is written: the given word from its place on, else the place itself.
fn place(info: &SourceInfo, id: u64, word: &str) -> Range<usize> {
    let Some((start, stop)) = info.offset_for(id) else { return 0..0 };
    let (start, stop) = (start as usize, (stop as usize + 1).max(start as usize));
    // A call's place is its parenthesis, a member's its dot.
    let (before, after) = info.source.split_at_checked(start).unwrap_or_default();
    if word.is_empty() {
        return start..stop.min(info.source.len());
    }
    if before.ends_with(word) {
        return start - word.len()..start;
    }
    match after.find(word) {
        Some(found) => start + found..start + found + word.len(),
        None => start..stop.min(info.source.len()),
    }
}

/// `a.b.c` as its names, when the node is nothing but names.
#[must_use]
pub fn path(node: &IdedExpr) -> Option<Vec<&str>> {
    match &node.expr {
        Expr::Ident(name) => Some(vec![name]),
        Expr::Select(select) if !select.test => {
            let mut path = path(&select.operand)?;
            path.push(&select.field);
            Some(path)
        }
        _ => None,
    }
}

fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

fn ident(name: &str) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Ident(name.to_owned()) }
}

/// How an operator is written.
#[must_use]
pub fn written(function: &str) -> &str {
    match function {
        operators::IN => "in",
        operators::INDEX => "[]",
        operators::CONDITIONAL => "?:",
        "@matches" => "matches",
        "_._" => ".",
        name => name.trim_matches('_'),
    }
}
