//! `apply`: what an event does to the state of a run. The only place where that state changes.
//!
//! An event that does not fit the state is refused as a value and changes nothing: facts arrive
//! late, twice and out of order, and whoever brings them drops what is refused.

use thiserror::Error;

use crate::Timestamp;
use crate::dag::Dag;
use crate::event::{AttemptEnd, Effect, Ending, Event};
use crate::gate;
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::plan::{Plan, plan};
use crate::run::{
    Attempt, AttemptRef, AttemptState, Cancel, CancelledBy, Run, RunPhase, StageState,
};
use crate::stage::Stage;

/// An event that does not fit the state it met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {why}")]
pub struct Illegal {
    /// The event, in words.
    pub what: String,
    /// What it met, in words: `but the run has finished`.
    pub why: &'static str,
}

/// Records what happened.
///
/// # Errors
/// The event does not fit the state; `run` is as it was.
pub fn apply(dag: &Dag, run: &mut Run, event: &Event, now: Timestamp) -> Result<(), Illegal> {
    let illegal = |what: &str, why| {
        Err(Illegal {
            what: what.to_owned(),
            why,
        })
    };
    if run.is_finished() {
        return illegal(name_of(event), "but the run has finished");
    }
    match event {
        Event::RunStarted => {
            if run.phase != RunPhase::Queued {
                return illegal("run started", "but it was not queued");
            }
            run.phase = RunPhase::Running { since: now };
            Ok(())
        }
        Event::RunSkipped { because_of } => {
            if run.phase != RunPhase::Queued {
                return illegal("run skipped", "but it was not queued");
            }
            let message = format!("run {because_of} of the same DAG was in its way");
            let reason = Some(Reason::new(ReasonCode::Overlap, message));
            let outcome = Outcome::Skipped;
            for stage in &mut run.stages {
                if stage.outcome().is_none() {
                    stage.state = StageState::Finished {
                        at: now,
                        outcome,
                        reason: reason.clone(),
                    };
                }
            }
            run.phase = RunPhase::Finished {
                at: now,
                outcome,
                reason,
            };
            Ok(())
        }
        Event::CancelRequested { by } => {
            match &mut run.cancel {
                None => {
                    run.cancel = Some(Cancel {
                        at: now,
                        by: by.clone(),
                        force: false,
                    })
                }
                Some(cancel) => {
                    // Only a person's second request forces; a second newer run does not.
                    cancel.force |= matches!(by, CancelledBy::Actor(_));
                }
            }
            Ok(())
        }
        Event::AttemptClaimed(reference) => {
            let attempt = attempt_mut(run, *reference)?;
            match attempt.state {
                AttemptState::Queued { .. } => {
                    attempt.state = AttemptState::Claimed { since: now };
                    Ok(())
                }
                _ => illegal("attempt claimed", "but it was not queued"),
            }
        }
        Event::AttemptReleased(reference) => {
            let attempt = attempt_mut(run, *reference)?;
            match attempt.state {
                AttemptState::Claimed { since } => {
                    attempt.state = AttemptState::Queued { since };
                    Ok(())
                }
                _ => illegal("attempt released", "but it was not claimed"),
            }
        }
        Event::AttemptStarted {
            attempt: reference,
            image,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            match attempt.state {
                AttemptState::Claimed { .. } => {
                    attempt.state = AttemptState::Running { since: now };
                    run.stages[reference.stage.0].image.clone_from(image);
                    Ok(())
                }
                _ => illegal("attempt started", "but it was not claimed"),
            }
        }
        Event::AttemptFinished {
            attempt: reference,
            end,
        } => {
            let stage = dag.stage(reference.stage);
            let attempt = attempt_mut(run, *reference)?;
            if !attempt.is_held() {
                return illegal("attempt finished", "but nobody held it");
            }
            let (outcome, reason) = classify(stage, attempt.stop.as_ref(), end);
            attempt.state = AttemptState::Finished {
                at: now,
                outcome,
                reason,
            };
            run.stages[reference.stage.0]
                .metrics
                .clone_from(&end.metrics);
            Ok(())
        }
        Event::Planned(effect) => apply_effect(run, effect, now),
    }
}

