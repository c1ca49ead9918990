//! The names that the expressions of one stage may use, as the DAG declares them.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::syntax::{CauseField, Variable};
use crate::dag::{Guesses, Names};
use crate::name::ParamName;
use crate::outcome::Outcome;
use crate::param::{ParamKind, ParamSpec};

/// The work that the search for conditions that never hold may take, for all expressions of one DAG.
const WORK_AT_MOST: usize = 2_000_000;

/// The kinds of causes, as expressions see them.
const CAUSE_KINDS: [&str; 4] = ["schedule", "push", "manual", "retry"];

/// What the DAG says about a stage's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameInScope {
    /// No stage has it.
    Nowhere,
    /// It is the stage that the expression belongs to.
    Itself,
    /// A stage has it that need not have ended when the expression is evaluated.
    NotBefore,
    /// The stage has ended by then.
    Before(StageScope),
}

/// The declarations of a stage that comes before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageScope {
    pub has_metrics: bool,
    /// How it may have ended where the expression is evaluated.
    pub outcomes: Vec<Outcome>,
}

/// The stages of a DAG, seen from one of them.
pub trait Stages {
    /// The standing of a stage, by its name.
    fn known(&self, name: &str) -> NameInScope;

    /// The names of those that have ended before, to suggest the one that was meant.
    fn before(&self) -> Vec<&str>;
}

/// The names that an expression of one stage may use, and their types.
pub struct ExpressionScope<'a> {
    pub params: &'a BTreeMap<ParamName, ParamSpec>,
    /// Parameters whose declaration is wrong: they may have any type.
    pub unread_params: &'a Names,
    pub stages: &'a dyn Stages,
    /// The budget for suggesting names.
    pub guesses: &'a Guesses,
    /// The budget for finding conditions that never hold.
    pub work: &'a Work,
}

/// A budget of steps that all expressions of a DAG share. Once it is spent, no further condition is reported as one
/// that never holds; all other checks go on.
#[derive(Debug)]
pub struct Work(Cell<usize>);

impl Default for Work {
    fn default() -> Self {
        Self(Cell::new(WORK_AT_MOST))
    }
}

impl Work {
    /// Takes this many steps; false where fewer are left.
    pub(super) fn spend(&self, steps: usize) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(steps));
        left >= steps
    }
}

/// A value's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Boolean,
    Integer,
    Double,
    Text,
}

impl Type {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Double => "a number",
            Self::Text => "a text",
        }
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Double)
    }
}

impl ExpressionScope<'_> {
    /// The type of a value of the run; a text where it is not declared, which is a fault of its own.
    pub(super) fn type_of(&self, variable: &Variable) -> Type {
        match variable {
            Variable::Param(name) => match self.params.get(&**name).map(|spec| &spec.kind) {
                Some(ParamKind::Boolean) => Type::Boolean,
                Some(ParamKind::Integer { .. }) => Type::Integer,
                Some(ParamKind::Number { .. }) => Type::Double,
                Some(ParamKind::String { .. }) | None => Type::Text,
            },
            Variable::Cause(_) | Variable::Outcome(_) | Variable::Image(_) => Type::Text,
            Variable::Metric(..) => Type::Double,
        }
    }

    /// The texts that a value may be, where they are declared.
    pub(super) fn choices(&self, variable: &Variable) -> Option<Vec<&str>> {
        match variable {
            Variable::Param(name) => match self.params.get(&**name).map(|spec| &spec.kind) {
                Some(ParamKind::String { choices }) if !choices.is_empty() => {
                    Some(choices.iter().map(String::as_str).collect())
                }
                _ => None,
            },
            Variable::Cause(CauseField::Kind) => Some(CAUSE_KINDS.to_vec()),
            Variable::Outcome(_) => Some(Outcome::ALL.map(Outcome::as_str).to_vec()),
            Variable::Cause(_) | Variable::Image(_) | Variable::Metric(..) => None,
        }
    }
}
