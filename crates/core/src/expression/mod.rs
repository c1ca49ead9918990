//! Expressions: `if:` conditions and `${{ … }}` within values.
//!
//! The language is a part of CEL, the Common Expression Language: literals, the values of a run, comparisons, `&&`,
//! `||`, `!`, `? :`, arithmetic, `in`, and a few functions on texts. Nothing repeats, and nothing makes lists or
//! maps, so the size of an expression bounds its cost. No expression ever reaches a shell: scripts are not templates.
//!
//! 1. A text becomes tokens ([`token`]) and a small syntax tree ([`parse`], [`path`], [`syntax`]), as a whole or not
//!    at all. [`dialect`] knows the words of other languages.
//! 2. When the DAG is made, types and names are checked against its declarations ([`check`], [`ExpressionScope`]), and
//!    conditions that can never hold are refused ([`reach`]).
//! 3. [`evaluate`] visits each node once at most and counts the texts that it makes: microseconds, and 64 KiB of text
//!    at worst. So it may be called within a transaction.
//!
//! Why not the crate `cel`: its parser is ANTLR's and brings some twenty crates, its errors name tokens of a grammar
//! instead of what to write, it takes comprehensions, and its trees have no positions for type errors. It is the
//! second opinion in the tests instead: it takes every expression that this module takes, and gives it the same
//! value. (Except for `has`, which takes names in brackets here, since names of metrics have slashes.)

mod check;
mod dialect;
mod domain;
mod evaluate;
mod facts;
mod parse;
mod path;
mod reach;
mod scope;
mod syntax;
#[cfg(test)]
mod tests;
mod token;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use self::evaluate::{TEXT_AT_MOST, Value, evaluate};
use self::syntax::{Expr, Node, Variable};
use crate::text::shortened as shown;

pub use self::facts::{Facts, StageFacts};
pub use self::scope::{ExpressionScope, NameInScope, StageScope, Stages, Work};

/// The longest text of one expression, in bytes.
pub const LONGEST: usize = 1_024;

/// The most expressions of one text.
const PARTS_AT_MOST: usize = 100;

/// A fault in an expression's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ExpressionFault {
    pub message: String,
    /// The text to write instead, where that is known.
    pub help: Option<String>,
    /// The part at fault, in bytes of the text given.
    pub range: Range<usize>,
}

impl ExpressionFault {
    fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            range,
        }
    }

    fn moved(mut self, by: usize) -> Self {
        self.range = self.range.start + by..self.range.end + by;
        self
    }
}

/// A fault in evaluating an expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{expression}` cannot be evaluated: {problem}")]
pub struct EvaluationFault {
    pub expression: String,
    pub problem: String,
}

/// The result of parsing an expression's text.
type Parsed = Result<Expr, ExpressionFault>;

/// A condition: an expression whose truth decides whether a stage runs.
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    parsed: Arc<Parsed>,
}