fn apply_effect(run: &mut Run, effect: &Effect, now: Timestamp) -> Result<(), Illegal> {
    let illegal = |what: &str, why| {
        Err(Illegal {
            what: what.to_owned(),
            why,
        })
    };
    match effect {
        Effect::TimeOutRun => {
            if run.cancel.is_some() {
                return illegal("run timeout", "but the run is being cancelled");
            }
            run.cancel = Some(Cancel {
                at: now,
                by: CancelledBy::Timeout,
                force: false,
            });
            Ok(())
        }
        Effect::QueueAttempt(reference) => {
            let stage = &mut run.stages[reference.stage.0];
            if stage.outcome().is_some() {
                return illegal("attempt queued", "but its stage has finished");
            }
            if stage.attempts.len() + 1 != reference.number as usize {
                return illegal("attempt queued", "but it is not the next one");
            }
            if stage
                .attempts
                .last()
                .is_some_and(|last| last.outcome().is_none())
            {
                return illegal("attempt queued", "but the one before it is live");
            }
            stage.attempts.push(Attempt {
                state: AttemptState::Queued { since: now },
                stop: None,
            });
            stage.state = StageState::Active;
            Ok(())
        }
        Effect::BackOff { stage, until } => {
            let stage = &mut run.stages[stage.0];
            if stage.state != StageState::Active {
                return illegal("back-off", "but its stage is not active");
            }
            stage.state = StageState::BackingOff { until: *until };
            Ok(())
        }
        Effect::RequestStop {
            attempt: reference,
            why,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            if !attempt.is_held() || attempt.stop.is_some() {
                return illegal(
                    "stop requested",
                    "but the attempt is not held, or is stopping",
                );
            }
            attempt.stop = Some((now, why.clone()));
            Ok(())
        }
        Effect::WithdrawAttempt {
            attempt: reference,
            why,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            if !matches!(attempt.state, AttemptState::Queued { .. }) {
                return illegal("attempt withdrawn", "but it was not queued");
            }
            let (outcome, reason) = (Outcome::Cancelled, Some(why.clone()));
            attempt.state = AttemptState::Finished {
                at: now,
                outcome,
                reason,
            };
            Ok(())
        }
        Effect::FinishStage {
            stage,
            outcome,
            reason,
        } => {
            let stage = &mut run.stages[stage.0];
            if stage.outcome().is_some() {
                return illegal("stage finished", "but it had finished before");
            }
            if stage
                .attempts
                .last()
                .is_some_and(|last| last.outcome().is_none())
            {
                return illegal("stage finished", "but its last attempt is live");
            }
            let (outcome, reason) = (*outcome, reason.clone());
            stage.state = StageState::Finished {
                at: now,
                outcome,
                reason,
            };
            Ok(())
        }
        Effect::FinishRun { outcome, reason } => {
            if run.stages.iter().any(|stage| stage.outcome().is_none()) {
                return illegal("run finished", "but not all of its stages have");
            }
            let (outcome, reason) = (*outcome, reason.clone());
            run.phase = RunPhase::Finished {
                at: now,
                outcome,
                reason,
            };
            Ok(())
        }
    }
}

fn attempt_mut(run: &mut Run, reference: AttemptRef) -> Result<&mut Attempt, Illegal> {
    let unknown = || Illegal {
        what: reference.to_string(),
        why: "is not known to the run",
    };
    let place = (reference.number as usize)
        .checked_sub(1)
        .ok_or_else(unknown)?;
    run.stages
        .get_mut(reference.stage.0)
        .and_then(|stage| stage.attempts.get_mut(place))
        .ok_or_else(unknown)
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::RunStarted => "run started",
        Event::RunSkipped { .. } => "run skipped",
        Event::CancelRequested { .. } => "cancel requested",
        Event::AttemptClaimed(_) => "attempt claimed",
        Event::AttemptReleased(_) => "attempt released",
        Event::AttemptStarted { .. } => "attempt started",
        Event::AttemptFinished { .. } => "attempt finished",
        Event::Planned(_) => "decision",
    }
}

