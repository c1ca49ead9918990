//! What expressions are evaluated over.

use std::collections::BTreeMap;

use minijinja::value::Value;

use crate::name::{MetricName, ParamName, StageName};
use crate::outcome::Outcome;
use crate::param::ParamValue;

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

impl Facts {
    pub(super) fn to_value(&self) -> Value {
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
