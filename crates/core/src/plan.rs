//! `plan`: what to do next for one run; possibly nothing.
//!
//! Level-triggered: it reads the state, never the last event, so the normal case, a lost wake-up and a restart take
//! the same path. Once its effects are applied, it returns none.

use std::borrow::Cow;

use crate::dag::Dag;
use crate::event::Effect;
use crate::measure::counted;
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::run::{
    AttemptRef, AttemptState, Cancel, CancelledBy, Run, RunPhase, StageRun, StageState,
};
use crate::stage::{RunOn, StageIndex};
use crate::{Timestamp, after};

pub use crate::measure::in_words;

/// What to do next, and when to plan again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// The decisions, in an order in which they can be applied.
    pub effects: Vec<Effect>,
    /// When to plan again, if nothing happens before: the end of a back-off or of the run's time.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }
}

#[must_use]
pub fn plan(dag: &Dag, run: &Run, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let cancel = match &run.phase {
        RunPhase::Finished { .. } => return plan,
        RunPhase::Queued if run.cancel.is_none() => return plan,
        RunPhase::Queued => run.cancel.clone(),
        RunPhase::Running { since } => {
            let deadline = dag.declared().timeout.map(|timeout| after(*since, timeout));
            match (&run.cancel, deadline) {
                (None, Some(deadline)) if deadline <= now => {
                    plan.effects.push(Effect::TimeOutRun);
                    Some(Cancel {
                        at: now,
                        by: CancelledBy::Timeout,
                        force: false,
                    })
                }
                (None, Some(deadline)) => {
                    plan.wake(deadline);
                    None
                }
                (cancel, _) => cancel.clone(),
            }
        }
    };
    let mut planner = Planner {
        dag,
        run,
        now,
        cancel,
        ends: run.stages.iter().map(End::of).collect(),
        plan,
    };
    for index in dag.topological() {
        planner.plan_stage(*index);
    }
    planner.finish()
}

/// How a stage ended, or is about to end by what this pass decided.
struct End<'a> {
    outcome: Outcome,
    reason: Option<Cow<'a, Reason>>,
}

impl<'a> End<'a> {
    fn of(stage: &'a StageRun) -> Option<Self> {
        match &stage.state {
            StageState::Finished {
                outcome, reason, ..
            } => Some(Self {
                outcome: *outcome,
                reason: reason.as_ref().map(Cow::Borrowed),
            }),
            StageState::Waiting | StageState::Active | StageState::BackingOff { .. } => None,
        }
    }
}

struct Planner<'a> {
    dag: &'a Dag,
    run: &'a Run,
    now: Timestamp,
    cancel: Option<Cancel>,
    /// By stage; what this pass decides counts further down in the same pass.
    ends: Vec<Option<End<'a>>>,
    plan: Plan,
}