/// What the end of an attempt means: its outcome, and why.
///
/// A container that ended after it was asked to stop was stopped, whatever its exit code: a program
/// that catches the signal and exits with 0 has not done its work.
#[must_use]
pub fn classify(
    stage: &Stage,
    stop: Option<&(Timestamp, Reason)>,
    end: &AttemptEnd,
) -> (Outcome, Option<Reason>) {
    if let Ending::Lost(reason) = &end.ending {
        return (Outcome::Lost, Some(reason.clone()));
    }
    if let Some((asked_at, why)) = stop
        && (end.ended_at >= *asked_at || end.ending == Ending::Withdrawn)
    {
        let outcome = match why.code {
            ReasonCode::StageTimeout | ReasonCode::RunTimeout => Outcome::TimedOut,
            _ => Outcome::Cancelled,
        };
        return (outcome, Some(why.clone()));
    }
    match &end.ending {
        Ending::Exited { code: 0, .. } => {
            let refusals = gate::refusals(&stage.gate, &end.metrics);
            if refusals.is_empty() {
                (Outcome::Succeeded, None)
            } else {
                let message = format!("gate refused: {}", refusals.join("; "));
                (
                    Outcome::Failed,
                    Some(Reason::new(ReasonCode::GateRefused, message)),
                )
            }
        }
        Ending::Exited {
            out_of_memory: true,
            ..
        } => {
            let limit = stage
                .resources
                .memory
                .map_or_else(String::new, |bytes| format!(" of {}", in_units(bytes)));
            let message =
                format!("killed by the kernel: it used more than its memory limit{limit}");
            (
                Outcome::Failed,
                Some(Reason::new(ReasonCode::OutOfMemory, message)),
            )
        }
        Ending::Exited { code, .. } => (Outcome::Failed, Some(exit_reason(*code))),
        Ending::Rejected(reason) => (Outcome::Failed, Some(reason.clone())),
        Ending::Errored(reason) => (Outcome::Errored, Some(reason.clone())),
        Ending::Lost(reason) => (Outcome::Lost, Some(reason.clone())),
        Ending::Withdrawn => {
            let message = "given up before its container was created";
            (
                Outcome::Cancelled,
                Some(Reason::new(ReasonCode::CancelRequested, message)),
            )
        }
    }
}

/// An exit code in words. 126, 127 and 128 + n have the meaning that POSIX shells give them.
fn exit_reason(code: i32) -> Reason {
    let (kind, message) = match code {
        126 => (
            ReasonCode::CommandNotFound,
            "exit code 126: a command could not be executed".into(),
        ),
        127 => (
            ReasonCode::CommandNotFound,
            "exit code 127: a command was not found".into(),
        ),
        129..=192 => {
            let signal = code - 128;
            let name = match signal {
                1 => " (SIGHUP)",
                2 => " (SIGINT)",
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                13 => " (SIGPIPE)",
                15 => " (SIGTERM)",
                _ => "",
            };
            let message =
                format!("exit code {code}: killed by signal {signal}{name}, cause unknown");
            (ReasonCode::Killed, message)
        }
        code => (ReasonCode::ExitCode, format!("exit code {code}")),
    };
    Reason::new(kind, message)
}

/// Bytes in the largest binary unit that divides them well enough to read: `4 GiB`, `1.5 GiB`.
#[must_use]
pub fn in_units(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let text = format!("{size:.1}");
    format!(
        "{} {}",
        text.strip_suffix(".0").unwrap_or(&text),
        UNITS[unit]
    )
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Decisions that were taken and applied, in order.
    pub effects: Vec<Effect>,
    /// When the run has to be looked at again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// Events that did not fit and were dropped.
    pub refused: Vec<Illegal>,
}

/// Records events, then decides and applies until there is nothing more to decide.
pub fn step(dag: &Dag, run: &mut Run, events: &[Event], now: Timestamp) -> Step {
    let mut step = Step::default();
    for event in events {
        if let Err(illegal) = apply(dag, run, event, now) {
            step.refused.push(illegal);
        }
    }
    // Each round of decisions moves at least one stage on, each stage moves on a bounded number of
    // times; the bound only guards against a planner that contradicts `apply`.
    for _ in 0..=dag.stages().len() * 4 + 4 {
        let Plan { effects, wake_at } = plan(dag, run, now);
        step.wake_at = wake_at;
        if effects.is_empty() {
            break;
        }
        for effect in effects {
            match apply(dag, run, &Event::Planned(effect.clone()), now) {
                Ok(()) => step.effects.push(effect),
                Err(illegal) => {
                    debug_assert!(false, "the planner decided what may not be: {illegal}");
                    step.refused.push(illegal);
                }
            }
        }
    }
    step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        assert_eq!(in_units(512), "512 B");
        assert_eq!(in_units(4 << 30), "4 GiB");
        assert_eq!(in_units(3 << 29), "1.5 GiB");
    }

    #[test]
    fn exit_codes_are_told_in_words() {
        assert_eq!(exit_reason(3).message, "exit code 3");
        assert_eq!(exit_reason(127).code, ReasonCode::CommandNotFound);
        assert_eq!(
            exit_reason(137).message,
            "exit code 137: killed by signal 9 (SIGKILL), cause unknown"
        );
    }
}
