//! One `when` or `when_enriched`: compiled and checked once, evaluated for every event.

use crate::{
    config::diagnostic::Severity,
    routing::{
        budget::Budget,
        lint::{self, Pattern},
        mistake::Mistake,
        scope::Scope,
        unparse,
    },
};
use cel::{
    Context, Env, ExecutionError, IdedExpr, Value,
    common::{
        types::{CelBool, CelString, DYN_TYPE, STRING_TYPE},
        value::{CowVal, Val},
    },
    context::VariableResolver,
};
use std::sync::{Arc, LazyLock};

/// Longer conditions are refused: a chain of a few hundred `+` is a tree that could overflow a stack.
const CONDITION_BYTES_MAX: usize = 1024;

/// Room to read any condition of the permitted length, however it is nested.
const READING_STACK_BYTES: usize = 64 << 20;

/// What a condition says about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It matches.
    Yes,
    /// It does not.
    No,
    /// It does not, because a field that it asks for is not there.
    Missing(String),
    /// It cannot be told; the words hold nothing of the payload.
    Failed(String),
}

/// A condition, ready to be asked.
pub struct Condition {
    source: Box<str>,
    tree: IdedExpr,
    patterns: Vec<Pattern>,
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Condition({:?})", self.source)
    }
}

impl Condition {
    /// Reads a condition. `enrich` names the records that `enrichment` will hold; `None`: there is no `enrichment`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(source: &str, enrich: Option<&[String]>) -> Result<Self, Vec<Mistake>> {
        if source.len() > CONDITION_BYTES_MAX {
            let message = format!("the condition is longer than {CONDITION_BYTES_MAX} bytes");
            let help = "split it over several routes";
            return Err(vec![Mistake::error(0..0, message, format!("{} bytes", source.len())).help(help)]);
        }
        // Reading, measuring and dropping what was too deep all need stack as deep as the tree.
        let read = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(READING_STACK_BYTES);
            thread.spawn_scoped(scope, || Self::read(source, enrich)).ok()?.join().ok()
        });
        read.unwrap_or_else(|| Err(vec![Mistake::error(0..0, "the condition cannot be read", "not CEL")]))
    }

    fn read(source: &str, enrich: Option<&[String]>) -> Result<Self, Vec<Mistake>> {
        let (mut tree, info) = ENV.parser().parse_with_source_info(source).map_err(|errors| {
            let mut mistakes: Vec<Mistake> = errors.errors.iter().map(|error| syntax(source, error)).collect();
            mistakes.truncate(3);
            mistakes
        })?;
        if lint::depth(&tree) > lint::TREE_DEPTH_MAX {
            let message = format!("the condition is nested deeper than {} levels", lint::TREE_DEPTH_MAX);
            return Err(vec![Mistake::error(0..0, message, "too deep").help("split it over several routes")]);
        }
        let found = lint::walk(&mut tree, &info, enrich);
        if found.mistakes.iter().any(|mistake| mistake.severity == Severity::Error) {
            return Err(found.mistakes);
        }
        Ok(Self { source: source.into(), tree, patterns: found.patterns })
    }

    /// The condition as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its tree, for explanations.
    #[must_use]
    pub fn tree(&self) -> &IdedExpr {
        &self.tree
    }

    /// A part of its tree as one would write it.
    #[must_use]
    pub fn unparse(&self, part: &IdedExpr) -> String {
        let pattern = |number| self.patterns.get(number).map(|it: &Pattern| it.0.to_string()).unwrap_or_default();
        unparse::unparse(part, &pattern)
    }

    /// Asks it about an event.
    #[must_use]
    pub fn evaluate(&self, scope: &Scope<'_>) -> Verdict {
        self.evaluate_part(&self.tree, scope)
    }

    /// Asks a part of the condition's own tree.
    #[must_use]
    pub fn evaluate_part(&self, part: &IdedExpr, scope: &Scope<'_>) -> Verdict {
        self.with_value(part, scope, |value| match value {
            Ok(value) => match value.downcast_ref::<CelBool>() {
                Some(answer) if *answer.inner() => Verdict::Yes,
                Some(_) => Verdict::No,
                None => Verdict::Failed(format!("the answer is a {}, not true or false", value.get_type().name())),
            },
            Err(error) => refusal(&error, scope.budget),
        })
    }

    /// Evaluates a part of the condition's own tree and shows the value.
    pub fn with_value<R>(
        &self,
        part: &IdedExpr,
        scope: &Scope<'_>,
        show: impl FnOnce(Result<CowVal<'_, '_>, ExecutionError>) -> R,
    ) -> R {
        scope.budget.renew();
        let resolver = Resolver { scope, patterns: &self.patterns };
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.set_variable_resolver(&resolver);
        show(Value::resolve_val(part, &context))
    }
}

