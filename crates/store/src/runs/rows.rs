//! Rows of runs, as they are written: as JSON, in which Postgres finds each column by the name of the field.
//!
//! They are passed as an array, since the planner takes an array for few rows. It would take `jsonb_to_recordset` for
//! a hundred, and read whole tables to change one row.

use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use trainyard_core::Timestamp;
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::{
    Attempt, AttemptRef, AttemptState, CancelledBy, Run, RunPhase, StageRun, StageState,
};
use trainyard_core::stage::StageIndex;
use uuid::Uuid;

use crate::db::encoding::event::{number, place};
use crate::db::encoding::reason_columns;
use crate::triggers::dags::PinnedDag;

/// The rows as an array of JSON.
pub(crate) fn docs<R>(rows: impl IntoIterator<Item = R>) -> Vec<Json<R>> {
    rows.into_iter().map(Json).collect()
}

/// How and when something ended; empty if it has not.
#[derive(Debug, Default, Serialize)]
pub(crate) struct EndColumns {
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<&'static str>,
    pub(crate) reason_code: Option<String>,
    pub(crate) reason_message: Option<String>,
}

/// A stage in its current state.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StageRow {
    pub(crate) run: i64,
    pub(crate) position: i32,
    pub(crate) state: &'static str,
    pub(crate) until: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) end: EndColumns,
    pub(crate) image: Option<String>,
}

/// The stage of a new run, with what stays as it is from then on.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NewStageRow<'a> {
    #[serde(flatten)]
    pub(crate) row: StageRow,
    pub(crate) name: &'a str,
    pub(crate) reused_from: Option<i64>,
}

/// An attempt that ended or was asked to stop.
#[derive(Debug, Default, Serialize)]
pub(crate) struct AttemptRow {
    pub(crate) run: i64,
    pub(crate) stage: i32,
    pub(crate) number: i32,
    /// Whether a daemon held it before, and not the queue.
    pub(crate) held: bool,
    #[serde(flatten)]
    pub(crate) end: EndColumns,
    pub(crate) stop_at: Option<Timestamp>,
    pub(crate) stop_code: Option<String>,
    pub(crate) stop_message: Option<String>,
}

/// A new attempt.
#[derive(Debug, Default, Serialize)]
pub(crate) struct QueuedRow {
    pub(crate) id: Uuid,
    pub(crate) repo: Uuid,
    pub(crate) run: i64,
    pub(crate) stage: i32,
    pub(crate) number: i32,
    pub(crate) pools: Option<Value>,
    pub(crate) queued_at: Timestamp,
}

/// A run in its current state.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunRow {
    pub(crate) id: i64,
    pub(crate) phase: &'static str,
    pub(crate) started_at: Option<Timestamp>,
    #[serde(flatten)]
    pub(crate) end: EndColumns,
    pub(crate) cancel_at: Option<Timestamp>,
    pub(crate) cancel_by: Option<&'static str>,
    pub(crate) cancel_actor: Option<String>,
    pub(crate) cancel_newer: Option<i64>,
    pub(crate) cancel_force: bool,
    pub(crate) stages_finished: i32,
    pub(crate) stages_failed: i32,
    pub(crate) wake_at: Option<Timestamp>,
}

impl EndColumns {
    fn new(at: Timestamp, outcome: Outcome, reason: Option<&Reason>) -> Self {
        let (reason_code, reason_message) = reason_columns(reason);
        Self {
            finished_at: Some(at),
            outcome: Some(outcome.as_str()),
            reason_code,
            reason_message,
        }
    }
}

impl StageRow {
    pub(crate) fn new(run: &Run, index: StageIndex) -> Self {
        let stage = &run.stages[index.0];
        let (state, until, end) = match &stage.state {
            StageState::Waiting => ("waiting", None, EndColumns::default()),
            StageState::Active => ("active", None, EndColumns::default()),
            StageState::BackingOff { until } => {
                ("backing_off", Some(*until), EndColumns::default())
            }
            StageState::Finished {
                at,
                outcome,
                reason,
            } => {
                let end = EndColumns::new(*at, *outcome, reason.as_ref());
                ("finished", None, end)
            }
        };
        Self {
            run: run.facts.id.0,
            position: place(index),
            state,
            until,
            end,
            image: stage.image.clone(),
        }
    }
}

