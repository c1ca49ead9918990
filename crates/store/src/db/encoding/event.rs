//! Run history: the kind, the place and the detail of an event as a row of `run_event`.

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

/// A row of `run_event`, without the run.
#[derive(Debug)]
pub(crate) struct EventRow {
    /// When it happened, if not when it was recorded.
    pub(crate) at: Option<Timestamp>,
    pub(crate) kind: &'static str,
    pub(crate) stage: Option<i32>,
    pub(crate) attempt: Option<i32>,
    pub(crate) detail: Option<Value>,
}

/// The row of an applied event; `after` is the run's state after it.
pub(crate) fn event_row(event: &Event, after: &Run) -> EventRow {
    let plain = |kind| EventRow {
        at: None,
        kind,
        stage: None,
        attempt: None,
        detail: None,
    };
    match event {
        Event::RunStarted => plain(kind::RUN_STARTED),
        Event::RunSkipped { because_of } => EventRow {
            detail: Some(json!({"because_of": because_of.0})),
            ..plain(kind::RUN_SKIPPED)
        },
        Event::CancelRequested { by } => EventRow {
            detail: Some(match by {
                CancelledBy::Actor(name) => json!({"actor": name}),
                CancelledBy::Newer(run) => json!({"newer": run.0}),
                CancelledBy::Timeout => json!({"timeout": true}),
            }),
            ..plain(kind::CANCEL_REQUESTED)
        },
        Event::AttemptClaimed(attempt) => of_attempt(kind::ATTEMPT_CLAIMED, *attempt, None),
        Event::AttemptReleased(attempt) => of_attempt(kind::ATTEMPT_RELEASED, *attempt, None),
        Event::AttemptStarted { attempt, image } => of_attempt(
            kind::ATTEMPT_STARTED,
            *attempt,
            image.as_ref().map(|image| json!({"image": image})),
        ),
        Event::TimeoutPassed(attempt) => {
            let why = after
                .attempt(*attempt)
                .and_then(|attempt| attempt.stop.as_ref());
            of_attempt(
                kind::STOP_REQUESTED,
                *attempt,
                why.map(|(_, why)| reason(why)),
            )
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
            EventRow {
                at,
                ..of_attempt(kind::ATTEMPT_FINISHED, *attempt, detail)
            }
        }
        Event::Planned(effect) => effect_row(effect, after),
    }
}

fn effect_row(effect: &Effect, after: &Run) -> EventRow {
    let plain = |kind| EventRow {
        at: None,
        kind,
        stage: None,
        attempt: None,
        detail: None,
    };
    match effect {
        Effect::TimeOutRun => plain(kind::RUN_TIMED_OUT),
        Effect::QueueAttempt(attempt) => of_attempt(kind::ATTEMPT_QUEUED, *attempt, None),
        Effect::BackOff { stage, until } => EventRow {
            stage: Some(place(*stage)),
            detail: Some(json!({"until": until})),
            ..plain(kind::STAGE_BACKING_OFF)
        },
        Effect::RequestStop { attempt, why } => {
            of_attempt(kind::STOP_REQUESTED, *attempt, Some(reason(why)))
        }
        Effect::WithdrawAttempt { attempt, why } => {
            of_attempt(kind::ATTEMPT_WITHDRAWN, *attempt, Some(reason(why)))
        }
        Effect::FinishStage {
            stage,
            outcome,
            reason,
        } => EventRow {
            at: match after.stages.get(stage.0).map(|stage| &stage.state) {
                Some(StageState::Finished { at, .. }) => Some(*at),
                _ => None,
            },
            stage: Some(place(*stage)),
            detail: Some(ended(*outcome, reason.as_ref())),
            ..plain(kind::STAGE_FINISHED)
        },
        Effect::FinishRun { outcome, reason } => EventRow {
            at: match after.phase {
                RunPhase::Finished { at, .. } => Some(at),
                RunPhase::Queued | RunPhase::Running { .. } => None,
            },
            detail: Some(ended(*outcome, reason.as_ref())),
            ..plain(kind::RUN_FINISHED)
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

fn of_attempt(kind: &'static str, attempt: AttemptRef, detail: Option<Value>) -> EventRow {
    EventRow {
        at: None,
        kind,
        stage: Some(place(attempt.stage)),
        attempt: Some(number(attempt)),
        detail,
    }
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

fn reason(reason: &Reason) -> Value {
    json!({"code": reason.code.as_str(), "message": reason.message})
}
