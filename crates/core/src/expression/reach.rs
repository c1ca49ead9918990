//! Finds conditions that can never hold, before anything runs.
//!
//! An expression is read as a constraint on the values of a run. Part by part, the values that are still possible
//! shrink; where none is left, no run makes the expression true. Parts that are not understood (sums of doubles,
//! converted texts, two parameters compared with each other) count as possible, and so does everything once the work
//! budget is spent: a condition that can hold is never reported as one that cannot. A property test checks this
//! against evaluation over all values of small scopes.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::domain::{Domain, Interval, Number, Texts};
use super::evaluate::{Value, evaluate};
use super::scope::{ExpressionScope, NameInScope, Type};
use super::syntax::{Arithmetic, CauseField, Compare, Expr, Function, Node, Variable};
use super::{ExpressionFault, Facts};
use crate::outcome::Outcome;
use crate::param::ParamKind;
use crate::text::listed;

/// The values that are still possible, of those variables for which it is fewer than declared.
type Possible<'a> = BTreeMap<&'a Variable, Domain<'a>>;

/// The fault of a condition that no run makes true.
pub(super) fn never_holds(expr: &Expr, scope: &ExpressionScope<'_>) -> Option<ExpressionFault> {
    let nothing = &Facts::default();
    let reach = Reach { scope, nothing };
    if reach.may_hold(expr) {
        return None;
    }
    // The smallest part that can never hold by itself is where the fault is.
    let mut blamed = expr;
    while let Node::All(items) = &blamed.node {
        let alone = |item: &&Expr| !reach.may_hold(item);
        match items.iter().find(alone) {
            Some(item) => blamed = item,
            None => break,
        }
    }
    let is_contradiction = matches!(blamed.node, Node::All(_));
    let message = if is_contradiction {
        "these can never hold together, so the stage would never run"
    } else {
        "this can never hold, so the stage would never run"
    };
    let mut fault = ExpressionFault::new(blamed.span.clone(), message);
    fault.help = reach.explain(blamed);
    Some(fault)
}

struct Reach<'a> {
    scope: &'a ExpressionScope<'a>,
    /// For what refers to nothing.
    nothing: &'a Facts,
}

impl<'a> Reach<'a> {
    fn may_hold(&self, expr: &'a Expr) -> bool {
        // The second time a part is read with what the parts after it leave: `n != 1 && n == 1`.
        self.holds(expr, true, Possible::new())
            .and_then(|possible| self.holds(expr, true, possible))
            .is_some()
    }