impl AttemptRow {
    pub(crate) fn new(run: &Run, reference: AttemptRef, attempt: &Attempt, held: bool) -> Self {
        let end = match &attempt.state {
            AttemptState::Finished {
                at,
                outcome,
                reason,
            } => EndColumns::new(*at, *outcome, reason.as_ref()),
            AttemptState::Queued { .. }
            | AttemptState::Claimed { .. }
            | AttemptState::Running { .. } => EndColumns::default(),
        };
        let (stop_code, stop_message) = reason_columns(attempt.stop.as_ref().map(|(_, why)| why));
        Self {
            run: run.facts.id.0,
            stage: place(reference.stage),
            number: number(reference),
            held,
            end,
            stop_at: attempt.stop.as_ref().map(|(at, _)| *at),
            stop_code,
            stop_message,
        }
    }
}

impl QueuedRow {
    pub(crate) fn new(
        run: &Run,
        reference: AttemptRef,
        pinned: &PinnedDag,
        since: Timestamp,
    ) -> Self {
        let pools = &pinned.dag.stage(reference.stage).program().pools;
        let slots = pools
            .iter()
            .map(|(name, slots)| (name.to_string(), Value::from(*slots)));
        Self {
            id: Uuid::now_v7(),
            repo: pinned.repo.0,
            run: run.facts.id.0,
            stage: place(reference.stage),
            number: number(reference),
            pools: (!pools.is_empty()).then(|| slots.collect()),
            queued_at: since,
        }
    }
}

impl RunRow {
    pub(crate) fn new(run: &Run, wake_at: Option<Timestamp>) -> Self {
        let (phase, started_at, end) = match &run.phase {
            RunPhase::Queued => ("queued", None, EndColumns::default()),
            RunPhase::Running { since } => ("running", Some(*since), EndColumns::default()),
            RunPhase::Finished {
                at,
                outcome,
                reason,
            } => {
                let end = EndColumns::new(*at, *outcome, reason.as_ref());
                ("finished", None, end)
            }
        };
        let cancel = run.cancel.as_ref();
        let (cancel_by, cancel_actor, cancel_newer) = match cancel.map(|cancel| &cancel.by) {
            None => (None, None, None),
            Some(CancelledBy::Actor(name)) => (Some("actor"), Some(name.clone()), None),
            Some(CancelledBy::Newer(run)) => (Some("newer"), None, Some(run.0)),
            Some(CancelledBy::Timeout) => (Some("timeout"), None, None),
        };
        let (mut stages_finished, mut stages_failed) = (0, 0);
        for outcome in run.stages.iter().filter_map(StageRun::outcome) {
            stages_finished += 1;
            stages_failed += i32::from(outcome.is_failure());
        }
        Self {
            id: run.facts.id.0,
            phase,
            started_at,
            end,
            cancel_at: cancel.map(|cancel| cancel.at),
            cancel_by,
            cancel_actor,
            cancel_newer,
            cancel_force: cancel.is_some_and(|cancel| cancel.force),
            stages_finished,
            stages_failed,
            wake_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::db::encoding::event::EventRow;

    fn fields<R: Default + Serialize>() -> BTreeSet<String> {
        let row = serde_json::to_value(R::default()).unwrap();
        row.as_object().unwrap().keys().cloned().collect()
    }

    /// The columns that the statements of a file read, in order.
    fn columns(source: &str) -> Vec<BTreeSet<String>> {
        let lists = source.split("jsonb_to_record(doc) as u (").skip(1);
        let lists = lists.map(|list| list.split(')').next().unwrap_or_default());
        let names = |list: &str| {
            let columns = list
                .split(',')
                .filter_map(|of| of.split_whitespace().next());
            columns.map(ToOwned::to_owned).collect()
        };
        lists.map(names).collect()
    }

    #[test]
    fn the_fields_of_rows_are_the_columns_that_statements_read() {
        let written = [
            fields::<StageRow>(),
            fields::<AttemptRow>(),
            fields::<QueuedRow>(),
            fields::<RunRow>(),
            fields::<EventRow>(),
        ];
        assert_eq!(columns(include_str!("draft.rs")), written);
        assert_eq!(
            columns(include_str!("start.rs")),
            [fields::<NewStageRow<'_>>()]
        );
    }
}
