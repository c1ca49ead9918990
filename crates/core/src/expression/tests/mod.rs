//! The promises of expressions: their meaning, their refusals, and their cost.

mod class_18_expressions_cost_little;
mod generate;
mod meaning;
mod second_opinion;
mod verdicts;
mod wrong_words;

use std::collections::BTreeMap;

use super::*;
use crate::dag::{Guesses, Names};
use crate::name::{MetricName, ParamName, StageName};
use crate::outcome::Outcome;
use crate::param::{ParamKind, ParamSpec, ParamValue};

/// A small DAG as its expressions see it: stage `train` with metrics, `train-2` without.
struct Declared {
    params: BTreeMap<ParamName, ParamSpec>,
    outcomes: Vec<Outcome>,
}

impl Stages for Declared {
    fn known(&self, name: &str) -> NameInScope {
        match name {
            "train" | "train-2" => NameInScope::Before(StageScope {
                has_metrics: name == "train",
                outcomes: self.outcomes.clone(),
            }),
            "report" => NameInScope::NotBefore,
            _ => NameInScope::Nowhere,
        }
    }

    fn before(&self) -> Vec<&str> {
        vec!["train", "train-2"]
    }
}

fn declared() -> Declared {
    let spec = |kind| ParamSpec {
        kind,
        default: None,
        description: None,
    };
    let params = [
        (
            "n",
            ParamKind::Integer {
                minimum: Some(1),
                maximum: Some(3),
            },
        ),
        (
            "count",
            ParamKind::Integer {
                minimum: None,
                maximum: None,
            },
        ),
        (
            "rate",
            ParamKind::Number {
                minimum: Some(0.0),
                maximum: Some(1.0),
            },
        ),
        ("force", ParamKind::Boolean),
        ("text", ParamKind::String { choices: vec![] }),
        (
            "target",
            ParamKind::String {
                choices: vec!["staging".to_owned(), "production".to_owned()],
            },
        ),
    ];
    Declared {
        params: params
            .into_iter()
            .map(|(name, kind)| (ParamName::new(name).unwrap(), spec(kind)))
            .collect(),
        outcomes: Outcome::ALL.to_vec(),
    }
}

impl Declared {
    fn check<T>(&self, check: impl FnOnce(&ExpressionScope<'_>) -> T) -> T {
        check(&ExpressionScope {
            params: &self.params,
            unread_params: &Names::default(),
            stages: self,
            guesses: &Guesses::default(),
            work: &Work::default(),
        })
    }
}

fn facts() -> Facts {
    let stage = |outcome, metrics: &[(&str, f64)], image: Option<&str>| StageFacts {
        outcome,
        metrics: metrics
            .iter()
            .map(|(name, number)| (MetricName::new(*name).unwrap(), *number))
            .collect(),
        image: image.map(ToOwned::to_owned),
    };
    let params = [
        ("n", ParamValue::Integer(3)),
        ("count", ParamValue::Integer(-7)),
        ("rate", ParamValue::Number(0.25)),
        ("force", ParamValue::Boolean(true)),
        ("text", ParamValue::String("a b".to_owned())),
        ("target", ParamValue::String("production".to_owned())),
    ];
    Facts {
        params: params
            .into_iter()
            .map(|(name, value)| (ParamName::new(name).unwrap(), value))
            .collect(),
        cause: "push".to_owned(),
        branch: "main".to_owned(),
        commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        logical_time: "2026-11-23T03:00:00Z".to_owned(),
        stages: BTreeMap::from([
            (
                StageName::new("train").unwrap(),
                stage(
                    Outcome::Succeeded,
                    &[("auc", 0.96), ("val/auc", 0.9)],
                    Some("sha256:1"),
                ),
            ),
            (
                StageName::new("train-2").unwrap(),
                stage(Outcome::Skipped, &[], None),
            ),
        ]),
    }
}

/// The first fault of a condition: of its syntax, or else against what is declared.
fn fault(text: &str) -> Option<ExpressionFault> {
    match Condition::parse(text) {
        Err(fault) => Some(fault),
        Ok(condition) => declared().check(|scope| condition.faults(scope).into_iter().next()),
    }
}