impl Planner<'_> {
    fn plan_stage(&mut self, index: StageIndex) {
        if self.ends[index.0].is_some() {
            return;
        }
        let started = matches!(self.run.phase, RunPhase::Running { .. });
        let why = self
            .cancel
            .as_ref()
            .filter(|cancel| !started || cancel.concerns(self.dag.stage(index)))
            .map(|cancel| cancel.by.reason());
        let effect = match (&self.run.stages[index.0].state, why) {
            (StageState::Finished { .. }, _) => None,
            (StageState::Waiting | StageState::BackingOff { .. }, Some(why)) => {
                Some(self.finish_stage(index, Outcome::Cancelled, Some(why)))
            }
            (StageState::Active, Some(why)) => self.cancel_attempt(index, why),
            (StageState::Waiting, None) => self.start_stage(index),
            (StageState::Active, None) => self.follow_attempt(index),
            (StageState::BackingOff { until }, None) if *until <= self.now => {
                Some(Effect::QueueAttempt(self.next_attempt(index)))
            }
            (StageState::BackingOff { until }, None) => self.back_off_on(index, *until),
        };
        self.plan.effects.extend(effect);
    }

    fn finish(mut self) -> Plan {
        if let Some(ends) = self
            .ends
            .iter()
            .map(Option::as_ref)
            .collect::<Option<Vec<_>>>()
        {
            let (outcome, reason) = self.run_end(&ends);
            self.plan
                .effects
                .push(Effect::FinishRun { outcome, reason });
            self.plan.wake_at = None;
        }
        self.plan
    }

    fn finish_stage(
        &mut self,
        stage: StageIndex,
        outcome: Outcome,
        reason: Option<Reason>,
    ) -> Effect {
        self.ends[stage.0] = Some(End {
            outcome,
            reason: reason.clone().map(Cow::Owned),
        });
        Effect::FinishStage {
            stage,
            outcome,
            reason,
        }
    }

    fn next_attempt(&self, stage: StageIndex) -> AttemptRef {
        let number = self
            .run
            .last_attempt(stage)
            .map_or(1, |(last, _)| last.number.saturating_add(1));
        AttemptRef { stage, number }
    }

    /// No retry once a stage is cancelled: its last attempt is its end.
    fn cancel_attempt(&mut self, index: StageIndex, why: Reason) -> Option<Effect> {
        let (attempt, last) = self.run.last_attempt(index)?;
        match &last.state {
            AttemptState::Queued { .. } => Some(Effect::WithdrawAttempt { attempt, why }),
            AttemptState::Claimed { .. } | AttemptState::Running { .. } => last
                .stop
                .is_none()
                .then_some(Effect::RequestStop { attempt, why }),
            AttemptState::Finished {
                outcome, reason, ..
            } => Some(self.finish_stage(index, *outcome, reason.clone())),
        }
    }

    fn start_stage(&mut self, index: StageIndex) -> Option<Effect> {
        let needs = self.dag.needs(index);
        if needs.iter().any(|need| self.ends[need.0].is_none()) {
            return None;
        }
        if let Some((outcome, reason)) = self.reason_not_to_run(index) {
            return Some(self.finish_stage(index, outcome, Some(reason)));
        }
        if let Some(condition) = &self.dag.stage(index).condition {
            let ended = |stage: StageIndex| self.ends[stage.0].as_ref().map(|end| end.outcome);
            match condition.holds(&self.run.facts_for(self.dag, index, condition, ended)) {
                Ok(true) => {}
                Ok(false) => {
                    let message = format!("its condition does not hold: {}", condition.source());
                    let reason = Reason::new(ReasonCode::Condition, message);
                    return Some(self.finish_stage(index, Outcome::Skipped, Some(reason)));
                }
                Err(fault) => {
                    let reason = Reason::new(ReasonCode::Expression, fault.to_string());
                    return Some(self.finish_stage(index, Outcome::Errored, Some(reason)));
                }
            }
        }
        Some(Effect::QueueAttempt(self.next_attempt(index)))
    }

    fn follow_attempt(&mut self, index: StageIndex) -> Option<Effect> {
        let stage = self.dag.stage(index);
        let (_, last) = self.run.last_attempt(index)?;
        match &last.state {
            // The supervisor of the attempt measures how long it has run.
            AttemptState::Queued { .. }
            | AttemptState::Claimed { .. }
            | AttemptState::Running { .. } => None,
            AttemptState::Finished {
                at,
                outcome,
                reason,
            } => {
                let stands = is_verdict(reason.as_ref());
                let ended = self.run.stages[index.0].ended_attempts();
                let again = (!stands)
                    .then(|| stage.program().retry.next_try(&ended))
                    .flatten()
                    .map(|wait| after(*at, wait));
                match again {
                    Some(until) if until <= self.now => {
                        Some(Effect::QueueAttempt(self.next_attempt(index)))
                    }
                    Some(until) => {
                        self.plan.wake(until);
                        Some(Effect::BackOff {
                            stage: index,
                            until,
                        })
                    }
                    None => Some(self.finish_stage(index, *outcome, reason.clone())),
                }
            }
        }
    }

    /// Continues the wait before the next attempt, which is never longer than its whole back-off from now: if the
    /// recorded end is further off, the clock has gone back since.
    fn back_off_on(&mut self, stage: StageIndex, until: Timestamp) -> Option<Effect> {
        let ended = self.run.stages[stage.0].ended_attempts();
        let longest = self
            .dag
            .stage(stage)
            .program()
            .retry
            .next_try(&ended)
            .map(|wait| after(self.now, wait))
            .filter(|longest| *longest < until);
        self.plan.wake(longest.unwrap_or(until));
        longest.map(|until| Effect::BackOff { stage, until })
    }

    /// Whether and why a stage whose needs have all ended does not run.
    fn reason_not_to_run(&self, index: StageIndex) -> Option<(Outcome, Reason)> {
        let run_on = &self.dag.stage(index).run_on;
        if run_on.contains(&RunOn::Always) {
            return None;
        }
        let first = |test: fn(Outcome) -> bool| {
            self.dag.needs(index).iter().find_map(|need| {
                let end = self.ends[need.0].as_ref()?;
                test(end.outcome).then(|| (&self.dag.stage(*need).name, end))
            })
        };
        let upstream =
            |outcome, message| Some((outcome, Reason::new(ReasonCode::Upstream, message)));
        if let Some((name, failed)) = first(Outcome::is_failure) {
            if run_on.contains(&RunOn::Failed) {
                return None;
            }
            if is_refused_gate(failed.reason.as_deref()) {
                return upstream(Outcome::Skipped, format!("the gate of {name} refused"));
            }
            let message = format!("{name} {}", failed.outcome);
            return upstream(Outcome::UpstreamFailed, message);
        }
        if !run_on.contains(&RunOn::Success) {
            let message = "nothing that it needs failed".to_owned();
            return upstream(Outcome::Skipped, message);
        }
        let (name, _) = first(|outcome| outcome == Outcome::Skipped)?;
        upstream(Outcome::Skipped, format!("{name} was skipped"))
    }

    fn run_end(&self, ends: &[&End<'_>]) -> (Outcome, Option<Reason>) {
        if let Some(cancel) = &self.cancel {
            // A cancel that came when nothing was left to cut short changes nothing.
            let why = cancel.by.reason();
            let cut_short = ends.iter().any(|end| end.reason.as_deref() == Some(&why));
            if cut_short || self.run.phase == RunPhase::Queued {
                let outcome = match cancel.by {
                    CancelledBy::Timeout => Outcome::TimedOut,
                    CancelledBy::Actor(_) | CancelledBy::Newer(_) => Outcome::Cancelled,
                };
                return (outcome, Some(why));
            }
        }
        let rolled_up = Outcome::roll_up(ends.iter().map(|end| end.outcome));
        // The reason of the run is the reason of the first stage that ended like the run.
        let blamed = self
            .dag
            .indices()
            .find(|index| ends[index.0].outcome == rolled_up);
        let reason = blamed.filter(|_| rolled_up.is_failure()).and_then(|index| {
            let reason = ends[index.0].reason.as_ref()?;
            let alike = ends.iter().filter(|end| end.outcome == rolled_up).count();
            let others = match alike as u64 - 1 {
                0 => String::new(),
                others => format!(" ({} {rolled_up} as well)", counted(others, "stage")),
            };
            Some(Reason::new(
                reason.code,
                format!("{}: {}{others}", self.dag.stage(index).name, reason.message),
            ))
        });
        (rolled_up, reason)
    }
}

/// Whether an outcome is final, whatever the retry rule says: retries are for faults. A refused gate is a verdict on
/// the data. A missing or denied image or secret does not appear because of a retry, nor does an input that its stage has
/// not made.
fn is_verdict(reason: Option<&Reason>) -> bool {
    let not_to_be_had = [
        ReasonCode::ImageNotFound,
        ReasonCode::MissingSecret,
        ReasonCode::MissingInput,
    ];
    is_refused_gate(reason) || reason.is_some_and(|reason| not_to_be_had.contains(&reason.code))
}

fn is_refused_gate(reason: Option<&Reason>) -> bool {
    reason.is_some_and(|reason| reason.code == ReasonCode::GateRefused)
}
