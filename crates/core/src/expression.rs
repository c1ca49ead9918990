//! Expressions: `if:` conditions and `${{ … }}` within values.
//!
//! One small language, minijinja's expressions, with strict undefined names and a budget of steps.
//! What an expression may refer to is checked when the DAG is made ([`Scope`]); what it evaluates
//! over is [`Facts`]. Nothing here ever reaches a shell: scripts are not templates.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use thiserror::Error;

use crate::name::{MetricName, ParamName, StageName};
use crate::outcome::Outcome;
use crate::param::ParamValue;

/// The longest text of one expression, in bytes.
pub const LONGEST: usize = 1_024;

/// Steps of the language's machine that one evaluation may take.
const FUEL: u64 = 20_000;

/// What `cause` holds, beside `params` and `stages`.
const CAUSE_FIELDS: [&str; 4] = ["kind", "branch", "commit", "logical_time"];

/// What each of `stages` holds.
const STAGE_FIELDS: [&str; 3] = ["outcome", "metrics", "image"];

/// A fault in an expression's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ExpressionFault {
    /// What is wrong.
    pub message: String,
    /// The part at fault, in bytes of the text given.
    pub range: Range<usize>,
}

/// A fault in evaluating an expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{expression}` cannot be evaluated: {problem}")]
pub struct EvaluationFault {
    /// The expression's text.
    pub expression: String,
    /// What went wrong.
    pub problem: String,
}

/// The names that an expression of one stage may use.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The DAG's parameters.
    pub params: BTreeSet<ParamName>,
    /// The stages that the stage needs, directly or not.
    pub stages: BTreeSet<StageName>,
}

/// The values that an expression is evaluated over.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The run's parameters.
    pub params: BTreeMap<ParamName, ParamValue>,
    /// What started the run: `schedule`, `push`, `manual` or `retry`.
    pub cause: String,
    /// The branch, empty where there is none.
    pub branch: String,
    /// The commit's full hash, empty where there is none.
    pub commit: String,
    /// The moment that the run is for, RFC 3339 in UTC.
    pub logical_time: String,
    /// Stages that ended.
    pub stages: BTreeMap<StageName, StageFacts>,
}

/// What is known of a stage that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFacts {
    /// How it ended.
    pub outcome: Outcome,
    /// What it reported.
    pub metrics: BTreeMap<MetricName, f64>,
    /// The image that it ran in; `None` where it did not run.
    pub image: Option<String>,
}

/// A condition: an expression whose truth decides whether a stage runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    source: String,
}

impl Condition {
    /// Checks the syntax of `text`, which may be wrapped in `${{ … }}` as a whole.
    ///
    /// # Errors
    /// Where and why it is not an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionFault> {
        let trimmed = text.trim();
        let inner = trimmed
            .strip_prefix("${{")
            .and_then(|rest| rest.strip_suffix("}}"))
            .filter(|inner| !inner.contains("${{"))
            .unwrap_or(trimmed);
        let offset = inner.as_ptr() as usize - text.as_ptr() as usize;
        check_syntax(inner, offset)?;
        Ok(Self {
            source: inner.trim().to_owned(),
        })
    }

    /// The expression's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// References to what does not exist: message and help, each.
    #[must_use]
    pub fn faults(&self, scope: &Scope) -> Vec<(String, Option<String>)> {
        reference_faults(&self.source, scope)
    }

    /// Evaluates the condition.
    ///
    /// # Errors
    /// An undefined name, a type error, or too many steps.
    pub fn holds(&self, facts: &Facts) -> Result<bool, EvaluationFault> {
        evaluate(&self.source, &facts.to_value()).map(|value| value.is_true())
    }
}

/// A text with `${{ … }}` parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Expression(String),
}

impl Template {
    /// A text taken as it is, whatever it holds.
    pub fn literal(text: impl Into<String>) -> Self {
        let source = text.into();
        Self {
            parts: vec![Part::Literal(source.clone())],
            source,
        }
    }

    /// Splits a text into literal parts and expressions, and checks the syntax of each.
    ///
    /// # Errors
    /// Where and why a part is not an expression.
    pub fn parse(text: &str) -> Result<Self, ExpressionFault> {
        let mut parts = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find("${{").map(|found| at + found) {
            let Some(close) = text[open..].find("}}").map(|found| open + found) else {
                return Err(ExpressionFault {
                    message: "`${{` is not closed by `}}`".to_owned(),
                    range: open..text.len(),
                });
            };
            if open > at {
                parts.push(Part::Literal(text[at..open].to_owned()));
            }
            let inner = &text[open + 3..close];
            check_syntax(inner, open + 3)?;
            parts.push(Part::Expression(inner.trim().to_owned()));
            at = close + 2;
        }
        if at < text.len() || parts.is_empty() {
            parts.push(Part::Literal(text[at..].to_owned()));
        }
        Ok(Self {
            source: text.to_owned(),
            parts,
        })
    }

