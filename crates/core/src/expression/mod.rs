//! Expressions: `if:` conditions and `${{ … }}` within values.
//!
//! One small language, minijinja's expressions, with strict undefined names and a budget of steps.
//! What an expression may refer to is checked when the DAG is made ([`Scope`]); what it evaluates
//! over is [`Facts`]. Nothing here ever reaches a shell: scripts are not templates.

mod facts;
mod machine;
mod scope;

use std::ops::Range;

use thiserror::Error;

use self::machine::{check_syntax, evaluate};

pub use self::facts::{Facts, StageFacts};
pub use self::machine::EvaluationFault;
pub use self::scope::Scope;

/// The longest text of one expression, in bytes.
pub const LONGEST: usize = 1_024;

/// A fault in an expression's text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ExpressionFault {
    /// What is wrong.
    pub message: String,
    /// The part at fault, in bytes of the text given.
    pub range: Range<usize>,
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
        scope.faults(&self.source)
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

    /// Whether it holds no expression, so that it renders as it is written.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.expressions().next().is_none()
    }

    /// The expression, where the text is one and nothing else.
    #[must_use]
    pub fn sole_expression(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Expression(source)] => Some(source),
            _ => None,
        }
    }

    /// References to what does not exist: message and help, each.
    #[must_use]
    pub fn faults(&self, scope: &Scope) -> Vec<(String, Option<String>)> {
        self.expressions()
            .flat_map(|source| scope.faults(source))
            .collect()
    }

    /// The text with every expression replaced by its value.
    ///
    /// # Errors
    /// The first expression that cannot be evaluated.
    pub fn render(&self, facts: &Facts) -> Result<String, EvaluationFault> {
        if self.is_literal() {
            return Ok(self.source.clone());
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::name::{MetricName, ParamName, StageName};
    use crate::outcome::Outcome;
    use crate::param::ParamValue;

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
    fn references_with_subscripts_are_checked_too() {
        let scope = Scope {
            stages: BTreeSet::from([
                StageName::new("train-2").unwrap(),
                StageName::new("evaluate").unwrap(),
            ]),
            ..Scope::default()
        };
        let faults = |text: &str| Condition::parse(text).unwrap().faults(&scope);
        assert_eq!(faults("stages['train-2'].outcome == 'failed'"), []);
        assert_eq!(faults("stages [ \"train-2\" ] . metrics['a/b'] > 1"), []);
        assert_eq!(faults("'stages[\\'x\\'].outcome' == cause.branch"), []);
        assert_eq!(
            faults("1 + stages['train-3'].metrics.loss > 1"),
            [(
                "`stages['train-3'].metrics.loss` refers to a stage that this one does not need: `train-3`"
                    .to_owned(),
                Some("did you mean `train-2`?".to_owned())
            )]
        );
        assert_eq!(
            faults("stages['evaluate']['result'] == 1")[0].0,
            "`stages['evaluate']['result']` refers to an unknown field of a stage: `result`"
        );
        assert_eq!(
            faults("stages.train-2.outcome == 'failed'")[0].1.as_deref(),
            Some("`-` means minus here; write `stages['train-2']`")
        );
    }

    #[test]
    fn expensive_expressions_are_stopped_before_they_cost_much() {
        for text in [
            "range(9999)|map('string')|join|length > 0 or ".repeat(20) + "true",
            "('x' * 90000000)|length > 0".to_owned(),
            "('x' * 90000000 ~ 'y')|length > 0".to_owned(),
            "([1] * 90000000)|list|length > 0".to_owned(),
            "'x'|indent(900000000)|length > 0".to_owned(),
            "'%900000000d'|format(1)|length > 0".to_owned(),
            "(9 ** 9 ** 9 ** 9) > 0".to_owned(),
        ] {
            let refused = match Condition::parse(&text) {
                Ok(condition) => condition.holds(&facts()).is_err(),
                Err(_) => true,
            };
            assert!(refused, "{text} was evaluated");
        }
    }

    #[test]
    fn deeply_nested_expressions_are_refused_and_do_no_harm() {
        for (open, close) in [("(", ")"), ("[", "]"), ("not ", ""), ("-", "")] {
            let text = open.repeat(LONGEST / 2 / open.len()) + "1" + &close.repeat(LONGEST / 3);
            let _ = Condition::parse(&text).map(|condition| condition.holds(&facts()));
        }
    }
}