    /// The values that are possible where the expression is as `wanted`, or more than those.
    /// `None` where it never is.
    fn holds(&self, expr: &'a Expr, wanted: bool, possible: Possible<'a>) -> Option<Possible<'a>> {
        let size: usize = possible.values().map(Domain::size).sum();
        if !self.scope.work.spend(1 + size) {
            return Some(possible);
        }
        if expr.is_constant {
            return match self.constant(expr) {
                Some(Value::Boolean(truth)) => (truth == wanted).then_some(possible),
                Some(_) => Some(possible),
                // It has no value, so it is never true, and never false either.
                None => None,
            };
        }
        match &expr.node {
            Node::Not(inner) => self.holds(inner, !wanted, possible),
            Node::All(items) if wanted => self.each(items, true, possible),
            Node::Any(items) if !wanted => self.each(items, false, possible),
            Node::All(items) | Node::Any(items) => {
                let ways = items.iter().map(|item| (item, wanted));
                self.either(ways, &possible)
            }
            Node::Choose(condition, one, other) => {
                let first = self
                    .holds(condition, true, possible.clone())
                    .and_then(|possible| self.holds(one, wanted, possible));
                let second = self
                    .holds(condition, false, possible)
                    .and_then(|possible| self.holds(other, wanted, possible));
                join(first, second)
            }
            Node::Compare(compare, left, right) => {
                self.compare(*compare, left, right, wanted, possible)
            }
            Node::In(item, list) => match &list.node {
                Node::List(others) if wanted => {
                    let mut found = None;
                    for other in others {
                        let way = self.relate(Compare::Equal, item, other, possible.clone());
                        found = join(found, way);
                    }
                    found
                }
                Node::List(others) => others.iter().try_fold(possible, |possible, other| {
                    self.relate(Compare::Unequal, item, other, possible)
                }),
                _ => Some(possible),
            },
            Node::Variable(variable) => match self.domain(variable, &possible) {
                Domain::Boolean(may_be) => may_be[usize::from(wanted)].then(|| {
                    let mut possible = possible;
                    let mut only = [false; 2];
                    only[usize::from(wanted)] = true;
                    possible.insert(variable, Domain::Boolean(only));
                    possible
                }),
                _ => Some(possible),
            },
            // A parameter and a cause always exist, and so do the outcomes of stages before.
            Node::Has(Variable::Param(_) | Variable::Cause(_) | Variable::Outcome(_)) => {
                wanted.then_some(possible)
            }
            Node::Call(function, items) => self.text_test(*function, items, wanted, possible),
            _ => Some(possible),
        }
    }

    fn each(
        &self,
        items: &'a [Expr],
        wanted: bool,
        possible: Possible<'a>,
    ) -> Option<Possible<'a>> {
        items.iter().try_fold(possible, |possible, item| {
            self.holds(item, wanted, possible)
        })
    }

    fn either(
        &self,
        ways: impl Iterator<Item = (&'a Expr, bool)>,
        possible: &Possible<'a>,
    ) -> Option<Possible<'a>> {
        ways.fold(None, |found, (expr, wanted)| {
            join(found, self.holds(expr, wanted, possible.clone()))
        })
    }

    fn compare(
        &self,
        compare: Compare,
        left: &'a Expr,
        right: &'a Expr,
        wanted: bool,
        possible: Possible<'a>,
    ) -> Option<Possible<'a>> {
        if self.is_boolean(left) {
            let same = (compare == Compare::Equal) == wanted;
            let mut found = None;
            for truth in [true, false] {
                let other = if same { truth } else { !truth };
                let way = self
                    .holds(left, truth, possible.clone())
                    .and_then(|possible| self.holds(right, other, possible));
                found = join(found, way);
            }
            return found;
        }
        let compare = if wanted { compare } else { compare.negated() };
        self.relate(compare, left, right, possible)
    }

    fn is_boolean(&self, expr: &Expr) -> bool {
        match &expr.node {
            Node::Boolean(_)
            | Node::Not(_)
            | Node::All(_)
            | Node::Any(_)
            | Node::Compare(..)
            | Node::In(..)
            | Node::Has(_)
            | Node::Call(Function::StartsWith | Function::EndsWith | Function::Contains, _) => true,
            Node::Variable(variable) => self.scope.type_of(variable) == Type::Boolean,
            Node::Choose(_, one, _) => self.is_boolean(one),
            _ => false,
        }
    }

    /// The values that are left where two values compare so.
    fn relate(
        &self,
        compare: Compare,
        left: &'a Expr,
        right: &'a Expr,
        mut possible: Possible<'a>,
    ) -> Option<Possible<'a>> {
        let one = self.value(left, &possible)?;
        let other = self.value(right, &possible)?;
        if !self.scope.work.spend(one.size() + other.size()) {
            return Some(possible);
        }
        let (one, other) = Domain::relate(compare, one, other)?;
        for (expr, mut domain) in [(left, one), (right, other)] {
            if let Node::Variable(variable) = &expr.node {
                if let Domain::Text(Texts::Only(texts)) = &mut domain {
                    texts.retain(|text| may_be(variable, text));
                    if texts.is_empty() {
                        return None;
                    }
                }
                possible.insert(variable, domain);
            }
        }
        Some(possible)
    }

    /// The values that an expression may have. `None` where it has none in any run.
    fn value(&self, expr: &'a Expr, possible: &Possible<'a>) -> Option<Domain<'a>> {
        if !self.scope.work.spend(1) {
            return Some(Domain::Anything);
        }
        if expr.is_constant {
            return self.constant(expr).map(Domain::from);
        }
        Some(match &expr.node {
            Node::Variable(variable) => self.domain(variable, possible),
            Node::Negative(inner) => match self.value(inner, possible)? {
                Domain::Number(range) => range.negated().map(Domain::Number)?,
                _ => Domain::Anything,
            },
            Node::Arithmetic(operator, left, right) => {
                let (one, other) = (self.value(left, possible)?, self.value(right, possible)?);
                match (operator, one, other) {
                    (_, Domain::Number(one), Domain::Number(other)) => {
                        match one.combine(*operator, &other) {
                            Some(Some(range)) => Domain::Number(range),
                            Some(None) => return None,
                            None => Domain::Anything,
                        }
                    }
                    (Arithmetic::Add, Domain::Text(one), Domain::Text(other)) => {
                        Domain::Text(one.followed_by(&other))
                    }
                    _ => Domain::Anything,
                }
            }
            Node::Choose(_, one, other) => {
                match (self.value(one, possible), self.value(other, possible)) {
                    (Some(one), Some(other)) => one.union(other),
                    (found, None) | (None, found) => found?,
                }
            }
            Node::Call(Function::String, items)
                if items.iter().all(|item| self.is_boolean(item)) =>
            {
                Domain::Text(Texts::only(["false", "true"]))
            }
            Node::Call(Function::Size, _) => Domain::Number(Interval {
                low: Number::Integer(0),
                high: Number::Integer(i64::MAX),
                is_whole: true,
            }),
            _ => Domain::Anything,
        })
    }

    /// `startsWith` and the like, of a value that can be some texts only.
    fn text_test(
        &self,
        function: Function,
        items: &'a [Expr],
        wanted: bool,
        mut possible: Possible<'a>,
    ) -> Option<Possible<'a>> {
        let [on, part] = items else {
            return Some(possible);
        };
        let (Node::Variable(variable), Node::Text(part)) = (&on.node, &part.node) else {
            return Some(possible);
        };
        if function == Function::StartsWith && wanted && !may_begin(variable, part) {
            return None;
        }
        if let Domain::Text(Texts::Only(texts)) = self.domain(variable, &possible) {
            let left: BTreeSet<Cow<'a, str>> = texts
                .into_iter()
                .filter(|text| {
                    let holds = match function {
                        Function::StartsWith => text.starts_with(&**part),
                        Function::EndsWith => text.ends_with(&**part),
                        Function::Contains => text.contains(&**part),
                        _ => wanted,
                    };
                    holds == wanted
                })
                .collect();
            if left.is_empty() {
                return None;
            }
            possible.insert(variable, Domain::Text(Texts::Only(left)));
        }
        Some(possible)
    }

    fn constant(&self, expr: &'a Expr) -> Option<Value<'a>> {
        evaluate(expr, self.nothing).ok()
    }

    fn domain(&self, variable: &'a Variable, possible: &Possible<'a>) -> Domain<'a> {
        match possible.get(variable) {
            Some(domain) => domain.clone(),
            None => self.declared(variable),
        }
    }

    /// The values that are possible by the declarations.
    fn declared(&self, variable: &'a Variable) -> Domain<'a> {
        let any_text = || Domain::Text(Texts::anything());
        match variable {
            Variable::Param(name) => match self.scope.params.get(&**name).map(|spec| &spec.kind) {
                Some(ParamKind::Boolean) => Domain::Boolean([true; 2]),
                Some(ParamKind::Integer { minimum, maximum }) => Domain::Number(Interval {
                    low: Number::Integer(minimum.unwrap_or(i64::MIN)),
                    high: Number::Integer(maximum.unwrap_or(i64::MAX)),
                    is_whole: true,
                }),
                Some(ParamKind::Number { minimum, maximum }) => Domain::Number(Interval {
                    low: Number::Double(minimum.unwrap_or(f64::NEG_INFINITY)),
                    high: Number::Double(maximum.unwrap_or(f64::INFINITY)),
                    is_whole: false,
                }),
                Some(ParamKind::String { choices }) if !choices.is_empty() => {
                    Domain::Text(Texts::only(choices.iter().map(String::as_str)))
                }
                Some(ParamKind::String { .. }) | None => any_text(),
            },
            Variable::Cause(CauseField::Kind) => {
                let kinds = self.scope.choices(variable).unwrap_or_default();
                Domain::Text(Texts::only(kinds))
            }
            Variable::Outcome(stage) => match self.scope.stages.known(stage) {
                NameInScope::Before(stage) => Domain::Text(Texts::only(
                    stage.outcomes.iter().map(|outcome| outcome.as_str()),
                )),
                NameInScope::Nowhere | NameInScope::Itself | NameInScope::NotBefore => any_text(),
            },
            Variable::Cause(_) | Variable::Image(_) => any_text(),
            Variable::Metric(..) => Domain::Number(Interval {
                low: Number::Double(f64::NEG_INFINITY),
                high: Number::Double(f64::INFINITY),
                is_whole: false,
            }),
        }
    }

    /// How to fix a part that never holds.
    fn explain(&self, expr: &'a Expr) -> Option<String> {
        if expr.is_constant {
            let help = "it is the same for every run: remove the stage, or ask for something in params, cause or stages";
            return Some(help.to_owned());
        }
        if let Node::All(_) = &expr.node {
            return Some("write `||` where one of them is enough".to_owned());
        }
        let mut help = None;
        expr.each(&mut |node| {
            if let (None, Node::Variable(variable)) = (&help, node) {
                help = self.describe(variable);
            }
        });
        help
    }

    /// The values that are possible, where these are not all.
    fn describe(&self, variable: &'a Variable) -> Option<String> {
        match variable {
            Variable::Param(name) => match &self.scope.params.get(&**name)?.kind {
                ParamKind::Integer { minimum, maximum } => bounds(name, *minimum, *maximum),
                ParamKind::Number { minimum, maximum } => bounds(name, *minimum, *maximum),
                ParamKind::String { choices } if !choices.is_empty() => {
                    let choices: Vec<&str> = choices.iter().map(String::as_str).collect();
                    Some(format!("`params.{name}` is one of {}", listed(choices)))
                }
                ParamKind::String { .. } | ParamKind::Boolean => None,
            },
            Variable::Outcome(stage) => match self.scope.stages.known(stage) {
                NameInScope::Before(found) if found.outcomes.len() < Outcome::ALL.len() => {
                    let outcomes: Vec<&str> = found
                        .outcomes
                        .iter()
                        .map(|outcome| outcome.as_str())
                        .collect();
                    Some(format!(
                        "by `run_on`, this stage runs only where `{stage}` ended as {}; say `run_on: [always]` to run after any outcome",
                        outcomes.join(" or ")
                    ))
                }
                _ => None,
            },
            Variable::Cause(CauseField::Kind) => {
                let kinds = self.scope.choices(variable)?;
                Some(format!("`cause.kind` is one of {}", listed(kinds)))
            }
            Variable::Cause(CauseField::Branch) => Some(
                "`cause.branch` is the name without `refs/heads/`, such as `main`; it is empty for a tag".to_owned(),
            ),
            Variable::Cause(CauseField::Commit) => Some(
                "`cause.commit` is a full hash in lower case; write `cause.commit.startsWith(\"…\")` for the beginning of one"
                    .to_owned(),
            ),
            Variable::Cause(_) | Variable::Image(_) | Variable::Metric(..) => None,
        }
    }
}

