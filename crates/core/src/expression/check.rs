//! Checks types and names against the declarations of the DAG.

use super::evaluate::evaluate;
use super::reach;
use super::scope::{ExpressionScope, NameInScope, Type};
use super::syntax::{Arithmetic, Compare, Expr, Function, Node, Variable};
use super::{ExpressionFault, Facts};
use crate::name::{MetricName, ParamName};
use crate::text::listed;

/// The faults of a condition: those of its types and names, or else that it can never hold.
pub(super) fn condition(expr: &Expr, scope: &ExpressionScope<'_>) -> Vec<ExpressionFault> {
    let mut check = Check {
        scope,
        faults: Vec::new(),
    };
    match check.type_of(expr) {
        None | Some(Type::Boolean) => {}
        Some(other) => {
            let message = format!("a condition is true or false, and this is {}", other.word());
            let help = match other {
                Type::Text => "compare it, as in `== \"main\"` or `!= \"\"`",
                _ => "compare it, as in `> 0`",
            };
            check.fault(expr, message, Some(help.to_owned()));
        }
    }
    // If the declaration of a parameter could not be read, nothing is known of what can hold.
    if check.faults.is_empty() && scope.unread_params.is_empty() {
        check.faults.extend(reach::never_holds(expr, scope));
    }
    check.faults
}

/// The faults of an expression within a text.
pub(super) fn part(expr: &Expr, scope: &ExpressionScope<'_>) -> Vec<ExpressionFault> {
    let mut check = Check {
        scope,
        faults: Vec::new(),
    };
    check.type_of(expr);
    if check.faults.is_empty()
        && expr.is_constant
        && let Err(problem) = evaluate(expr, &Facts::default())
    {
        check.fault(
            expr,
            format!("this has no value in any run: {problem}"),
            None,
        );
    }
    check.faults
}

struct Check<'a> {
    scope: &'a ExpressionScope<'a>,
    faults: Vec<ExpressionFault>,
}

