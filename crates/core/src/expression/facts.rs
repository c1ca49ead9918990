//! The values that expressions are evaluated over.

use std::collections::BTreeMap;

use crate::name::{MetricName, ParamName, StageName};
use crate::outcome::Outcome;
use crate::param::ParamValue;

/// The values that an expression is evaluated over.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub params: BTreeMap<ParamName, ParamValue>,
    /// The kind of the run's cause: `schedule`, `push`, `manual` or `retry`.
    pub cause: String,
    /// The branch, empty where there is none.
    pub branch: String,
    /// The commit's full hash, empty where there is none.
    pub commit: String,
    /// The moment that the run is for, RFC 3339 in UTC.
    pub logical_time: String,
    pub stages: BTreeMap<StageName, StageFacts>,
}

/// The facts of a stage that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFacts {
    pub outcome: Outcome,
    pub metrics: BTreeMap<MetricName, f64>,
    /// The image that it ran in; `None` where it did not run.
    pub image: Option<String>,
}
