//! Applies a decision of the planner to the state of a run.
//!
//! Each decision is checked as any other event is. If the planner contradicts itself, or a history was tampered with,
//! the decision is refused and not carried out.

use crate::Timestamp;
use crate::dag::Dag;
use crate::event::Effect;
use crate::outcome::Outcome;
use crate::run::{
    Attempt, AttemptRef, AttemptState, Cancel, CancelledBy, Run, RunPhase, StageRun, StageState,
};
use crate::stage::StageIndex;
use crate::transition::{Illegal, attempt_mut};

pub(super) fn apply_effect(
    dag: &Dag,
    run: &mut Run,
    effect: &Effect,
    now: Timestamp,
) -> Result<(), Illegal> {
    let refuse = |why| Err(Illegal::new(name_of(effect), why));
    match effect {
        Effect::TimeOutRun => {
            if !matches!(run.phase, RunPhase::Running { .. }) {
                return refuse("but the run is not running");
            }
            if run.cancel.is_some() {
                return refuse("but the run is being cancelled");
            }
            run.cancel = Some(Cancel {
                at: now,
                by: CancelledBy::Timeout,
                force: false,
            });
        }
        Effect::QueueAttempt(reference) => {
            if let Some(why) = cannot_queue(dag, run, *reference) {
                return refuse(why);
            }
            let stage = stage_mut(run, reference.stage)?;
            stage.attempts.push(Attempt {
                state: AttemptState::Queued { since: now },
                stop: None,
            });
            stage.state = StageState::Active;
        }
        Effect::BackOff { stage, until } => {
            let stage = stage_mut(run, *stage)?;
            let shortens =
                matches!(stage.state, StageState::BackingOff { until: before } if *until < before);
            if stage.state != StageState::Active && !shortens {
                return refuse("but its stage is not active");
            }
            if has_live_attempt(stage) {
                return refuse("but its last attempt is live");
            }
            stage.state = StageState::BackingOff { until: *until };
        }
        Effect::RequestStop {
            attempt: reference,
            why,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            if !attempt.is_held() || attempt.stop.is_some() {
                return refuse("but the attempt is not held, or is stopping");
            }
            attempt.stop = Some((now, why.clone()));
        }
        Effect::WithdrawAttempt {
            attempt: reference,
            why,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            if !matches!(attempt.state, AttemptState::Queued { .. }) {
                return refuse("but it was not queued");
            }
            attempt.state = AttemptState::Finished {
                at: now,
                outcome: Outcome::Cancelled,
                reason: Some(why.clone()),
            };
        }
        Effect::FinishStage {
            stage,
            outcome,
            reason,
        } => {
            let at = stage_ended_at(dag, run, *stage, *outcome).unwrap_or(now);
            let stage = stage_mut(run, *stage)?;
            if stage.outcome().is_some() {
                return refuse("but it had finished before");
            }
            if has_live_attempt(stage) {
                return refuse("but its last attempt is live");
            }
            stage.state = StageState::Finished {
                at,
                outcome: *outcome,
                reason: reason.clone(),
            };
        }
        Effect::FinishRun { outcome, reason } => {
            if run.stages.iter().any(|stage| stage.outcome().is_none()) {
                return refuse("but not all of its stages have");
            }
            let at = last_end(run, run.stages.iter()).unwrap_or(now);
            run.phase = RunPhase::Finished {
                at,
                outcome: *outcome,
                reason: reason.clone(),
            };
        }
    }
    Ok(())
}

/// When a stage ended: with its last attempt, or, where it does not run, with the last
/// stage that it needs. Ends may be recorded late, and an end that follows from another
/// one has the date of that one. `None` where the decision itself ends the stage.
fn stage_ended_at(dag: &Dag, run: &Run, index: StageIndex, outcome: Outcome) -> Option<Timestamp> {
    let stage = run.stages.get(index.0)?;
    match stage.state {
        StageState::Active => match stage.attempts.last()?.state {
            AttemptState::Finished { at, .. } => Some(at),
            _ => None,
        },
        StageState::Waiting if outcome != Outcome::Cancelled => {
            let needs = dag.needs(index).iter();
            last_end(run, needs.map(|need| &run.stages[need.0]))
        }
        _ => None,
    }
}

/// When the last of these stages ended, all of which have ended. A result that was reused from an earlier run counts
/// from the start of this one.
fn last_end<'a>(run: &Run, stages: impl Iterator<Item = &'a StageRun>) -> Option<Timestamp> {
    let RunPhase::Running { since } = run.phase else {
        return None;
    };
    let ends = stages.filter_map(|stage| match stage.state {
        StageState::Finished { at, .. } => Some(at.max(since)),
        _ => None,
    });
    ends.max()
}

/// The reason why this attempt must not be queued now, if there is one.
fn cannot_queue(dag: &Dag, run: &Run, reference: AttemptRef) -> Option<&'static str> {
    let Some(stage) = run.stages.get(reference.stage.0) else {
        return Some("but there is no such stage");
    };
    if !matches!(run.phase, RunPhase::Running { .. }) {
        return Some("but the run is not running");
    }
    if stage.outcome().is_some() {
        return Some("but its stage has finished");
    }
    if stage.attempts.len() + 1 != reference.number as usize {
        return Some("but it is not the next one");
    }
    if has_live_attempt(stage) {
        return Some("but the one before it is live");
    }
    if run
        .cancel
        .as_ref()
        .is_some_and(|cancel| cancel.concerns(dag.stage(reference.stage)))
    {
        return Some("but its stage is being cancelled");
    }
    dag.needs(reference.stage)
        .iter()
        .any(|need| run.stages[need.0].outcome().is_none())
        .then_some("but what its stage needs has not ended")
}

fn has_live_attempt(stage: &StageRun) -> bool {
    stage
        .attempts
        .last()
        .is_some_and(|last| last.outcome().is_none())
}

fn stage_mut(run: &mut Run, index: StageIndex) -> Result<&mut StageRun, Illegal> {
    run.stages
        .get_mut(index.0)
        .ok_or_else(|| Illegal::new(format!("stage #{}", index.0), "is not known to the run"))
}

fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::TimeOutRun => "run timeout",
        Effect::QueueAttempt(_) => "attempt queued",
        Effect::BackOff { .. } => "back-off",
        Effect::RequestStop { .. } => "stop requested",
        Effect::WithdrawAttempt { .. } => "attempt withdrawn",
        Effect::FinishStage { .. } => "stage finished",
        Effect::FinishRun { .. } => "run finished",
    }
}
