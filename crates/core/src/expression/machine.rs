//! The language's machine: minijinja, strict and on a budget.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use minijinja::value::Value;
use minijinja::{Environment, UndefinedBehavior};
use thiserror::Error;

use crate::expression::{ExpressionFault, LONGEST};

/// What one evaluation may cost: steps of the machine, and the memory that it fills (64 bytes each).
const FUEL: u64 = 20_000;

/// A fault in evaluating an expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{expression}` cannot be evaluated: {problem}")]
pub struct EvaluationFault {
    /// The expression's text.
    pub expression: String,
    /// What went wrong.
    pub problem: String,
}

/// Made once: it holds the language's filters and tests, and nothing of any run.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
});

pub(super) fn evaluate(source: &str, context: &Value) -> Result<Value, EvaluationFault> {
    let fault = |error: minijinja::Error| EvaluationFault {
        expression: source.to_owned(),
        problem: describe(&error),
    };
    let value = ENVIRONMENT
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

pub(super) fn check_syntax(source: &str, offset: usize) -> Result<(), ExpressionFault> {
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
    match ENVIRONMENT.compile_expression(source) {
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

/// The names that an expression refers to, with the attributes that follow by dots:
/// `stages.train.outcome`.
pub(super) fn references(source: &str) -> BTreeSet<String> {
    ENVIRONMENT
        .compile_expression(source)
        .map(|expression| expression.undeclared_variables(true).into_iter().collect())
        .unwrap_or_default()
}
