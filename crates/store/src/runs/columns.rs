//! Rows to be written, in columns: Postgres takes them as arrays.

use serde_json::Value;
use trainyard_core::Timestamp;
use trainyard_core::run::{Run, StageState};
use trainyard_core::stage::StageIndex;
use uuid::Uuid;

use crate::db::encoding::event::place;
use crate::db::encoding::reason_columns;

#[derive(Debug, Default)]
pub(crate) struct StageColumns {
    pub(crate) run: Vec<i64>,
    pub(crate) position: Vec<i32>,
    pub(crate) state: Vec<String>,
    pub(crate) until: Vec<Option<Timestamp>>,
    pub(crate) outcome: Vec<Option<String>>,
    pub(crate) reason_code: Vec<Option<String>>,
    pub(crate) reason_message: Vec<Option<String>>,
    pub(crate) finished_at: Vec<Option<Timestamp>>,
    pub(crate) image: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct AttemptColumns {
    pub(crate) run: Vec<i64>,
    pub(crate) stage: Vec<i32>,
    pub(crate) number: Vec<i32>,
    pub(crate) held: Vec<bool>,
    pub(crate) finished_at: Vec<Option<Timestamp>>,
    pub(crate) outcome: Vec<Option<String>>,
    pub(crate) reason_code: Vec<Option<String>>,
    pub(crate) reason_message: Vec<Option<String>>,
    pub(crate) stop_at: Vec<Option<Timestamp>>,
    pub(crate) stop_code: Vec<Option<String>>,
    pub(crate) stop_message: Vec<Option<String>>,
}

#[derive(Debug, Default)]
pub(crate) struct QueuedColumns {
    pub(crate) id: Vec<Uuid>,
    pub(crate) repo: Vec<Uuid>,
    pub(crate) run: Vec<i64>,
    pub(crate) stage: Vec<i32>,
    pub(crate) number: Vec<i32>,
    pub(crate) pools: Vec<Option<Value>>,
    pub(crate) queued_at: Vec<Timestamp>,
}

#[derive(Debug, Default)]
pub(crate) struct RunColumns {
    pub(crate) id: Vec<i64>,
    pub(crate) phase: Vec<String>,
    pub(crate) started_at: Vec<Option<Timestamp>>,
    pub(crate) finished_at: Vec<Option<Timestamp>>,
    pub(crate) outcome: Vec<Option<String>>,
    pub(crate) reason_code: Vec<Option<String>>,
    pub(crate) reason_message: Vec<Option<String>>,
    pub(crate) cancel_at: Vec<Option<Timestamp>>,
    pub(crate) cancel_by: Vec<Option<String>>,
    pub(crate) cancel_actor: Vec<Option<String>>,
    pub(crate) cancel_newer: Vec<Option<i64>>,
    pub(crate) cancel_force: Vec<bool>,
    pub(crate) stages_finished: Vec<i32>,
    pub(crate) stages_failed: Vec<i32>,
    pub(crate) wake_at: Vec<Option<Timestamp>>,
}

#[derive(Debug, Default)]
pub(crate) struct EventColumns {
    pub(crate) run: Vec<i64>,
    pub(crate) at: Vec<Timestamp>,
    pub(crate) kind: Vec<String>,
    pub(crate) stage: Vec<Option<i32>>,
    pub(crate) attempt: Vec<Option<i32>>,
    pub(crate) detail: Vec<Option<Value>>,
}

impl StageColumns {
    /// Adds a stage's row in its current state.
    pub(crate) fn add(&mut self, run: &Run, index: StageIndex) {
        let stage = &run.stages[index.0];
        self.run.push(run.facts.id.0);
        self.position.push(place(index));
        self.image.push(stage.image.clone());
        let (state, until, ended) = match &stage.state {
            StageState::Waiting => ("waiting", None, None),
            StageState::Active => ("active", None, None),
            StageState::BackingOff { until } => ("backing_off", Some(*until), None),
            StageState::Finished {
                at,
                outcome,
                reason,
            } => ("finished", None, Some((*at, *outcome, reason))),
        };
        self.state.push(state.to_owned());
        self.until.push(until);
        self.finished_at.push(ended.map(|(at, ..)| at));
        self.outcome
            .push(ended.map(|(_, outcome, _)| outcome.as_str().to_owned()));
        let (code, message) = reason_columns(ended.and_then(|(.., reason)| reason.as_ref()));
        self.reason_code.push(code);
        self.reason_message.push(message);
    }
}
