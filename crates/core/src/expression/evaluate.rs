//! Evaluates expressions. It visits each node at most once, and counts the texts that it makes against a bound: so
//! every expression costs microseconds to a few milliseconds.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::Facts;
use super::syntax::{Arithmetic, CauseField, Compare, Expr, Function, Node, Variable};
use crate::param::ParamValue;

/// The most bytes of text that one evaluation makes, all intermediate texts together.
pub(super) const TEXT_AT_MOST: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Boolean(bool),
    Integer(i64),
    Double(f64),
    Text(Cow<'a, str>),
}

impl std::fmt::Display for Value<'_> {
    /// As parameters are shown to stages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(truth) => truth.fmt(f),
            Self::Integer(number) => number.fmt(f),
            Self::Double(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Why there is no value, as a sentence part.
pub(super) type Problem = String;

/// The cost of an evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) steps: usize,
    pub(super) text: usize,
}

pub(super) fn evaluate<'a>(expr: &'a Expr, facts: &'a Facts) -> Result<Value<'a>, Problem> {
    measured(expr, facts).0
}

pub(super) fn measured<'a>(expr: &'a Expr, facts: &'a Facts) -> (Result<Value<'a>, Problem>, Cost) {
    let mut machine = Machine {
        facts,
        cost: Cost::default(),
    };
    let value = machine.value(expr);
    (value, machine.cost)
}

struct Machine<'a> {
    facts: &'a Facts,
    cost: Cost,
}

impl<'a> Machine<'a> {
    fn value(&mut self, expr: &'a Expr) -> Result<Value<'a>, Problem> {
        self.cost.steps += 1;
        match &expr.node {
            Node::Boolean(truth) => Ok(Value::Boolean(*truth)),
            Node::Integer(number) => Ok(Value::Integer(*number)),
            Node::Double(number) => Ok(Value::Double(*number)),
            Node::Text(text) => Ok(Value::Text(Cow::Borrowed(text))),
            Node::Variable(variable) => self.variable(variable),
            Node::Has(variable) => Ok(Value::Boolean(self.variable(variable).is_ok())),
            Node::Metrics(_) | Node::List(_) => Err("a list stands where a value is wanted".into()),
            Node::Not(inner) => Ok(Value::Boolean(!self.truth(inner)?)),
            Node::All(items) => self.chain(items, false).map(Value::Boolean),
            Node::Any(items) => self.chain(items, true).map(Value::Boolean),
            Node::Choose(condition, one, other) => {
                let chosen = if self.truth(condition)? { one } else { other };
                self.value(chosen)
            }
            Node::Compare(compare, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                Ok(Value::Boolean(
                    compare.holds(order(&left, &right, *compare)?),
                ))
            }
            Node::In(item, list) => self.is_in(item, list).map(Value::Boolean),
            Node::Negative(inner) => match self.value(inner)? {
                Value::Integer(number) => number
                    .checked_neg()
                    .map(Value::Integer)
                    .ok_or_else(overflow),
                Value::Double(number) => Ok(Value::Double(-number)),
                other => Err(unfit("-", &other)),
            },
            Node::Arithmetic(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.arithmetic(*operator, left, right)
            }
            Node::Call(function, items) => self.call(*function, items),
        }
    }

    fn truth(&mut self, expr: &'a Expr) -> Result<bool, Problem> {
        match self.value(expr)? {
            Value::Boolean(truth) => Ok(truth),
            other => Err(format!("{} is neither true nor false", word(&other))),
        }
    }

    /// `&&` (`decided` is false) and `||` (true): one item with the deciding truth decides, even if other items have
    /// no value. Otherwise the first fault is the answer.
    fn chain(&mut self, items: &'a [Expr], decided: bool) -> Result<bool, Problem> {
        let mut fault = None;
        for item in items {
            match self.truth(item) {
                Ok(truth) if truth == decided => return Ok(decided),
                Ok(_) => {}
                Err(problem) => fault = fault.or(Some(problem)),
            }
        }
        fault.map_or(Ok(!decided), Err)
    }

    fn is_in(&mut self, item: &'a Expr, list: &'a Expr) -> Result<bool, Problem> {
        let item = self.value(item)?;
        match (&list.node, &item) {
            (Node::List(items), _) => {
                self.cost.steps += 1;
                let mut is_in = false;
                for other in items {
                    let other = self.value(other)?;
                    is_in |= Compare::Equal.holds(order(&item, &other, Compare::Equal)?);
                }
                Ok(is_in)
            }
            (Node::Metrics(stage), Value::Text(name)) => {
                self.cost.steps += 1;
                Ok(self.stage(stage)?.metrics.contains_key(name.as_ref()))
            }
            _ => Err("`in` wants a list on its right".to_owned()),
        }
    }

    fn stage(&self, name: &str) -> Result<&'a super::StageFacts, Problem> {
        self.facts
            .stages
            .get(name)
            .ok_or_else(|| format!("there is no stage `{name}` that has ended before this one"))
    }

