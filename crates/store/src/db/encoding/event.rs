//! Run history: the kind, the place and the detail of an event as a row of `run_event`.

use serde::Serialize;
use serde_json::{Value, json};
use trainyard_core::Timestamp;
use trainyard_core::event::{Effect, Event};
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, Run, RunPhase, StageState};
use trainyard_core::stage::StageIndex;

/// The words of `run_event.kind`.
pub(crate) mod kind {
    pub(crate) const RUN_STARTED: &str = "run_started";
    pub(crate) const RUN_SKIPPED: &str = "run_skipped";
    pub(crate) const CANCEL_REQUESTED: &str = "cancel_requested";
    pub(crate) const RUN_TIMED_OUT: &str = "run_timed_out";
    pub(crate) const RUN_FINISHED: &str = "run_finished";
    pub(crate) const RUN_HELD_BACK: &str = "run_held_back";
    pub(crate) const RUN_RELEASED: &str = "run_released";
    pub(crate) const ATTEMPT_QUEUED: &str = "attempt_queued";
    pub(crate) const ATTEMPT_CLAIMED: &str = "attempt_claimed";
    pub(crate) const ATTEMPT_ADOPTED: &str = "attempt_adopted";
    pub(crate) const ATTEMPT_RELEASED: &str = "attempt_released";
    pub(crate) const ATTEMPT_STARTED: &str = "attempt_started";
    pub(crate) const STOP_REQUESTED: &str = "stop_requested";
    pub(crate) const ATTEMPT_WITHDRAWN: &str = "attempt_withdrawn";
    pub(crate) const ATTEMPT_FINISHED: &str = "attempt_finished";
    pub(crate) const STAGE_BACKING_OFF: &str = "stage_backing_off";
    pub(crate) const STAGE_FINISHED: &str = "stage_finished";
}

/// A row of `run_event`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct EventRow {
    pub(crate) run: i64,
    pub(crate) at: Timestamp,
    pub(crate) kind: &'static str,
    pub(crate) stage: Option<i32>,
    pub(crate) attempt: Option<i32>,
    pub(crate) detail: Option<Value>,
}

impl EventRow {
    fn of(self, attempt: AttemptRef) -> Self {
        Self {
            stage: Some(place(attempt.stage)),
            attempt: Some(number(attempt)),
            ..self
        }
    }

    fn of_stage(self, stage: StageIndex) -> Self {
        Self {
            stage: Some(place(stage)),
            ..self
        }
    }

    /// When it happened, if that is known and not when it was recorded.
    fn at(self, at: Option<Timestamp>) -> Self {
        Self {
            at: at.unwrap_or(self.at),
            ..self
        }
    }

    fn with(self, detail: impl Into<Option<Value>>) -> Self {
        Self {
            detail: detail.into(),
            ..self
        }
    }
}

/// The row of an applied event; `after` is the run's state after it.
pub(crate) fn event_row(event: &Event, after: &Run, now: Timestamp) -> EventRow {
    let row = |kind| EventRow {
        run: after.facts.id.0,
        at: now,
        kind,
        stage: None,
        attempt: None,
        detail: None,
    };
    match event {
        Event::RunStarted => row(kind::RUN_STARTED),
        Event::RunSkipped { because_of } => {
            row(kind::RUN_SKIPPED).with(json!({"because_of": because_of.0}))
        }
        Event::CancelRequested { by } => row(kind::CANCEL_REQUESTED).with(match by {
            CancelledBy::Actor(name) => json!({"actor": name}),
            CancelledBy::Newer(run) => json!({"newer": run.0}),
            CancelledBy::Timeout => json!({"timeout": true}),
        }),
        Event::AttemptClaimed(attempt) => row(kind::ATTEMPT_CLAIMED).of(*attempt),
        Event::AttemptReleased(attempt) => row(kind::ATTEMPT_RELEASED).of(*attempt),
        Event::AttemptStarted { attempt, image } => {
            let detail = image.as_ref().map(|image| json!({"image": image}));
            row(kind::ATTEMPT_STARTED).of(*attempt).with(detail)
        }
        Event::TimeoutPassed(attempt) => {
            let stop = after.attempt(*attempt).and_then(|of| of.stop.as_ref());
            let detail = stop.map(|(_, why)| reason_doc(why));
            row(kind::STOP_REQUESTED).of(*attempt).with(detail)
        }
        Event::AttemptFinished { attempt, .. } | Event::AttemptAbandoned { attempt, .. } => {
            // The meaning and the time of the end are in the state, not in the event.
            let (at, detail) = match after.attempt(*attempt).map(|attempt| &attempt.state) {
                Some(AttemptState::Finished {
                    at,
                    outcome,
                    reason,
                }) => (Some(*at), Some(ended(*outcome, reason.as_ref()))),
                _ => (None, None),
            };
            let row = row(kind::ATTEMPT_FINISHED).of(*attempt);
            row.at(at).with(detail)
        }
        Event::Planned(effect) => match effect {
            Effect::TimeOutRun => row(kind::RUN_TIMED_OUT),
            Effect::QueueAttempt(attempt) => row(kind::ATTEMPT_QUEUED).of(*attempt),
            Effect::BackOff { stage, until } => {
                let row = row(kind::STAGE_BACKING_OFF).of_stage(*stage);
                row.with(json!({"until": until}))
            }
            Effect::RequestStop { attempt, why } => {
                let row = row(kind::STOP_REQUESTED).of(*attempt);
                row.with(reason_doc(why))
            }
            Effect::WithdrawAttempt { attempt, why } => {
                let row = row(kind::ATTEMPT_WITHDRAWN).of(*attempt);
                row.with(reason_doc(why))
            }
            Effect::FinishStage {
                stage,
                outcome,
                reason,
            } => {
                let at = match after.stages.get(stage.0).map(|stage| &stage.state) {
                    Some(StageState::Finished { at, .. }) => Some(*at),
                    _ => None,
                };
                let row = row(kind::STAGE_FINISHED).of_stage(*stage);
                row.at(at).with(ended(*outcome, reason.as_ref()))
            }
            Effect::FinishRun { outcome, reason } => {
                let at = match after.phase {
                    RunPhase::Finished { at, .. } => Some(at),
                    RunPhase::Queued | RunPhase::Running { .. } => None,
                };
                let row = row(kind::RUN_FINISHED).at(at);
                row.with(ended(*outcome, reason.as_ref()))
            }
        },
    }
}

/// A stage's place as a column holds it. No DAG has so many stages that it would not fit.
pub(crate) fn place(stage: StageIndex) -> i32 {
    i32::try_from(stage.0).unwrap_or(i32::MAX)
}

/// An attempt's number as a column holds it.
pub(crate) fn number(attempt: AttemptRef) -> i32 {
    i32::try_from(attempt.number).unwrap_or(i32::MAX)
}

/// The detail of an end.
pub(crate) fn ended(outcome: Outcome, reason: Option<&Reason>) -> Value {
    match reason {
        None => json!({"outcome": outcome.as_str()}),
        Some(reason) => json!({
            "outcome": outcome.as_str(),
            "code": reason.code.as_str(),
            "message": reason.message,
        }),
    }
}

fn reason_doc(reason: &Reason) -> Value {
    json!({"code": reason.code.as_str(), "message": reason.message})
}