    /// The text as written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// References to what does not exist: message and help, each.
    #[must_use]
    pub fn faults(&self, scope: &Scope) -> Vec<(String, Option<String>)> {
        self.expressions()
            .flat_map(|source| reference_faults(source, scope))
            .collect()
    }

    /// The text with every expression replaced by its value.
    ///
    /// # Errors
    /// The first expression that cannot be evaluated.
    pub fn render(&self, facts: &Facts) -> Result<String, EvaluationFault> {
        if let [Part::Literal(text)] = self.parts.as_slice() {
            return Ok(text.clone());
        }
        let context = facts.to_value();
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => rendered.push_str(text),
                Part::Expression(source) => {
                    rendered.push_str(&evaluate(source, &context)?.to_string());
                }
            }
        }
        Ok(rendered)
    }

    fn expressions(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Expression(source) => Some(source.as_str()),
        })
    }
}

impl Facts {
    fn to_value(&self) -> Value {
        let params = self.params.iter().map(|(name, value)| {
            let value = match value {
                ParamValue::String(text) => Value::from(text.as_str()),
                ParamValue::Integer(number) => Value::from(*number),
                ParamValue::Number(number) => Value::from(*number),
                ParamValue::Boolean(truth) => Value::from(*truth),
            };
            (name.as_str(), value)
        });
        let stages = self
            .stages
            .iter()
            .map(|(name, facts)| (name.as_str(), facts.to_value()));
        let cause = [
            ("kind", Value::from(self.cause.as_str())),
            ("branch", Value::from(self.branch.as_str())),
            ("commit", Value::from(self.commit.as_str())),
            ("logical_time", Value::from(self.logical_time.as_str())),
        ];
        map([
            ("params", map(params)),
            ("cause", map(cause)),
            ("stages", map(stages)),
        ])
    }
}

impl StageFacts {
    fn to_value(&self) -> Value {
        let metrics = self
            .metrics
            .iter()
            .map(|(name, number)| (name.as_str(), Value::from(*number)));
        let mut fields = vec![
            ("outcome", Value::from(self.outcome.as_str())),
            ("metrics", map(metrics)),
        ];
        if let Some(image) = &self.image {
            fields.push(("image", Value::from(image.as_str())));
        }
        map(fields)
    }
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let fields: BTreeMap<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::from(fields)
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
}

fn evaluate(source: &str, context: &Value) -> Result<Value, EvaluationFault> {
    let environment = environment();
    let fault = |error: minijinja::Error| EvaluationFault {
        expression: source.to_owned(),
        problem: describe(&error),
    };
    let value = environment
        .compile_expression(source)
        .map_err(fault)?
        .eval(context.clone())
        .map_err(fault)?;
    if value.is_undefined() {
        return Err(EvaluationFault {
            expression: source.to_owned(),
            problem: "it refers to a value that does not exist".to_owned(),
        });
    }
    Ok(value)
}

fn describe(error: &minijinja::Error) -> String {
    let text = error
        .detail()
        .map_or_else(|| error.kind().to_string(), ToOwned::to_owned);
    match error.kind() {
        minijinja::ErrorKind::UndefinedError => {
            "it refers to a value that does not exist".to_owned()
        }
        minijinja::ErrorKind::OutOfFuel => "it takes too many steps".to_owned(),
        _ => text,
    }
}

fn check_syntax(source: &str, offset: usize) -> Result<(), ExpressionFault> {
    let whole = offset..offset + source.len();
    if source.trim().is_empty() {
        let message = "the expression is empty".to_owned();
        return Err(ExpressionFault {
            message,
            range: whole,
        });
    }
    if source.len() > LONGEST {
        let message = format!("the expression is longer than {LONGEST} bytes");
        return Err(ExpressionFault {
            message,
            range: whole,
        });
    }
    match environment().compile_expression(source) {
        Ok(_) => Ok(()),
        Err(error) => {
            let range = error
                .range()
                .filter(|range| range.end <= source.len() && range.start < range.end)
                .map_or(whole, |range| offset + range.start..offset + range.end);
            Err(ExpressionFault {
                message: format!("not an expression: {}", describe(&error)),
                range,
            })
        }
    }
}

fn reference_faults(source: &str, scope: &Scope) -> Vec<(String, Option<String>)> {
    let environment = environment();
    let Ok(expression) = environment.compile_expression(source) else {
        return Vec::new();
    };
    let references: BTreeSet<String> = expression.undeclared_variables(true).into_iter().collect();
    references
        .iter()
        .filter_map(|path| reference_fault(path, scope))
        .collect()
}

