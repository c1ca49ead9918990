//! `plan`: what to do next for one run. May be nothing.
//!
//! Level-triggered: it looks at the state, never at what has just happened, so the happy case, a
//! lost wake-up and a restart take the same path. Once its effects are applied it returns none.

use crate::Timestamp;
use crate::dag::Dag;
use crate::event::Effect;
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::run::{AttemptRef, AttemptState, Cancel, CancelledBy, Run, RunPhase, StageState};
use crate::stage::{RunOn, StageIndex};

/// What to do next, and when to look again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The decisions, in an order in which they can be applied.
    pub effects: Vec<Effect>,
    /// When to plan again, if nothing happens before: the end of a back-off or a timeout.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }
}

/// Decides.
#[must_use]
pub fn plan(dag: &Dag, run: &Run, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut cancel = run.cancel.clone();
    match &run.phase {
        RunPhase::Finished { .. } => return plan,
        RunPhase::Queued if cancel.is_none() => return plan,
        RunPhase::Queued => {}
        RunPhase::Running { since } => {
            if let (Some(timeout), None) = (dag.declared().timeout, &cancel) {
                let deadline = *since + timeout;
                if deadline <= now {
                    cancel = Some(Cancel {
                        at: now,
                        by: CancelledBy::Timeout,
                        force: false,
                    });
                    plan.effects.push(Effect::TimeOutRun);
                } else {
                    plan.wake(deadline);
                }
            }
        }
    }
    let started = matches!(run.phase, RunPhase::Running { .. });
    // How stages end is needed further down in the same pass.
    let mut outcomes: Vec<Option<Outcome>> = run
        .stages
        .iter()
        .map(crate::run::StageRun::outcome)
        .collect();
    let mut reasons: Vec<Option<Reason>> = run
        .stages
        .iter()
        .map(|stage| match &stage.state {
            StageState::Finished { reason, .. } => reason.clone(),
            _ => None,
        })
        .collect();
    for index in dag.topological() {
        if outcomes[index.0].is_some() {
            continue;
        }
        let decision = match effective_cancel(dag, *index, cancel.as_ref(), started) {
            Some(cancel) => cancel_stage(run, *index, cancel),
            None => advance_stage(dag, run, *index, &outcomes, &reasons, now, &mut plan),
        };
        let Some(effect) = decision else { continue };
        if let Effect::FinishStage {
            outcome, reason, ..
        } = &effect
        {
            outcomes[index.0] = Some(*outcome);
            reasons[index.0].clone_from(reason);
        }
        plan.effects.push(effect);
    }
    if outcomes.iter().all(Option::is_some) {
        let (outcome, reason) = run_end(dag, cancel.as_ref(), &outcomes, &reasons);
        plan.effects.push(Effect::FinishRun { outcome, reason });
        plan.wake_at = None;
    }
    plan
}

/// The cancel request as far as it concerns this stage: those that run always are spared, unless it
/// is forced or the run never started.
fn effective_cancel<'a>(
    dag: &Dag,
    index: StageIndex,
    cancel: Option<&'a Cancel>,
    started: bool,
) -> Option<&'a Cancel> {
    let spared = started && dag.stage(index).run_on.contains(&RunOn::Always);
    cancel.filter(|cancel| cancel.force || !spared)
}

fn cancel_stage(run: &Run, index: StageIndex, cancel: &Cancel) -> Option<Effect> {
    let stage = &run.stages[index.0];
    let why = cancel.by.reason();
    let finish = |outcome, reason| {
        Some(Effect::FinishStage {
            stage: index,
            outcome,
            reason,
        })
    };
    match &stage.state {
        StageState::Waiting | StageState::BackingOff { .. } => {
            finish(Outcome::Cancelled, Some(why))
        }
        StageState::Active => {
            let attempt = last_attempt(run, index)?;
            match &run.attempt(attempt)?.state {
                AttemptState::Queued { .. } => Some(Effect::WithdrawAttempt { attempt, why }),
                AttemptState::Claimed { .. } | AttemptState::Running { .. } => run
                    .attempt(attempt)
                    .is_some_and(|attempt| attempt.stop.is_none())
                    .then_some(Effect::RequestStop { attempt, why }),
                // No retry once the run is cancelled.
                AttemptState::Finished {
                    outcome, reason, ..
                } => finish(*outcome, reason.clone()),
            }
        }
        StageState::Finished { .. } => None,
    }
}