/// What an error of the interpreter means. Its own words may hold payload values, so they are not used.
fn refusal(error: &ExecutionError, budget: &Budget) -> Verdict {
    if budget.is_spent() {
        return Verdict::Failed(
            "it would take too much work: the lists or texts of this push are too large".to_owned(),
        );
    }
    let words = match error {
        ExecutionError::NoSuchKey(name) => return Verdict::Missing(name.to_string()),
        ExecutionError::IndexOutOfBounds(_) => return Verdict::Missing("element".to_owned()),
        ExecutionError::NoSuchOverload(error) => {
            format!("`{}` does not take ({})", lint::written(error.function()), error.argument_types().join(", "))
        }
        ExecutionError::UnexpectedType { got, want } => format!("a {got} stands where a {want} is needed"),
        ExecutionError::UnsupportedBinaryOperator(operator, ..) => format!("`{operator}` does not take these types"),
        ExecutionError::ValuesNotComparable(..) => "two values cannot be compared".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_owned(),
        ExecutionError::Overflow(operator, ..) => format!("`{operator}` overflows"),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` cannot use what it was given"),
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        _ => "it cannot be evaluated".to_owned(),
    };
    Verdict::Failed(words)
}

fn syntax(source: &str, error: &cel::ParseError) -> Mistake {
    let line = usize::try_from(error.pos.0).unwrap_or(1).saturating_sub(1);
    let column = usize::try_from(error.pos.1).unwrap_or(1).saturating_sub(1);
    let start: usize = source.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = source.get(start..).unwrap_or_default();
    let (at, width) = rest.char_indices().nth(column).map_or((rest.len(), 0), |(at, found)| (at, found.len_utf8()));
    let said = error.msg.trim_start_matches("Syntax error: ").lines().next().unwrap_or_default();
    Mistake::error(start + at..start + at + width, "the condition is not CEL", said)
}

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings).expect("the strings extension shares no name with the standard");
    env.add_overload("@steps", "steps", vec![DYN_TYPE, DYN_TYPE], steps).expect("the name cannot be written in CEL");
    env.add_overload("@matches", "matches", vec![STRING_TYPE, DYN_TYPE], matches)
        .expect("the name cannot be written in CEL");
    Arc::new(env)
});

/// `@steps(list, @budget)`: the list, once its loop is paid for.
fn steps<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let mut args = args.into_iter();
    let list = args.next().ok_or_else(ExecutionError::missing_argument_or_target)?;
    if let (Some(sizer), Some(budget)) = (list.as_sizer(), args.next()) {
        let budget = budget.downcast_ref::<Budget>().ok_or_else(ExecutionError::missing_argument_or_target)?;
        budget.pay_steps(*sizer.size().inner())?;
    }
    Ok(list)
}

/// `@matches(text, @pattern0)`
fn matches<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = args.first().and_then(|text| text.downcast_ref::<CelString>());
    let pattern = args.get(1).and_then(|pattern| pattern.downcast_ref::<Pattern>());
    let (Some(text), Some(pattern)) = (text, pattern) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    Ok(CowVal::owned(CelBool::from(pattern.0.is_match(text.inner()))))
}

struct Resolver<'s, 'e> {
    scope: &'s Scope<'e>,
    patterns: &'s [Pattern],
}

impl VariableResolver for Resolver<'_, '_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(number) = variable.strip_prefix("@pattern") {
            let pattern = self.patterns.get(number.parse::<usize>().ok()?)?;
            return Some(CowVal::Borrowed(pattern as &dyn Val));
        }
        self.scope.resolve(variable)
    }
}

#[cfg(test)]
#[path = "condition_tests.rs"]
mod tests;