fn reference_fault(path: &str, scope: &Scope) -> Option<(String, Option<String>)> {
    let mut parts = path.split('.');
    let root = parts.next()?;
    let (name, field) = (parts.next(), parts.next());
    let among = |written: &str, known: Vec<&str>, what: &str| {
        let help = crate::dag::nearest(written, known.iter().copied())
            .map(|name| format!("did you mean `{name}`?"))
            .or_else(|| (!known.is_empty()).then(|| format!("there is {}", known.join(", "))));
        Some((format!("`{path}` refers to {what} `{written}`"), help))
    };
    match (root, name) {
        ("params", Some(name)) if !scope.params.contains(name) => {
            let known = scope.params.iter().map(ParamName::as_str).collect();
            among(name, known, "an undeclared parameter")
        }
        ("stages", Some(name)) if !scope.stages.contains(name) => {
            let known = scope.stages.iter().map(StageName::as_str).collect();
            among(name, known, "a stage that this one does not need:")
        }
        ("stages", Some(_)) => {
            let field = field.filter(|field| !STAGE_FIELDS.contains(field))?;
            among(field, STAGE_FIELDS.to_vec(), "an unknown field of a stage:")
        }
        ("cause", Some(name)) if !CAUSE_FIELDS.contains(&name) => among(
            name,
            CAUSE_FIELDS.to_vec(),
            "an unknown field of the cause:",
        ),
        ("params" | "cause" | "stages", _) => None,
        (root, _) => among(root, vec!["params", "cause", "stages"], "an unknown name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let evaluate = StageFacts {
            outcome: Outcome::Succeeded,
            metrics: BTreeMap::from([(MetricName::new("auc").unwrap(), 0.96)]),
            image: Some("sha256:1".to_owned()),
        };
        Facts {
            params: BTreeMap::from([(ParamName::new("epochs").unwrap(), ParamValue::Integer(3))]),
            cause: "push".to_owned(),
            branch: "main".to_owned(),
            stages: BTreeMap::from([(StageName::new("evaluate").unwrap(), evaluate)]),
            ..Facts::default()
        }
    }

    fn scope() -> Scope {
        Scope {
            params: BTreeSet::from([ParamName::new("epochs").unwrap()]),
            stages: BTreeSet::from([StageName::new("evaluate").unwrap()]),
        }
    }

    #[track_caller]
    fn holds(text: &str) -> bool {
        Condition::parse(text).unwrap().holds(&facts()).unwrap()
    }

    #[test]
    fn conditions_see_params_cause_and_stages() {
        assert!(holds("stages.evaluate.metrics.auc > 0.95"));
        assert!(holds("params.epochs == 3 and cause.branch == 'main'"));
        assert!(!holds("${{ stages.evaluate.outcome == 'failed' }}"));
    }

    #[test]
    fn an_undefined_name_is_a_fault_and_not_false() {
        let condition = Condition::parse("stages.evaluate.metrics.f1 > 0.5").unwrap();
        let fault = condition.holds(&facts()).unwrap_err();
        assert!(fault.to_string().contains("does not exist"), "{fault}");
    }

    #[test]
    fn references_are_checked_against_what_exists() {
        let faults = |text: &str| Condition::parse(text).unwrap().faults(&scope());
        assert!(faults("stages.evaluate.metrics.auc > 0.9 and params.epochs > 1").is_empty());
        let (message, help) = &faults("params.epoch > 1")[0];
        assert_eq!(
            message,
            "`params.epoch` refers to an undeclared parameter `epoch`"
        );
        assert_eq!(help.as_deref(), Some("did you mean `epochs`?"));
        assert_eq!(faults("stages.train.outcome == 'failed'").len(), 1);
        assert_eq!(faults("github.ref == 'x'").len(), 1);
    }

    #[test]
    fn templates_mix_text_and_values() {
        let template = Template::parse("n=${{ params.epochs }}, on ${{cause.branch}}").unwrap();
        assert_eq!(template.render(&facts()).unwrap(), "n=3, on main");
        assert_eq!(
            Template::parse("$VAR ${X}")
                .unwrap()
                .render(&facts())
                .unwrap(),
            "$VAR ${X}"
        );
    }

    #[test]
    fn faults_of_syntax_say_where() {
        assert_eq!(Template::parse("a ${{ x").unwrap_err().range, 2..7);
        assert!(Template::parse("a ${{ }}").is_err());
        let fault = Condition::parse("1 +* 2").unwrap_err();
        assert!(fault.range.start >= 2, "{fault:?}");
    }

    #[test]
    fn an_endless_expression_runs_out_of_steps() {
        let nested = "range(9999)|map('string')|join|length > ".repeat(20) + "0";
        let Ok(condition) = Condition::parse(&nested) else {
            return;
        };
        let _ = condition.holds(&facts());
    }
}