impl Condition {
    /// Checks the syntax of `text`, which may be wrapped in `${{ … }}` as a whole.
    ///
    /// # Errors
    /// Where and why it is not an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionFault> {
        let inner = &text[Self::within(text)];
        let condition = Self::stored(inner);
        match &*condition.parsed {
            Ok(_) => Ok(condition),
            Err(fault) if inner.is_empty() => Err(ExpressionFault {
                range: 0..text.len(),
                ..fault.clone()
            }),
            Err(fault) => Err(fault.clone().moved(Self::within(text).start)),
        }
    }

    /// Where the expression stands within a text: without the space around it, and without `${{ … }}`.
    #[must_use]
    pub fn within(text: &str) -> Range<usize> {
        let trimmed = text.trim();
        let inner = trimmed
            .strip_prefix("${{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .map_or(trimmed, str::trim);
        let start = inner.as_ptr() as usize - text.as_ptr() as usize;
        start..start + inner.len()
    }

    /// A condition that was recorded by some version. If its text is not a valid expression (any more), it has no
    /// value: its stage ends as errored, with the fault as its reason, and never runs.
    #[must_use]
    pub fn stored(source: &str) -> Self {
        Self {
            source: source.into(),
            parsed: Arc::new(parse::parse(source)),
        }
    }

    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The faults of the condition under the DAG's declarations: names, types, and that it can never hold. The ranges
    /// are of [`Condition::source`].
    #[must_use]
    pub fn faults(&self, scope: &ExpressionScope<'_>) -> Vec<ExpressionFault> {
        match &*self.parsed {
            Ok(expr) => check::condition(expr, scope),
            Err(fault) => vec![fault.clone()],
        }
    }

    /// The stages that it refers to.
    pub(crate) fn add_stages<'a>(&'a self, stages: &mut BTreeSet<&'a str>) {
        if let Ok(expr) = &*self.parsed {
            expr.each_stage(&mut |stage| {
                stages.insert(stage);
            });
        }
    }

    /// Whether it refers to the run's cause.
    pub(crate) fn reads_cause(&self) -> bool {
        self.parsed.as_ref().as_ref().is_ok_and(Expr::reads_cause)
    }

    /// Evaluates the condition.
    ///
    /// # Errors
    /// A missing value, or a value of another type than declared.
    pub fn holds(&self, facts: &Facts) -> Result<bool, EvaluationFault> {
        let problem = match value(&self.parsed, facts) {
            Ok(Value::Boolean(truth)) => return Ok(truth),
            Ok(_) => "it is neither true nor false".to_owned(),
            Err(problem) => problem,
        };
        Err(EvaluationFault {
            expression: self.source.to_string(),
            problem,
        })
    }
}

fn value<'a>(parsed: &'a Parsed, facts: &'a Facts) -> Result<Value<'a>, String> {
    match parsed {
        Ok(expr) => evaluate(expr, facts),
        Err(fault) => {
            let help = fault.help.as_ref().map(|help| format!(" ({help})"));
            Err(format!(
                "{}{}; fix it in the DAG file and push it again",
                fault.message,
                help.unwrap_or_default()
            ))
        }
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Condition {}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.source)
    }
}

/// A text with `${{ … }}` parts. Copies share it.
#[derive(Clone)]
pub struct Template {
    source: Arc<str>,
    parts: Arc<[Part]>,
}

/// A part of a text, by its bytes.
enum Part {
    Literal(Range<usize>),
    Expression(Range<usize>, Parsed),
}

impl Template {
    /// A text taken as it is, whatever it holds.
    pub fn literal(text: impl Into<String>) -> Self {
        let source: Arc<str> = text.into().into();
        let whole = Part::Literal(0..source.len());
        Self {
            parts: Arc::new([whole]),
            source,
        }
    }

