//! Run history: the kind, the place and the detail of an event as a row of `run_event`.

use serde_json::{Value, json};
use trainyard_core::Timestamp;
use trainyard_core::event::{Effect, Event};
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, Run, RunPhase, StageState};
use trainyard_core::stage::StageIndex;

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
        Event::RunStarted => plain("run_started"),
        Event::RunSkipped { because_of } => EventRow {
            detail: Some(json!({"because_of": because_of.0})),
            ..plain("run_skipped")
        },
        Event::CancelRequested { by } => EventRow {
            detail: Some(match by {
                CancelledBy::Actor(name) => json!({"actor": name}),
                CancelledBy::Newer(run) => json!({"newer": run.0}),
                CancelledBy::Timeout => json!({"timeout": true}),
            }),
            ..plain("cancel_requested")
        },
        Event::AttemptClaimed(attempt) => of_attempt("attempt_claimed", *attempt, None),
        Event::AttemptReleased(attempt) => of_attempt("attempt_released", *attempt, None),
        Event::AttemptStarted { attempt, image } => of_attempt(
            "attempt_started",
            *attempt,
            image.as_ref().map(|image| json!({"image": image})),
        ),
        Event::TimeoutPassed(attempt) => {
            let why = after
                .attempt(*attempt)
                .and_then(|attempt| attempt.stop.as_ref());
            of_attempt("stop_requested", *attempt, why.map(|(_, why)| reason(why)))
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
                ..of_attempt("attempt_finished", *attempt, detail)
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
        Effect::TimeOutRun => plain("run_timed_out"),
        Effect::QueueAttempt(attempt) => of_attempt("attempt_queued", *attempt, None),
        Effect::BackOff { stage, until } => EventRow {
            stage: Some(place(*stage)),
            detail: Some(json!({"until": until})),
            ..plain("stage_backing_off")
        },
        Effect::RequestStop { attempt, why } => {
            of_attempt("stop_requested", *attempt, Some(reason(why)))
        }
        Effect::WithdrawAttempt { attempt, why } => {
            of_attempt("attempt_withdrawn", *attempt, Some(reason(why)))
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
            ..plain("stage_finished")
        },
        Effect::FinishRun { outcome, reason } => EventRow {
            at: match after.phase {
                RunPhase::Finished { at, .. } => Some(at),
                RunPhase::Queued | RunPhase::Running { .. } => None,
            },
            detail: Some(ended(*outcome, reason.as_ref())),
            ..plain("run_finished")
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

fn ended(outcome: Outcome, reason: Option<&Reason>) -> Value {
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