fn advance_stage(
    dag: &Dag,
    run: &Run,
    index: StageIndex,
    outcomes: &[Option<Outcome>],
    reasons: &[Option<Reason>],
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Effect> {
    let stage = dag.stage(index);
    let state = &run.stages[index.0];
    let finish = |outcome, reason| {
        Some(Effect::FinishStage {
            stage: index,
            outcome,
            reason,
        })
    };
    let next = AttemptRef {
        stage: index,
        number: u32::try_from(state.attempts.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1),
    };
    match &state.state {
        StageState::Waiting => {
            if dag
                .needs(index)
                .iter()
                .any(|need| outcomes[need.0].is_none())
            {
                return None;
            }
            if let Some((outcome, reason)) = held_back(dag, index, outcomes, reasons) {
                return finish(outcome, Some(reason));
            }
            if let Some(condition) = &stage.condition {
                let text = condition.source();
                match condition.holds(&run.expression_facts(dag)) {
                    Ok(true) => {}
                    Ok(false) => {
                        let message = format!("its condition does not hold: {text}");
                        let reason = Reason::new(ReasonCode::Condition, message);
                        return finish(Outcome::Skipped, Some(reason));
                    }
                    Err(fault) => {
                        let reason = Reason::new(ReasonCode::Expression, fault.to_string());
                        return finish(Outcome::Errored, Some(reason));
                    }
                }
            }
            Some(Effect::QueueAttempt(next))
        }
        StageState::BackingOff { until } if *until <= now => Some(Effect::QueueAttempt(next)),
        StageState::BackingOff { until } => {
            plan.wake(*until);
            None
        }
        StageState::Active => {
            let attempt = last_attempt(run, index)?;
            let live = run.attempt(attempt)?;
            match &live.state {
                AttemptState::Queued { .. } | AttemptState::Claimed { .. } => None,
                AttemptState::Running { since } => {
                    let timeout = stage.timeout.filter(|_| live.stop.is_none())?;
                    let deadline = *since + timeout;
                    if deadline > now {
                        plan.wake(deadline);
                        return None;
                    }
                    let message =
                        format!("it ran longer than its timeout of {}", in_words(timeout));
                    let why = Reason::new(ReasonCode::StageTimeout, message);
                    Some(Effect::RequestStop { attempt, why })
                }
                AttemptState::Finished {
                    at,
                    outcome,
                    reason,
                } => {
                    // A refused gate is a verdict on the data: trying again is for faults.
                    let refused = reason
                        .as_ref()
                        .is_some_and(|r| r.code == ReasonCode::GateRefused);
                    let wait = (!refused)
                        .then(|| stage.retry.next_try(&state.ended_attempts()))
                        .flatten();
                    match wait {
                        Some(wait) if *at + wait <= now => Some(Effect::QueueAttempt(next)),
                        Some(wait) => {
                            plan.wake(*at + wait);
                            Some(Effect::BackOff {
                                stage: index,
                                until: *at + wait,
                            })
                        }
                        None => finish(*outcome, reason.clone()),
                    }
                }
            }
        }
        StageState::Finished { .. } => None,
    }
}

/// Whether and why a stage whose needs have all ended does not run.
fn held_back(
    dag: &Dag,
    index: StageIndex,
    outcomes: &[Option<Outcome>],
    reasons: &[Option<Reason>],
) -> Option<(Outcome, Reason)> {
    let run_on = &dag.stage(index).run_on;
    if run_on.contains(&RunOn::Always) {
        return None;
    }
    let ended = |test: fn(Outcome) -> bool| {
        dag.needs(index)
            .iter()
            .find(|need| outcomes[need.0].is_some_and(test))
    };
    let name = |need: &StageIndex| &dag.stage(*need).name;
    let upstream = |message: String| Reason::new(ReasonCode::Upstream, message);
    if let Some(failed) = ended(Outcome::is_failure) {
        if run_on.contains(&RunOn::Failed) {
            return None;
        }
        let refused = reasons[failed.0]
            .as_ref()
            .is_some_and(|reason| reason.code == ReasonCode::GateRefused);
        if refused {
            let message = format!("the gate of {} refused", name(failed));
            return Some((Outcome::Skipped, upstream(message)));
        }
        let outcome = outcomes[failed.0].map_or("", Outcome::as_str);
        return Some((
            Outcome::UpstreamFailed,
            upstream(format!("{} {outcome}", name(failed))),
        ));
    }
    if !run_on.contains(&RunOn::Success) {
        let message = "nothing that it needs failed".to_owned();
        return Some((Outcome::Skipped, upstream(message)));
    }
    ended(|outcome| outcome == Outcome::Skipped).map(|need| {
        (
            Outcome::Skipped,
            upstream(format!("{} was skipped", name(need))),
        )
    })
}

fn run_end(
    dag: &Dag,
    cancel: Option<&Cancel>,
    outcomes: &[Option<Outcome>],
    reasons: &[Option<Reason>],
) -> (Outcome, Option<Reason>) {
    let rolled_up = Outcome::roll_up(outcomes.iter().copied().flatten());
    if let Some(cancel) = cancel {
        let cut_short = outcomes
            .iter()
            .any(|outcome| matches!(outcome, Some(Outcome::Cancelled | Outcome::TimedOut)));
        if cut_short {
            let outcome = match cancel.by {
                CancelledBy::Timeout => Outcome::TimedOut,
                CancelledBy::Actor(_) | CancelledBy::Newer(_) => Outcome::Cancelled,
            };
            return (outcome, Some(cancel.by.reason()));
        }
    }
    // What is told of the run is what is told of the first stage that ended like the run.
    let told = dag
        .indices()
        .find(|index| outcomes[index.0] == Some(rolled_up));
    let reason = told.filter(|_| rolled_up.is_failure()).and_then(|index| {
        let reason = reasons[index.0].as_ref()?;
        Some(Reason::new(
            reason.code,
            format!("{}: {}", dag.stage(index).name, reason.message),
        ))
    });
    (rolled_up, reason)
}

fn last_attempt(run: &Run, stage: StageIndex) -> Option<AttemptRef> {
    let number = u32::try_from(run.stages[stage.0].attempts.len()).ok()?;
    (number > 0).then_some(AttemptRef { stage, number })
}

/// A duration as DAG files write it: `1h30m`, `90s`, `250ms`.
#[must_use]
pub fn in_words(duration: std::time::Duration) -> String {
    let whole = duration.as_secs();
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    let millis = duration.subsec_millis();
    let mut text = String::new();
    for (count, unit) in [
        (hours, "h"),
        (minutes, "m"),
        (seconds, "s"),
        (millis.into(), "ms"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}
