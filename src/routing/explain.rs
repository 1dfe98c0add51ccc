//! Why an event goes where it goes: for every route its answer, and for a "no" the smallest part that said so.

use crate::{
    domain::{DeadCause, EnrichmentPart, Event},
    routing::{
        budget::Budget,
        condition::{Condition, Verdict},
        scope::{ROOTS, Scope},
        table::{Entry, Table},
    },
};
use cel::{
    ExecutionError, IdedExpr,
    common::{
        ast::{Expr, operators},
        types::{CelBool, CelDouble, CelInt, CelString, CelUInt},
        value::Val,
    },
};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// A value is shown up to this many characters.
const VALUE_CHARACTERS_MAX: usize = 40;

/// What every route says about one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Our id of the event.
    pub event: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The routes, in their order.
    pub routes: Vec<RouteExplained>,
}

/// What one route says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteExplained {
    /// Its name.
    pub route: String,
    /// Its answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// A route's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It matches; this is where the event goes.
    Matched {
        /// Each destination with its key.
        to: Vec<TargetExplained>,
    },
    /// It does not match.
    NotMatched {
        /// `when` or `when_enriched`.
        condition: Cow<'static, str>,
        /// The parts that said so.
        because: Vec<Reason>,
    },
    /// It would become a dead letter.
    Dead {
        /// The cause, in the words of the dead letters' list.
        cause: Cow<'static, str>,
        /// What went wrong.
        detail: String,
        /// The parts where it went wrong.
        because: Vec<Reason>,
    },
    /// `when` matches; the rest depends on records that are not there yet.
    Waits {
        /// The records it wants.
        wants: Vec<String>,
    },
    /// An earlier route matched and says `stop`.
    NotAsked {
        /// That route.
        stopped_by: String,
    },
    /// The event cannot be read at all.
    Unparsable,
}

/// Where a matched route sends the event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetExplained {
    /// The destination.
    pub destination: String,
    /// The routing key or record key.
    pub address: Option<String>,
}

/// A part of a condition that settled the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// The part.
    pub expression: String,
    /// What it came to: `true`, `false`, or why it came to nothing.
    pub result: String,
    /// The values it saw.
    pub saw: Vec<Saw>,
}

/// A value that a part saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saw {
    /// As the condition names it.
    pub name: String,
    /// The value, cut short; `None` when it is absent.
    pub value: Option<String>,
}

impl Table {
    /// Asks every route and says why it answers as it does. `enrichment` is `None` while nothing was fetched.
    ///
    /// Values of the payload are shown, cut short; who may see them is the caller's business. Nothing is counted.
    #[must_use]
    pub fn explain(&self, event: &Event, enrichment: Option<&[EnrichmentPart]>) -> Explanation {
        let budget = Budget::default();
        let scope = match enrichment {
            Some(parts) => Scope::enriched(event, parts, &budget),
            None => Scope::new(event, &budget),
        };
        let mut stopped_by = None;
        let routes = self.routes().map(|entry| {
            let answer = match &stopped_by {
                Some(by) => Answer::NotAsked { stopped_by: String::clone(by) },
                None => {
                    let (answer, stops) = answer(entry, &scope, enrichment.is_some());
                    stopped_by = stops.then(|| entry.name.to_string());
                    answer
                }
            };
            RouteExplained { route: entry.name.to_string(), answer }
        });
        let mut routes: Vec<RouteExplained> = routes.collect();
        if self.is_unparsable(&scope) {
            routes.iter_mut().for_each(|route| route.answer = Answer::Unparsable);
        }
        Explanation { event: event.id.to_string(), kind: event.kind.to_string(), routes }
    }
}

