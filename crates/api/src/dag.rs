//! DAGs, their schedules and faults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use chrono::{DateTime, Utc};

/// A DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Dag {
    /// Its name, with its repo's: `churn/train`.
    pub dag: String,
    /// Its repo's name.
    pub repo: String,
    /// Its own name.
    pub name: String,
    /// The file's path in the repo.
    pub path: String,
    /// Whether its triggers are paused.
    pub paused: bool,
    /// The commit of its current version; none once the followed branch no longer has the DAG.
    pub commit: Option<String>,
    /// Whether its file has faults at the head of the followed branch.
    pub has_faults: bool,
    /// The format of its version, where it is a later one than this daemon reads: newer daemons run the DAG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub later_format: Option<u32>,
    /// Since when its repo's syncs have failed: later pushes are not seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_failing_since: Option<DateTime<Utc>>,
    /// When it ticks next.
    pub next_tick: Option<DateTime<Utc>>,
    /// Its newest run.
    pub last_run: Option<LastRun>,
    /// How many of its runs have not ended.
    pub active_runs: u32,
}

/// A DAG's newest run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastRun {
    /// Its number.
    pub id: i64,
    /// Its state.
    pub state: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A DAG in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DagDetail {
    /// As listings show it.
    #[serde(flatten)]
    pub summary: Dag,
    /// For people.
    pub description: Option<String>,
    /// Its stages, in the order of the file.
    pub stages: Vec<StageOutline>,
    /// Its parameters.
    pub params: Vec<Param>,
    /// Its schedules.
    pub schedules: Vec<Schedule>,
    /// Whether pushes start it.
    pub starts_on_push: bool,
    /// The pushes that start it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushRule>,
    /// How many of its runs may be active, where there is a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyRule>,
    /// How long a run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<f64>,
    /// Faults of its file at heads of branches.
    pub faults: Vec<Fault>,
    /// Pools that its stages name and this daemon does not define: these stages wait for ever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undefined_pools: Vec<String>,
    /// Pools of which a stage takes more slots than this daemon gives them: it waits for ever.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub small_pools: Vec<SmallPool>,
    /// The text of its current version.
    pub source: Option<String>,
}

/// A pool with fewer slots than a stage takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SmallPool {
    /// Its name.
    pub pool: String,
    /// How many slots it has.
    pub slots: u32,
    /// The most that a stage takes.
    pub wanted: u32,
}

/// The value of a parameter, in the document of the API. The types have any JSON in its place, and are checked against
/// the DAG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum ParamJson {
    Text(String),
    Number(f64),
    Boolean(bool),
}

/// The pushes that start a DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushRule {
    /// Patterns of branches; empty is the repo's followed branch.
    pub branches: Vec<String>,
    /// Patterns of paths, one of which a push has to change; empty is any.
    pub paths: Vec<String>,
}

/// How many runs of a DAG may be active, and what happens to a further one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConcurrencyRule {
    /// The most active runs, of each group where there are groups.
    pub limit: u32,
    /// `queue`, `skip` or `cancel_running`.
    pub overlap: String,
    /// The expression whose value makes the groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// A condition on a metric of a stage, for the stages after it. Bounds are inclusive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GateBounds {
    /// The metric.
    pub metric: String,
    /// The smallest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value that passes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A stage as the DAG declares it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageOutline {
    /// Its name.
    pub name: String,
    /// The stages that it needs.
    pub needs: Vec<String>,
    /// Its image as written, or what it is built from.
    pub image: String,
    /// The expression that must hold for it to run.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Bounds on its metrics that must hold for the stages after it to run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gate: Vec<GateBounds>,
}

/// A declared parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Param {
    /// Its name.
    pub name: String,
    /// Its type: `integer`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its default; without one, the parameter is required.
    #[schema(value_type = Option<ParamJson>)]
    pub default: Option<Value>,
    /// The allowed values; empty allows any of its type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The smallest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub minimum: Option<serde_json::Number>,
    /// The largest allowed value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub maximum: Option<serde_json::Number>,
    /// For people.
    pub description: Option<String>,
}

/// A schedule of a DAG.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub timezone: String,
    /// The rule for missed ticks.
    pub missed: String,
    /// The parameters that it gives its runs; the others have their defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, ParamJson>)]
    pub params: BTreeMap<String, Value>,
    /// When it ticks next.
    pub next_tick: Option<DateTime<Utc>>,
}

/// A DAG file with faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// Its repo.
    pub repo: String,
    /// A branch whose head has it: the followed one, if it does.
    pub branch: String,
    /// All branches at this commit, in the same order.
    #[serde(default)]
    pub branches: Vec<String>,
    /// The commit.
    pub commit: String,
    /// The file's path.
    pub path: String,
    /// Its diagnostics: objects with `severity`, `code`, `message`, `help`, `line`, `column`.
    #[schema(value_type = Vec<Object>)]
    pub diagnostics: Value,
}

/// A request to start a DAG by hand.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Parameters: JSON of their type, or text that is parsed as that type.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, ParamJson>)]
    pub params: BTreeMap<String, Value>,
    /// A branch, tag or commit; the followed branch without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// An idempotency key: a second request with the same key starts no second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}

/// Whether triggers are paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Whether they are.
    pub paused: bool,
}

/// A tick to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tick {
    /// When, in UTC.
    pub at: DateTime<Utc>,
    /// When, in the schedule's time zone: `2026-11-29 03:00 CET`.
    pub local: String,
    /// The cron expression.
    pub cron: String,
    /// The time zone.
    pub timezone: String,
    /// A note where a change of the clock moves or repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}
