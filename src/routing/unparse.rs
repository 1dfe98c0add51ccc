//! Writes a part of a condition's tree as CEL again, for explanations: the tree keeps no text of its own.

use crate::routing::lint;
use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators},
};
use std::fmt::Write;

/// Parts longer than this are cut.
const CHARACTERS_MAX: usize = 160;

/// The part as one would write it. `pattern` gives a compiled pattern's text by its number.
#[must_use]
pub fn unparse(node: &IdedExpr, pattern: &dyn Fn(usize) -> String) -> String {
    let text = Writer { pattern }.node(node);
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

struct Writer<'a> {
    pattern: &'a dyn Fn(usize) -> String,
}

impl Writer<'_> {
    fn node(&self, node: &IdedExpr) -> String {
        match &node.expr {
            Expr::Unspecified => String::new(),
            Expr::Ident(name) => name.clone(),
            Expr::Literal(literal) => literal_text(literal),
            Expr::Select(select) if select.test => format!("has({}.{})", self.operand(&select.operand), select.field),
            Expr::Select(select) => format!("{}.{}", self.operand(&select.operand), select.field),
            Expr::List(list) => format!("[{}]", self.all(&list.elements)),
            Expr::Map(map) => {
                let entries = map.entries.iter().filter_map(|entry| match &entry.expr {
                    EntryExpr::MapEntry(it) => Some(format!("{}: {}", self.node(&it.key), self.node(&it.value))),
                    EntryExpr::StructField(_) => None,
                });
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
            Expr::Struct(it) => it.type_name.clone(),
            Expr::Comprehension(it) => self.comprehension(it),
            Expr::Call(call) => self.call(call),
        }
    }

    fn call(&self, call: &CallExpr) -> String {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            ("@steps", [range, ..]) => self.node(range),
            ("@matches", [text, pattern]) => {
                let number = match &pattern.expr {
                    Expr::Ident(name) => name.trim_start_matches("@pattern").parse().unwrap_or_default(),
                    _ => 0,
                };
                format!("{}.matches({:?})", self.operand(text), (self.pattern)(number))
            }
            (operators::CONDITIONAL, [condition, yes, no]) => {
                format!("{} ? {} : {}", self.operand(condition), self.operand(yes), self.operand(no))
            }
            (operators::INDEX, [of, at]) => format!("{}[{}]", self.operand(of), self.node(at)),
            (operators::OPT_INDEX, [of, at]) => format!("{}[?{}]", self.operand(of), self.node(at)),
            (operators::OPT_SELECT, [of, field]) => {
                format!("{}.?{}", self.operand(of), self.node(field).trim_matches('"'))
            }
            (operators::LOGICAL_NOT, [of]) => format!("!{}", self.operand(of)),
            (operators::NEGATE, [of]) => format!("-{}", self.operand(of)),
            (_, [left, right]) if is_binary(name) => {
                format!("{} {} {}", self.operand(left), lint::written(name), self.operand(right))
            }
            (_, args) => {
                let target = call.target.as_ref().map(|target| format!("{}.", self.operand(target)));
                format!("{}{name}({})", target.unwrap_or_default(), self.all(args))
            }
        }
    }

    /// A loop by what its step does to what it has gathered.
    fn comprehension(&self, it: &ComprehensionExpr) -> String {
        let (name, body) = match &it.loop_step.expr {
            Expr::Call(step) => match (step.func_name.as_str(), step.args.as_slice()) {
                (operators::LOGICAL_AND, [_, body]) => ("all", self.node(body)),
                (operators::LOGICAL_OR, [_, body]) => ("exists", self.node(body)),
                (operators::CONDITIONAL, [body, ..]) => ("filter", self.node(body)),
                _ => ("map", "…".to_owned()),
            },
            _ => ("map", "…".to_owned()),
        };
        format!("{}.{name}({}, {body})", self.operand(&it.iter_range), it.iter_var)
    }

    /// In parentheses where an operator stands inside another.
    fn operand(&self, node: &IdedExpr) -> String {
        let text = self.node(node);
        match &node.expr {
            Expr::Call(call) if is_binary(&call.func_name) || call.func_name == operators::CONDITIONAL => {
                format!("({text})")
            }
            _ => text,
        }
    }

    fn all(&self, nodes: &[IdedExpr]) -> String {
        nodes.iter().map(|node| self.node(node)).collect::<Vec<_>>().join(", ")
    }
}

fn is_binary(name: &str) -> bool {
    name == operators::IN
        || (name.starts_with('_') && name.ends_with('_') && !name.contains(['[', '?']) && name.len() > 2)
}

fn literal_text(literal: &LiteralValue) -> String {
    match literal {
        LiteralValue::Boolean(value) => value.inner().to_string(),
        LiteralValue::Int(value) => value.inner().to_string(),
        LiteralValue::UInt(value) => format!("{}u", value.inner()),
        LiteralValue::Double(value) => format!("{:?}", value.inner()),
        LiteralValue::Null => "null".to_owned(),
        LiteralValue::String(value) => format!("{:?}", value.inner()),
        LiteralValue::Bytes(value) => {
            let mut text = "b\"".to_owned();
            for byte in value.inner() {
                let _ = write!(text, "\\x{byte:02x}");
            }
            text + "\""
        }
    }
}