    fn variable(&self, variable: &'a Variable) -> Result<Value<'a>, Problem> {
        let text = |text: &'a str| Ok(Value::Text(Cow::Borrowed(text)));
        match variable {
            Variable::Param(name) => match self.facts.params.get(&**name) {
                Some(ParamValue::String(value)) => text(value),
                Some(ParamValue::Integer(number)) => Ok(Value::Integer(*number)),
                Some(ParamValue::Number(number)) => Ok(Value::Double(*number)),
                Some(ParamValue::Boolean(truth)) => Ok(Value::Boolean(*truth)),
                None => Err(format!("the run has no parameter `{name}`")),
            },
            Variable::Cause(field) => text(match field {
                CauseField::Kind => &self.facts.cause,
                CauseField::Branch => &self.facts.branch,
                CauseField::Commit => &self.facts.commit,
                CauseField::LogicalTime => &self.facts.logical_time,
            }),
            Variable::Outcome(stage) => text(self.stage(stage)?.outcome.as_str()),
            Variable::Image(stage) => match &self.stage(stage)?.image {
                Some(image) => text(image),
                None => Err(format!(
                    "stage `{stage}` has no image, since it did not run"
                )),
            },
            Variable::Metric(stage, metric) => self
                .stage(stage)?
                .metrics
                .get(&**metric)
                .map(|number| Value::Double(*number))
                .ok_or_else(|| format!("stage `{stage}` did not report the metric `{metric}`")),
        }
    }

    fn arithmetic(
        &mut self,
        operator: Arithmetic,
        left: Value<'a>,
        right: Value<'a>,
    ) -> Result<Value<'a>, Problem> {
        match (operator, left, right) {
            (operator, Value::Integer(left), Value::Integer(right)) => {
                let result = match operator {
                    Arithmetic::Add => left.checked_add(right),
                    Arithmetic::Subtract => left.checked_sub(right),
                    Arithmetic::Multiply => left.checked_mul(right),
                    Arithmetic::Divide | Arithmetic::Remainder if right == 0 => {
                        return Err("it divides by zero".to_owned());
                    }
                    Arithmetic::Divide => left.checked_div(right),
                    Arithmetic::Remainder => left.checked_rem(right),
                };
                result.map(Value::Integer).ok_or_else(overflow)
            }
            (Arithmetic::Add, Value::Double(left), Value::Double(right)) => {
                Ok(Value::Double(left + right))
            }
            (Arithmetic::Subtract, Value::Double(left), Value::Double(right)) => {
                Ok(Value::Double(left - right))
            }
            (Arithmetic::Multiply, Value::Double(left), Value::Double(right)) => {
                Ok(Value::Double(left * right))
            }
            (Arithmetic::Divide, Value::Double(left), Value::Double(right)) => {
                Ok(Value::Double(left / right))
            }
            (Arithmetic::Add, Value::Text(left), Value::Text(right)) => {
                self.make(left.len() + right.len())?;
                let mut text = left.into_owned();
                text.push_str(&right);
                Ok(Value::Text(Cow::Owned(text)))
            }
            (operator, left, _) => Err(unfit(operator.word(), &left)),
        }
    }

    /// Counts a text before it is made.
    fn make(&mut self, bytes: usize) -> Result<(), Problem> {
        if self.cost.text + bytes > TEXT_AT_MOST {
            return Err(format!("it makes more than {TEXT_AT_MOST} bytes of text"));
        }
        self.cost.text += bytes;
        Ok(())
    }