impl Check<'_> {
    fn fault(&mut self, at: &Expr, message: impl Into<String>, help: Option<String>) {
        let mut fault = ExpressionFault::new(at.span.clone(), message);
        fault.help = help;
        self.faults.push(fault);
    }

    /// The type of an expression. `None` where a fault was found that leaves it open.
    fn type_of(&mut self, expr: &Expr) -> Option<Type> {
        match &expr.node {
            Node::Boolean(_) => Some(Type::Boolean),
            Node::Integer(_) => Some(Type::Integer),
            Node::Double(_) => Some(Type::Double),
            Node::Text(_) => Some(Type::Text),
            Node::Variable(variable) => {
                let is_declared = self.is_declared(expr, variable);
                let is_unread = matches!(variable, Variable::Param(name) if self.scope.unread_params.contain(name));
                (is_declared && !is_unread).then(|| self.scope.type_of(variable))
            }
            Node::Has(variable) => {
                self.is_declared(expr, variable);
                Some(Type::Boolean)
            }
            Node::Metrics(stage) => {
                if self.stage(expr, stage, true) {
                    let message = "the metrics of a stage are not a value";
                    let help = "name one of them, as in metrics.auc, or ask `\"auc\" in …metrics`";
                    self.fault(expr, message, Some(help.to_owned()));
                }
                None
            }
            Node::List(_) => {
                self.fault(expr, "a list has its place after `in` only", None);
                None
            }
            Node::Not(inner) => {
                self.boolean(inner, "!");
                Some(Type::Boolean)
            }
            Node::All(items) => {
                for item in items {
                    self.boolean(item, "&&");
                }
                Some(Type::Boolean)
            }
            Node::Any(items) => {
                for item in items {
                    self.boolean(item, "||");
                }
                Some(Type::Boolean)
            }
            Node::Compare(compare, left, right) => {
                let (one, other) = (self.type_of(left), self.type_of(right));
                if let (Some(one), Some(other)) = (one, other) {
                    self.compare(expr, *compare, (left, one), (right, other));
                }
                Some(Type::Boolean)
            }
            Node::In(item, list) => {
                self.is_in(expr, item, list);
                Some(Type::Boolean)
            }
            Node::Negative(inner) => {
                let inner_type = self.type_of(inner)?;
                if !inner_type.is_number() {
                    let message = format!("`-` wants a number, and this is {}", inner_type.word());
                    self.fault(inner, message, None);
                    return None;
                }
                Some(inner_type)
            }
            Node::Arithmetic(operator, left, right) => {
                let (one, other) = (self.type_of(left), self.type_of(right));
                self.arithmetic(expr, *operator, (left, one?), (right, other?))
            }
            Node::Choose(condition, one, other) => {
                self.boolean(condition, "?");
                let (first, second) = (self.type_of(one), self.type_of(other));
                let (first, second) = (first?, second?);
                if first == second {
                    return Some(first);
                }
                let message = format!(
                    "both answers of `?` are of one type; these are {} and {}",
                    first.word(),
                    second.word()
                );
                self.fault(other, message, convert(first, second));
                None
            }
            Node::Call(function, items) => self.call(*function, items),
        }
    }

    fn boolean(&mut self, expr: &Expr, operator: &str) {
        if let Some(found) = self.type_of(expr).filter(|found| *found != Type::Boolean) {
            let message = format!(
                "`{operator}` wants true or false, and this is {}",
                found.word()
            );
            let help = (found == Type::Text).then(|| "compare it, as in `== \"main\"`".to_owned());
            self.fault(expr, message, help);
        }
    }

    fn compare(
        &mut self,
        expr: &Expr,
        compare: Compare,
        (left, one): (&Expr, Type),
        (right, other): (&Expr, Type),
    ) {
        let is_equality = matches!(compare, Compare::Equal | Compare::Unequal);
        if !(one == other || one.is_number() && other.is_number()) {
            let message = format!("this compares {} with {}", one.word(), other.word());
            let help = unquoted(left, right).or_else(|| unquoted(right, left));
            self.fault(expr, message, help.or_else(|| convert(one, other)));
        } else if one == Type::Boolean && !is_equality {
            self.fault(expr, "true and false have no order", None);
        } else if is_equality {
            self.choice(left, right);
            self.choice(right, left);
        }
    }

    /// A text that is compared with a value of a closed set has to be in that set.
    fn choice(&mut self, variable: &Expr, literal: &Expr) {
        let (Node::Variable(variable), Node::Text(text)) = (&variable.node, &literal.node) else {
            return;
        };
        let Some(choices) = self.scope.choices(variable) else {
            return;
        };
        if choices.contains(&&**text) {
            return;
        }
        let what = match variable {
            Variable::Param(name) => format!("`params.{name}`"),
            Variable::Outcome(_) => "an outcome".to_owned(),
            _ => "`cause.kind`".to_owned(),
        };
        let message = format!("{what} is never `{}`", super::shown(text));
        let similar = match (variable, &**text) {
            (Variable::Outcome(_), "success" | "ok" | "passed" | "completed") => Some("succeeded"),
            (Variable::Outcome(_), "failure" | "fail") => Some("failed"),
            (Variable::Outcome(_), "error") => Some("errored"),
            (Variable::Outcome(_), "timeout") => Some("timed_out"),
            (Variable::Outcome(_), "canceled") => Some("cancelled"),
            (Variable::Cause(_), "cron") => Some("schedule"),
            _ => self.scope.guesses.nearest(text, choices.iter().copied()),
        };
        let help = match similar {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("it is one of {}", listed(choices)),
        };
        self.fault(literal, message, Some(help));
    }

    fn is_in(&mut self, expr: &Expr, item: &Expr, list: &Expr) {
        let item_type = self.type_of(item);
        match &list.node {
            Node::List(items) if items.is_empty() => {
                self.fault(list, "nothing is in an empty list", None);
            }
            Node::List(items) => {
                for other in items {
                    if let (Some(one), Some(two)) = (item_type, self.type_of(other)) {
                        self.compare(other, Compare::Equal, (item, one), (other, two));
                    }
                }
            }
            Node::Metrics(stage) => {
                if self.stage(list, stage, true)
                    && let Some(found) = item_type.filter(|found| *found != Type::Text)
                {
                    let message = format!("the name of a metric is a text, not {}", found.word());
                    self.fault(item, message, None);
                }
                if let Node::Text(name) = &item.node
                    && let Err(invalid) = MetricName::new(name.to_string())
                {
                    self.fault(
                        item,
                        format!("no stage can have this metric: {invalid}"),
                        None,
                    );
                }
            }
            _ => {
                if let Some(found) = self.type_of(list) {
                    let message = format!("`in` wants a list on its right, not {}", found.word());
                    let help = match found {
                        Type::Text => "write a list in square brackets, or `x.contains(y)`",
                        _ => "write a list in square brackets, as in `in [1, 2]`",
                    };
                    self.fault(expr, message, Some(help.to_owned()));
                }
            }
        }
    }

    fn arithmetic(
        &mut self,
        expr: &Expr,
        operator: Arithmetic,
        (left, one): (&Expr, Type),
        (right, other): (&Expr, Type),
    ) -> Option<Type> {
        let fits = match one {
            Type::Integer => true,
            Type::Double => operator != Arithmetic::Remainder,
            Type::Text => operator == Arithmetic::Add,
            Type::Boolean => false,
        };
        if one == other && fits {
            return Some(one);
        }
        let mark = operator.word();
        let message = if one == other {
            format!("`{mark}` cannot be applied to {}", one.word())
        } else {
            format!("`{mark}` is between {} and {}", one.word(), other.word())
        };
        let help = match (&left.node, &right.node) {
            (_, Node::Integer(number)) | (Node::Integer(number), _)
                if one.is_number() && other.is_number() && one != other =>
            {
                Some(format!("write {number}.0"))
            }
            _ if one != other => convert(one, other),
            _ => None,
        };
        self.fault(expr, message, help);
        None
    }

    fn call(&mut self, function: Function, items: &[Expr]) -> Option<Type> {
        let result = match function {
            Function::Size | Function::Int => Type::Integer,
            Function::Double => Type::Double,
            Function::String => Type::Text,
            Function::StartsWith | Function::EndsWith | Function::Contains => Type::Boolean,
        };
        for item in items {
            let Some(found) = self.type_of(item) else {
                continue;
            };
            let fits = match function {
                Function::String => true,
                Function::Int | Function::Double => found != Type::Boolean,
                Function::Size | Function::StartsWith | Function::EndsWith | Function::Contains => {
                    found == Type::Text
                }
            };
            if !fits {
                let wanted = match function {
                    Function::Int | Function::Double => "a number or a text",
                    _ => "a text",
                };
                let message = format!(
                    "`{}` wants {wanted}, and this is {}",
                    function.word(),
                    found.word()
                );
                self.fault(item, message, None);
            }
        }
        Some(result)
    }

    fn is_declared(&mut self, at: &Expr, variable: &Variable) -> bool {
        match variable {
            Variable::Cause(_) => true,
            Variable::Outcome(stage) | Variable::Image(stage) => self.stage(at, stage, false),
            Variable::Metric(stage, _) => self.stage(at, stage, true),
            Variable::Param(name)
                if self.scope.params.contains_key(&**name)
                    || self.scope.unread_params.contain(name) =>
            {
                true
            }
            Variable::Param(name) => {
                let known: Vec<&str> = self.scope.params.keys().map(ParamName::as_str).collect();
                let message = format!("there is no parameter `{}`", super::shown(name));
                let meant = self.scope.guesses.nearest(name, known.iter().copied());
                let help = match meant {
                    Some(meant) => format!("did you mean `params.{meant}`?"),
                    None if known.is_empty() => "declare it under `params`".to_owned(),
                    None => format!("declare it under `params`, or use {}", listed(known)),
                };
                self.fault(at, message, Some(help));
                false
            }
        }
    }

    fn stage(&mut self, at: &Expr, name: &str, for_metrics: bool) -> bool {
        let shown = super::shown(name);
        match self.scope.stages.known(name) {
            NameInScope::Before(stage) if for_metrics && !stage.has_metrics => {
                let message = format!("stage `{shown}` reports no metrics");
                let help = format!("add `metrics: metrics.json` to stage `{shown}`");
                self.fault(at, message, Some(help));
                false
            }
            NameInScope::Before(_) => true,
            NameInScope::Itself => {
                let message =
                    format!("stage `{shown}` has not ended when its own expressions are evaluated");
                self.fault(
                    at,
                    message,
                    Some("refer to a stage that it needs".to_owned()),
                );
                false
            }
            NameInScope::NotBefore => {
                let message = format!("stage `{shown}` need not have ended before this one");
                let help = format!("add `{shown}` to the needs of this stage");
                self.fault(at, message, Some(help));
                false
            }
            NameInScope::Nowhere => {
                let message = format!("there is no stage `{shown}` before this one");
                let before = match self.scope.guesses.are_spent() {
                    true => Vec::new(),
                    false => self.scope.stages.before(),
                };
                let meant = self.scope.guesses.nearest(name, before.iter().copied());
                let help = match meant {
                    Some(meant) => Some(format!("did you mean `{meant}`?")),
                    None if before.is_empty() => None,
                    None => Some(format!("there is {}", listed(before))),
                };
                self.fault(at, message, help);
                false
            }
        }
    }
}

/// `params.n == "3"`: the text that was meant as a number or a truth.
fn unquoted(literal: &Expr, other: &Expr) -> Option<String> {
    let Node::Text(text) = &literal.node else {
        return None;
    };
    let is_value = text.parse::<f64>().is_ok() || matches!(&**text, "true" | "false");
    (is_value && !matches!(other.node, Node::Text(_)))
        .then(|| format!("write {text} without quotes"))
}

fn convert(one: Type, other: Type) -> Option<String> {
    match (one, other) {
        (Type::Integer, Type::Double) | (Type::Double, Type::Integer) => {
            Some("turn the integer into a number: `double(…)`".to_owned())
        }
        (Type::Text, number) | (number, Type::Text) if number.is_number() => {
            let function = if number == Type::Integer {
                "int"
            } else {
                "double"
            };
            Some(format!(
                "turn one into the other: `{function}(…)` or `string(…)`"
            ))
        }
        _ => None,
    }
}