    /// Splits a text into literal parts and expressions, and checks the syntax of each.
    ///
    /// # Errors
    /// Where and why a part is not an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionFault> {
        let template = Self::split(text)?;
        let fault = template.parts.iter().find_map(|part| match part {
            Part::Expression(range, Err(fault)) => Some(fault.clone().moved(range.start)),
            Part::Expression(_, Ok(_)) | Part::Literal(_) => None,
        });
        fault.map_or(Ok(template), Err)
    }

    /// A text that was recorded by some version, as [`Condition::stored`].
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self::split(text).unwrap_or_else(|fault| Self {
            source: text.into(),
            parts: Arc::new([Part::Expression(0..text.len(), Err(fault))]),
        })
    }

    fn split(text: &str) -> Result<Self, ExpressionFault> {
        let mut parts = Vec::new();
        let (mut at, mut expressions) = (0, 0);
        while let Some(open) = text[at..].find("${{").map(|found| at + found) {
            let Some(close) = text[open..].find("}}").map(|found| open + found) else {
                let message = "`${{` is not closed by `}}`";
                return Err(ExpressionFault::new(open..text.len(), message));
            };
            expressions += 1;
            if expressions > PARTS_AT_MOST {
                let message = format!("a text has at most {PARTS_AT_MOST} expressions");
                return Err(ExpressionFault::new(open..close + 2, message));
            }
            if open > at {
                parts.push(Part::Literal(at..open));
            }
            let inner = &text[open + 3..close];
            let start = open + 3 + (inner.len() - inner.trim_start().len());
            let inner = inner.trim();
            let parsed = parse::parse(inner).map_err(|fault| {
                if inner.is_empty() {
                    // Only the text around it is at fault.
                    ExpressionFault::new(0..0, fault.message)
                } else {
                    fault
                }
            });
            parts.push(Part::Expression(start..start + inner.len(), parsed));
            at = close + 2;
        }
        if at < text.len() || parts.is_empty() {
            parts.push(Part::Literal(at..text.len()));
        }
        Ok(Self {
            source: text.into(),
            parts: parts.into(),
        })
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it holds no expression, so that it renders as it is written.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, Part::Literal(_)))
    }

    /// The parts of the text that are not expressions.
    pub fn literals(&self) -> impl Iterator<Item = Range<usize>> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(range) => Some(range.clone()),
            Part::Expression(..) => None,
        })
    }

    /// The stage whose image the text names, where it is `${{ stages.X.image }}` and nothing else.
    #[must_use]
    pub fn stage_of_image(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Expression(_, Ok(expr))] => match &expr.node {
                Node::Variable(Variable::Image(stage)) => Some(stage),
                _ => None,
            },
            _ => None,
        }
    }

    /// The faults of its expressions under the DAG's declarations. The ranges are of [`Template::source`].
    #[must_use]
    pub fn faults(&self, scope: &ExpressionScope<'_>) -> Vec<ExpressionFault> {
        let faults_of = |part: &Part| match part {
            Part::Literal(_) => Vec::new(),
            Part::Expression(range, parsed) => {
                let found = match parsed {
                    Ok(expr) => check::part(expr, scope),
                    Err(fault) => vec![fault.clone()],
                };
                found
                    .into_iter()
                    .map(|fault| fault.moved(range.start))
                    .collect()
            }
        };
        self.parts.iter().flat_map(faults_of).collect()
    }

    /// The stages that it refers to.
    pub(crate) fn add_stages<'a>(&'a self, stages: &mut BTreeSet<&'a str>) {
        for part in &*self.parts {
            if let Part::Expression(_, Ok(expr)) = part {
                expr.each_stage(&mut |stage| {
                    stages.insert(stage);
                });
            }
        }
    }

    /// Whether it refers to the run's cause.
    pub(crate) fn reads_cause(&self) -> bool {
        self.parts
            .iter()
            .any(|part| matches!(part, Part::Expression(_, Ok(expr)) if expr.reads_cause()))
    }

    /// The text with every expression replaced by its value.
    ///
    /// # Errors
    /// The first expression that cannot be evaluated, and values that are too long together.
    pub fn render(&self, facts: &Facts) -> Result<String, EvaluationFault> {
        if self.is_literal() {
            return Ok(self.source.to_string());
        }
        let mut rendered = String::new();
        let mut values = 0;
        for part in &*self.parts {
            match part {
                Part::Literal(range) => rendered.push_str(&self.source[range.clone()]),
                Part::Expression(range, parsed) => {
                    let text = value(parsed, facts).map(|value| match value {
                        Value::Text(text) => text,
                        other => other.to_string().into(),
                    });
                    let text = text.and_then(|text| {
                        values += text.len();
                        if values > TEXT_AT_MOST {
                            return Err(format!("it makes more than {TEXT_AT_MOST} bytes of text"));
                        }
                        Ok(text)
                    });
                    let text = text.map_err(|problem| EvaluationFault {
                        expression: self.source[range.clone()].to_owned(),
                        problem,
                    })?;
                    rendered.push_str(&text);
                }
            }
        }
        Ok(rendered)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.is_literal() == other.is_literal()
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_literal() {
            "Literal"
        } else {
            "Template"
        };
        write!(f, "{kind}({:?})", self.source)
    }
}