/// A route's answer, and whether later routes are not asked.
fn answer(entry: &Entry, scope: &Scope<'_>, is_enriched: bool) -> (Answer, bool) {
    let dead =
        |cause: DeadCause, detail: String, because| Answer::Dead { cause: cause.as_str().into(), detail, because };
    let ask = |name: &'static str, condition: Option<&Condition>| {
        let condition = condition?;
        let why = || Inquiry { condition, scope }.why(condition.tree());
        match condition.evaluate(scope) {
            Verdict::Yes => None,
            Verdict::No | Verdict::Missing(_) => Some(Answer::NotMatched { condition: name.into(), because: why() }),
            Verdict::Failed(words) => Some(dead(DeadCause::Condition, words, why())),
        }
    };
    if let Some(answer) = ask("when", entry.when.as_ref()) {
        return (answer, false);
    }
    let is_settled = entry.when_enriched.is_none();
    if !entry.enrich.is_empty() && !is_enriched {
        return (Answer::Waits { wants: entry.enrich.clone() }, entry.stop && is_settled);
    }
    if let Some(what) = entry.lacks(scope.parts()) {
        let detail = format!("the {what} could not be had");
        return (dead(DeadCause::EnrichmentRequired, detail, Vec::new()), false);
    }
    if let Some(answer) = ask("when_enriched", entry.when_enriched.as_ref()) {
        return (answer, false);
    }
    let answer = match entry.targets(scope) {
        Ok(targets) => Answer::Matched {
            to: targets
                .into_iter()
                .map(|target| TargetExplained {
                    destination: target.destination.to_string(),
                    address: target.address.map(String::from),
                })
                .collect(),
        },
        Err(words) => dead(DeadCause::Template, words.into(), Vec::new()),
    };
    (answer, entry.stop)
}

struct Inquiry<'c, 's, 'e> {
    condition: &'c Condition,
    scope: &'s Scope<'e>,
}

impl Inquiry<'_, '_, '_> {
    /// Goes down to the parts that settled a part's answer.
    fn why(&self, node: &IdedExpr) -> Vec<Reason> {
        let ask = |part: &IdedExpr| self.condition.evaluate_part(part, self.scope);
        let is_no = |part: &IdedExpr| ask(part) == Verdict::No;
        let Expr::Call(call) = &node.expr else { return vec![self.reason(node)] };
        match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::LOGICAL_AND, [left, right]) => match ask(node) {
                Verdict::No if is_no(left) => self.why(left),
                Verdict::No => self.why(right),
                Verdict::Yes => [self.why(left), self.why(right)].concat(),
                Verdict::Missing(_) | Verdict::Failed(_) => self.why(self.unsettled(left, right)),
            },
            (operators::LOGICAL_OR, [left, right]) => match ask(node) {
                Verdict::Yes if ask(left) == Verdict::Yes => self.why(left),
                Verdict::Yes => self.why(right),
                Verdict::No => [self.why(left), self.why(right)].concat(),
                Verdict::Missing(_) | Verdict::Failed(_) => self.why(self.unsettled(left, right)),
            },
            (operators::LOGICAL_NOT, [of]) if self.is_made_of_parts(of) => self.why(of),
            (operators::CONDITIONAL, [condition, yes, no]) => match ask(condition) {
                Verdict::Yes => [self.why(condition), self.why(yes)].concat(),
                Verdict::No => [self.why(condition), self.why(no)].concat(),
                Verdict::Missing(_) | Verdict::Failed(_) => self.why(condition),
            },
            _ => vec![self.reason(node)],
        }
    }

    /// Of two parts the one that has neither answer; the left one if both.
    fn unsettled<'n>(&self, left: &'n IdedExpr, right: &'n IdedExpr) -> &'n IdedExpr {
        match self.condition.evaluate_part(left, self.scope) {
            Verdict::Missing(_) | Verdict::Failed(_) => left,
            Verdict::Yes | Verdict::No => right,
        }
    }

    fn is_made_of_parts(&self, node: &IdedExpr) -> bool {
        let Expr::Call(call) = &node.expr else { return false };
        [operators::LOGICAL_AND, operators::LOGICAL_OR, operators::LOGICAL_NOT, operators::CONDITIONAL]
            .contains(&call.func_name.as_str())
    }

    fn reason(&self, node: &IdedExpr) -> Reason {
        let result = match self.condition.evaluate_part(node, self.scope) {
            Verdict::Yes => "true".to_owned(),
            Verdict::No => "false".to_owned(),
            Verdict::Missing(_) => "no match: a field is not there".to_owned(),
            Verdict::Failed(words) => words,
        };
        let mut saw = Vec::new();
        self.look(node, &mut saw);
        Reason { expression: self.condition.unparse(node), result, saw }
    }

    /// Notes every value of the event that a part names, each once.
    fn look(&self, node: &IdedExpr, saw: &mut Vec<Saw>) {
        match &node.expr {
            Expr::Select(select) if is_rooted(node) => {
                let (name, value) = match select.test {
                    // What `has` asks about, as if it were asked for.
                    true => (
                        format!("{}.{}", self.condition.unparse(&select.operand), select.field),
                        self.member(&select.operand, &select.field),
                    ),
                    false => (self.condition.unparse(node), self.value(node)),
                };
                note(saw, name, value);
            }
            Expr::Call(call) if call.func_name == operators::INDEX && is_rooted(node) => {
                note(saw, self.condition.unparse(node), self.value(node));
            }
            Expr::Ident(name) if ROOTS.contains(&name.as_str()) => {
                note(saw, name.clone(), self.value(node));
            }
            Expr::Select(select) => self.look(&select.operand, saw),
            Expr::Call(call) => {
                call.target.iter().map(|it| &**it).chain(&call.args).for_each(|part| self.look(part, saw));
            }
            Expr::List(list) => list.elements.iter().for_each(|part| self.look(part, saw)),
            // Within a loop, names mean something else at each step.
            Expr::Comprehension(it) => self.look(&it.iter_range, saw),
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) => {}
        }
    }

    fn value(&self, node: &IdedExpr) -> Option<String> {
        self.condition.with_value(node, self.scope, |value| match value {
            Ok(value) => Some(shown(&*value)),
            Err(ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_)) => None,
            Err(_) => Some("not to be had".to_owned()),
        })
    }

    fn member(&self, of: &IdedExpr, field: &str) -> Option<String> {
        self.condition.with_value(of, self.scope, |value| {
            let value = value.ok()?;
            let member = value.as_indexer()?.get(&CelString::from(field)).ok()?;
            Some(shown(&*member))
        })
    }
}