    fn call(&mut self, function: Function, items: &'a [Expr]) -> Result<Value<'a>, Problem> {
        let mut values = [None, None];
        for (value, item) in values.iter_mut().zip(items) {
            *value = Some(self.value(item)?);
        }
        let [first, second] = values;
        let first = first.ok_or("a function without a value")?;
        match (function, first, second) {
            (Function::Size, Value::Text(text), None) => {
                let count = i64::try_from(text.chars().count()).map_err(|_| overflow())?;
                Ok(Value::Integer(count))
            }
            (Function::StartsWith, Value::Text(text), Some(Value::Text(part))) => {
                Ok(Value::Boolean(text.starts_with(&*part)))
            }
            (Function::EndsWith, Value::Text(text), Some(Value::Text(part))) => {
                Ok(Value::Boolean(text.ends_with(&*part)))
            }
            (Function::Contains, Value::Text(text), Some(Value::Text(part))) => {
                Ok(Value::Boolean(text.contains(&*part)))
            }
            (Function::String, text @ Value::Text(_), None) => Ok(text),
            (Function::String, value, None) => {
                let text = value.to_string();
                self.make(text.len())?;
                Ok(Value::Text(Cow::Owned(text)))
            }
            (Function::Int, number @ Value::Integer(_), None)
            | (Function::Double, number @ Value::Double(_), None) => Ok(number),
            (Function::Int, Value::Double(number), None) => whole(number)
                .map(Value::Integer)
                .ok_or_else(|| format!("{number} does not fit a whole number")),
            #[expect(
                clippy::cast_precision_loss,
                reason = "the nearest double is what is asked for"
            )]
            (Function::Double, Value::Integer(number), None) => Ok(Value::Double(number as f64)),
            (Function::Int, Value::Text(text), None) => text
                .parse()
                .map(Value::Integer)
                .map_err(|_| format!("`{}` is not a whole number", super::shown(&text))),
            (Function::Double, Value::Text(text), None) => text
                .parse()
                .map(Value::Double)
                .map_err(|_| format!("`{}` is not a number", super::shown(&text))),
            (function, first, _) => Err(unfit(function.word(), &first)),
        }
    }
}

fn overflow() -> Problem {
    "a whole number becomes too large".to_owned()
}

fn unfit(operator: &str, value: &Value<'_>) -> Problem {
    format!("`{operator}` cannot be applied to {}", word(value))
}

fn word(value: &Value<'_>) -> &'static str {
    match value {
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) => "an integer",
        Value::Double(_) => "a number",
        Value::Text(_) => "a text",
    }
}

/// A double without its fraction, where that is within the whole numbers.
#[expect(clippy::cast_possible_truncation, reason = "checked just before")]
pub(super) fn whole(number: f64) -> Option<i64> {
    let bounds = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    bounds.contains(&number).then_some(number as i64)
}

/// Compares a whole number with a double: exactly, and not by way of the nearest double.
pub(super) fn order_mixed(integer: i64, double: f64) -> Option<Ordering> {
    match whole(double) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "it came from a double, so it becomes that one"
        )]
        Some(truncated) => Some(integer.cmp(&truncated).then_with(|| {
            (truncated as f64)
                .partial_cmp(&double)
                .unwrap_or(Ordering::Equal)
        })),
        None if double.is_nan() => None,
        None if double > 0.0 => Some(Ordering::Less),
        None => Some(Ordering::Greater),
    }
}

/// Compares two values; `None` where they have no order, as with "not a number".
fn order(
    left: &Value<'_>,
    right: &Value<'_>,
    compare: Compare,
) -> Result<Option<Ordering>, Problem> {
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => Ok(Some(left.cmp(right))),
        (Value::Double(left), Value::Double(right)) => Ok(left.partial_cmp(right)),
        (Value::Integer(left), Value::Double(right)) => Ok(order_mixed(*left, *right)),
        (Value::Double(left), Value::Integer(right)) => {
            Ok(order_mixed(*right, *left).map(Ordering::reverse))
        }
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        (Value::Boolean(left), Value::Boolean(right))
            if matches!(compare, Compare::Equal | Compare::Unequal) =>
        {
            Ok(Some(left.cmp(right)))
        }
        _ => Err(format!("{} is compared with {}", word(left), word(right))),
    }
}
