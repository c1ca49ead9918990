//! What a DAG declares, in wire types.

use std::collections::BTreeMap;

use serde_json::{Number, Value};
use trainyard_core::dag::DagDraft;
use trainyard_core::gate::GateRule;
use trainyard_core::name::ParamName;
use trainyard_core::overlap::Concurrency;
use trainyard_core::param::{ParamKind, ParamSpec, ParamValue};
use trainyard_core::stage::{ImageSource, Stage};
use trainyard_core::trigger::{Pattern, PushTrigger};

use crate::dag::{ConcurrencyRule, Dag, DagDetail, GateBounds, Param, PushRule, StageOutline};

impl DagDetail {
    /// A DAG as its current version declares it; without its schedules, faults and source.
    #[must_use]
    pub fn declared(summary: Dag, declared: Option<&DagDraft>) -> Self {
        let push = declared.and_then(|dag| dag.triggers.push.as_ref());
        Self {
            summary,
            description: declared.and_then(|dag| dag.description.clone()),
            stages: declared
                .iter()
                .flat_map(|dag| &dag.stages)
                .map(StageOutline::from)
                .collect(),
            params: declared
                .iter()
                .flat_map(|dag| &dag.params)
                .map(Param::from)
                .collect(),
            schedules: Vec::new(),
            starts_on_push: push.is_some(),
            push: push.map(PushRule::from),
            concurrency: declared.and_then(|dag| ConcurrencyRule::of(&dag.concurrency)),
            timeout_seconds: declared
                .and_then(|dag| dag.timeout)
                .map(|timeout| timeout.as_secs_f64()),
            faults: Vec::new(),
            undefined_pools: Vec::new(),
            source: None,
        }
    }
}

impl From<&PushTrigger> for PushRule {
    fn from(push: &PushTrigger) -> Self {
        let texts = |patterns: &[Pattern]| {
            let texts = patterns.iter().map(|pattern| pattern.as_str().to_owned());
            texts.collect()
        };
        Self {
            branches: texts(&push.branches),
            paths: texts(&push.paths),
        }
    }
}

impl ConcurrencyRule {
    /// `None` where there is no limit.
    fn of(rule: &Concurrency) -> Option<Self> {
        Some(Self {
            limit: rule.limit?,
            overlap: rule.overlap.as_str().to_owned(),
            group: rule.group.as_ref().map(|group| group.source().to_owned()),
        })
    }
}

impl From<(&ParamName, &ParamSpec)> for Param {
    fn from((name, spec): (&ParamName, &ParamSpec)) -> Self {
        let (choices, minimum, maximum) = match &spec.kind {
            ParamKind::String { choices } => (choices.clone(), None, None),
            ParamKind::Integer { minimum, maximum } => (
                Vec::new(),
                minimum.map(Number::from),
                maximum.map(Number::from),
            ),
            ParamKind::Number { minimum, maximum } => (
                Vec::new(),
                minimum.and_then(Number::from_f64),
                maximum.and_then(Number::from_f64),
            ),
            ParamKind::Boolean => (Vec::new(), None, None),
        };
        Self {
            name: name.to_string(),
            kind: spec.kind.word().to_owned(),
            default: spec.default.as_ref().map(json_value),
            choices,
            minimum,
            maximum,
            description: spec.description.clone(),
        }
    }
}

impl From<&Stage> for StageOutline {
    fn from(stage: &Stage) -> Self {
        Self {
            name: stage.name.to_string(),
            needs: stage.needs.iter().map(ToString::to_string).collect(),
            image: match &stage.program().image {
                ImageSource::Reference { image, .. } => image.source().to_owned(),
                ImageSource::Build(build) => format!("built from {}", build.context),
            },
            condition: stage
                .condition
                .as_ref()
                .map(|condition| condition.source().to_owned()),
            gate: stage.program().gate.iter().map(GateBounds::from).collect(),
        }
    }
}

impl From<&GateRule> for GateBounds {
    fn from(rule: &GateRule) -> Self {
        Self {
            metric: rule.metric.to_string(),
            min: rule.min,
            max: rule.max,
        }
    }
}

/// Values of parameters as JSON, by name.
#[must_use]
pub fn json_values(values: &BTreeMap<ParamName, ParamValue>) -> BTreeMap<String, Value> {
    let values = values
        .iter()
        .map(|(name, value)| (name.to_string(), json_value(value)));
    values.collect()
}

fn json_value(value: &ParamValue) -> Value {
    match value {
        ParamValue::String(text) => text.clone().into(),
        ParamValue::Integer(number) => (*number).into(),
        ParamValue::Number(number) => (*number).into(),
        ParamValue::Boolean(truth) => (*truth).into(),
    }
}