/// Whether a part is a name of the event and nothing else: `body.a["b"][0]`.
fn is_rooted(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(name) => ROOTS.contains(&name.as_str()),
        Expr::Select(select) => is_rooted(&select.operand),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            matches!(call.args.as_slice(), [of, at] if is_rooted(of) && matches!(at.expr, Expr::Literal(_)))
        }
        _ => false,
    }
}

fn note(saw: &mut Vec<Saw>, name: String, value: Option<String>) {
    if saw.iter().all(|it| it.name != name) {
        saw.push(Saw { name, value });
    }
}

fn shown(value: &dyn Val) -> String {
    if let Some(text) = value.downcast_ref::<CelString>() {
        let text = text.inner();
        return match text.char_indices().nth(VALUE_CHARACTERS_MAX) {
            Some((at, _)) => format!("{:?}…", text.get(..at).unwrap_or_default()),
            None => format!("{text:?}"),
        };
    }
    if let Some(number) = value.downcast_ref::<CelInt>() {
        return number.inner().to_string();
    }
    if let Some(number) = value.downcast_ref::<CelUInt>() {
        return number.inner().to_string();
    }
    if let Some(number) = value.downcast_ref::<CelDouble>() {
        return number.inner().to_string();
    }
    if let Some(answer) = value.downcast_ref::<CelBool>() {
        return answer.inner().to_string();
    }
    match (value.get_type().name(), value.as_sizer()) {
        ("list", Some(sizer)) => format!("a list of {}", sizer.size().inner()),
        ("map", _) => "an object".to_owned(),
        (name, _) => format!("a {name}"),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} ({})", self.event, self.kind)?;
        for it in &self.routes {
            write!(out, "  {}: ", it.route)?;
            match &it.answer {
                Answer::Matched { to } => {
                    writeln!(out, "matches")?;
                    for target in to {
                        write!(out, "    to {}", target.destination)?;
                        match &target.address {
                            Some(address) => writeln!(out, ", key {address:?}")?,
                            None => writeln!(out)?,
                        }
                    }
                }
                Answer::NotMatched { condition, because } => {
                    writeln!(out, "does not match by its `{condition}`")?;
                    because.iter().try_for_each(|reason| writeln!(out, "    {reason}"))?;
                }
                Answer::Dead { cause, detail, because } => {
                    writeln!(out, "dead letter `{cause}`: {detail}")?;
                    because.iter().try_for_each(|reason| writeln!(out, "    {reason}"))?;
                }
                Answer::Waits { wants } => writeln!(out, "matches so far, wants {}", wants.join(", "))?,
                Answer::NotAsked { stopped_by } => writeln!(out, "not asked: `{stopped_by}` matched and says `stop`")?,
                Answer::Unparsable => writeln!(out, "not asked: the push cannot be read")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.result.as_str() {
            result @ ("true" | "false") => write!(out, "`{}` is {result}", self.expression)?,
            words => write!(out, "`{}`: {words}", self.expression)?,
        }
        for (number, saw) in self.saw.iter().enumerate() {
            out.write_str(if number == 0 { ": " } else { ", " })?;
            match &saw.value {
                Some(value) => write!(out, "`{}` is {value}", saw.name)?,
                None => write!(out, "there is no `{}`", saw.name)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
