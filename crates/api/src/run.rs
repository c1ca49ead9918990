//! Runs, stages, attempts, and what they leave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use chrono::{DateTime, Utc};

/// The reason for an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// A stable word: `exit_code`.
    pub code: String,
    /// In words.
    pub message: String,
}

impl From<trainyard_core::outcome::Reason> for Reason {
    fn from(reason: trainyard_core::outcome::Reason) -> Self {
        Self {
            code: reason.code.as_str().to_owned(),
            message: reason.message,
        }
    }
}

/// The cause of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cause {
    /// `schedule`, `push`, `manual` or `retry`.
    pub kind: String,
    /// In words: `push to main by ada`.
    pub summary: String,
    /// The person or token that started it, where known.
    pub actor: Option<String>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// Its DAG, with its repo: `churn/train`.
    pub dag: String,
    /// `queued`, `running`, or its outcome.
    pub state: String,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// Whether it was asked to be cancelled.
    pub cancelling: bool,
    /// Its cause.
    pub cause: Cause,
    /// Its branch.
    pub branch: Option<String>,
    /// Its commit.
    pub commit: String,
    /// The commit's first line.
    pub commit_summary: String,
    /// Its logical time: the moment that it is for.
    pub logical_time: DateTime<Utc>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// How many stages it has.
    pub stages_total: u32,
    /// How many of them ended.
    pub stages_finished: u32,
    /// How many of those failed.
    pub stages_failed: u32,
}

/// A run in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunDetail {
    /// As listings show it.
    #[serde(flatten)]
    pub summary: Run,
    /// Its parameters.
    #[schema(value_type = BTreeMap<String, Object>)]
    pub params: BTreeMap<String, Value>,
    /// Its concurrency group, where its DAG has groups: only runs of the same group wait for or replace each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its stages, in the order of the file.
    pub stages: Vec<Stage>,
}

/// A stage within a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// The stages that it needs.
    pub needs: Vec<String>,
    /// `waiting`, `queued`, `starting`, `running`, `backing_off`, or its outcome.
    pub state: String,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// In one line: what it waits for, or the reason for its state.
    pub why: String,
    /// When its first attempt started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// From the start of its first attempt to its end, or to now.
    pub duration_seconds: Option<f64>,
    /// Its image, by digest where Docker knows one.
    pub image: Option<String>,
    /// The earlier run whose result it reuses.
    pub reused_from: Option<i64>,
    /// The metrics that it reported.
    pub metrics: BTreeMap<String, f64>,
    /// Its attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// Its outputs.
    pub artifacts: Vec<Artifact>,
}

/// One try of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// Warnings about its inputs: that its source tree has Git LFS pointers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its number, from 1.
    pub number: u32,
    /// Its id.
    pub id: String,
    /// `queued`, `starting`, `running`, or its outcome.
    pub state: String,
    /// Why it ended so.
    pub reason: Option<Reason>,
    /// When it began to wait for capacity.
    pub queued_at: DateTime<Utc>,
    /// When its container started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The executor that runs it.
    pub executor: Option<String>,
    /// The host of the daemon that holds it, or held it.
    pub host: Option<String>,
    /// Its container.
    pub container: Option<String>,
    /// How many bytes of log it wrote.
    pub log_bytes: u64,
    /// How many bytes of its text were dropped.
    #[serde(default)]
    pub log_dropped_bytes: u64,
    /// How many lines these are; 0 where that is not known.
    #[serde(default)]
    pub log_dropped_lines: u64,
    /// When retention removed the log, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_removed_at: Option<DateTime<Utc>>,
}

/// An output that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its run.
    pub run: i64,
    /// Its stage.
    pub stage: String,
    /// Its name.
    pub output: String,
    /// `file`, `executable` (a file that may be executed), or `folder` (fetched as a tar archive).
    pub kind: String,
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was kept.
    pub created_at: DateTime<Utc>,
}

/// A number that a stage reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// The run.
    pub run: i64,
    /// Its DAG.
    pub dag: String,
    /// The stage.
    pub stage: String,
    /// The metric's name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The run's commit.
    pub commit: String,
    /// When the run was made.
    pub at: DateTime<Utc>,
}

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// Its position in the history.
    pub id: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The kind. Of the run: `run_started`, `run_skipped`, `cancel_requested`, `run_timed_out`, `run_held_back`
    /// (quarantined), `run_released`, `run_finished`; of a stage: `stage_backing_off`, `stage_finished`; of an
    /// attempt: `attempt_queued`, `attempt_claimed`, `attempt_released`, `attempt_adopted` (by another daemon),
    /// `attempt_started`, `stop_requested`, `attempt_withdrawn`, `attempt_finished`. Later versions may add kinds.
    pub kind: String,
    /// The stage.
    pub stage: Option<String>,
    /// The attempt's number.
    pub attempt: Option<u32>,
    /// Details: of an end `outcome`, and `code` and `message` where there is a reason; of a stop request these two;
    /// of an adoption `daemon` and `from` (their ids), `host` and `from_host`; of a quarantine `place`; else `image`,
    /// `until`, `because_of` (a run), `actor`, `newer` (a run), `timeout`.
    #[schema(value_type = Option<Object>)]
    pub detail: Option<Value>,
}

/// Filters for a list of runs, the newest first. A run must match all that are given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunSelection {
    /// Of this DAG: `REPO/NAME` or `NAME`.
    pub dag: Option<String>,
    /// Of DAGs of this repo.
    pub repo: Option<String>,
    /// Of this branch.
    pub branch: Option<String>,
    /// Of the commit whose hash begins so.
    pub commit: Option<String>,
    /// In one of these states; empty allows any.
    pub states: Vec<String>,
    /// Created at this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Older than this run: for the next page.
    pub before: Option<i64>,
    /// At most this many; 50 without it.
    pub limit: Option<u32>,
}

/// Filters for a list of metrics, those of the newest runs first. A metric must match all that are given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MetricSelection {
    /// Of this run.
    pub run: Option<i64>,
    /// Of this DAG: `REPO/NAME` or `NAME`.
    pub dag: Option<String>,
    /// Of stages of this name.
    pub stage: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// At most this many; 200 without it.
    pub limit: Option<u32>,
}

/// A run that a request started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunStarted {
    /// Its number.
    pub id: i64,
    /// Whether an earlier request with the same key had started it.
    pub existed: bool,
    /// Its commit, as a full hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Its branch; none of a tag or a commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Notes for the caller: which results it reuses, that its branch has a newer commit, that the remote could not
    /// be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its state: `queued` where it waits for other runs, `running`, or its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What it waits for, or why it ended at once, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A request to cancel the unfinished runs of a repo, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelRuns {
    /// Only those of this DAG, by its name in the repo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dag: Option<String>,
    /// Only those older than this run: to continue after an answer with `more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
}

/// The runs that were asked to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct RunsCancelled {
    /// Their numbers, the newest first.
    pub runs: Vec<i64>,
    /// Whether older ones are left: ask again, with the last number as `before`.
    pub more: bool,
}

/// A request to retry an earlier run: all of it, or from some stage on; at its own commit, or at another one.
///
/// At another commit the run is resumed: it reuses the results of stages that succeeded and whose definition has not
/// changed, as with `from_failed`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[schema(as = Retry)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// Only the stages that did not succeed, and all after them.
    #[serde(default)]
    pub from_failed: bool,
    /// This stage and all after it, and the stages before it that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// At this branch, tag or commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// At the newest commit of the run's branch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub latest: bool,
    /// An idempotency key: a second request with the same key starts no second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
}