/// Whether a value can be this text, by what it is.
fn may_be(variable: &Variable, text: &str) -> bool {
    match variable {
        Variable::Cause(CauseField::Commit) => {
            may_begin(variable, text) && [0, SHA1, SHA256].contains(&text.len())
        }
        _ => may_begin(variable, text),
    }
}

/// Whether a value can begin with this text, by what it is.
fn may_begin(variable: &Variable, text: &str) -> bool {
    match variable {
        Variable::Cause(CauseField::Branch) => !["refs/heads/", "refs/tags/"]
            .iter()
            .any(|prefix| text.starts_with(prefix)),
        Variable::Cause(CauseField::Commit) => {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() <= SHA256 && text.bytes().all(is_hex)
        }
        _ => true,
    }
}

/// The lengths of the hashes of commits.
const SHA1: usize = 40;
const SHA256: usize = 64;

fn bounds<T: std::fmt::Display>(name: &str, low: Option<T>, high: Option<T>) -> Option<String> {
    match (low, high) {
        (Some(low), Some(high)) => Some(format!("`params.{name}` is from {low} to {high}")),
        (Some(low), None) => Some(format!("`params.{name}` is at least {low}")),
        (None, Some(high)) => Some(format!("`params.{name}` is at most {high}")),
        (None, None) => None,
    }
}

/// The values that are possible in one of two ways.
fn join<'a>(one: Option<Possible<'a>>, other: Option<Possible<'a>>) -> Option<Possible<'a>> {
    match (one, other) {
        (None, found) | (found, None) => found,
        // A variable that one way leaves as declared is as declared.
        (Some(one), Some(mut other)) => Some(
            one.into_iter()
                .filter_map(|(variable, domain)| {
                    let joined = other.remove(variable)?.union(domain);
                    Some((variable, joined))
                })
                .collect(),
        ),
    }
}
