//! `apply`: changes the state of a run by an event. The only place that decides how that state changes.
//!
//! An event that does not fit the state is refused as a value and changes nothing: facts arrive late, twice and out
//! of order, and their sender drops those that are refused.

mod classify;
mod decision;
mod step;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::dag::Dag;
use crate::event::{AttemptEnd, Ending, Event};
use crate::name::StageName;
use crate::outcome::{Outcome, Reason, ReasonCode};
use crate::run::{
    Attempt, AttemptRef, AttemptState, Cancel, CancelledBy, METRICS_OF_A_RUN, Run, RunPhase,
    StageState,
};
use crate::stage::StageIndex;
use crate::{Timestamp, after};

pub use self::classify::classify;
pub use self::step::{Step, step};
pub use crate::measure::in_units;
use crate::measure::in_words;

/// How long a Docker engine that answers may take to report the end of an attempt that was asked to stop, once its
/// program was killed. After that, an operator may abandon the attempt.
pub const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// An event that does not fit the state it met.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} {why}")]
pub struct Illegal {
    pub what: String,
    /// The state that it met, in words: `but the run has finished`.
    pub why: &'static str,
}

impl Illegal {
    fn new(what: impl Into<String>, why: &'static str) -> Self {
        Self {
            what: what.into(),
            why,
        }
    }
}

/// Records what happened.
///
/// # Errors
/// The event does not fit the state; `run` is as it was.
pub fn apply(dag: &Dag, run: &mut Run, event: &Event, now: Timestamp) -> Result<(), Illegal> {
    let refuse = |why| Err(Illegal::new(name_of(event), why));
    if run.is_finished() {
        return refuse("but the run has finished");
    }
    match event {
        Event::RunStarted => {
            if run.phase != RunPhase::Queued {
                return refuse("but it was not queued");
            }
            if run.cancel.is_some() {
                return refuse("but it is being cancelled");
            }
            run.phase = RunPhase::Running { since: now };
        }
        Event::RunSkipped { because_of } => {
            if run.phase != RunPhase::Queued {
                return refuse("but it was not queued");
            }
            let message = format!("run {because_of} of the same DAG was in its way");
            skip_run(run, Reason::new(ReasonCode::Overlap, message), now);
        }
        Event::CancelRequested { by } => match &mut run.cancel {
            None => {
                run.cancel = Some(Cancel {
                    at: now,
                    by: by.clone(),
                    force: false,
                });
            }
            // Only a person's second request forces; a second newer run does not.
            Some(cancel) => cancel.force |= matches!(by, CancelledBy::Actor(_)),
        },
        Event::AttemptClaimed(reference) => {
            let attempt = attempt_mut(run, *reference)?;
            let AttemptState::Queued { .. } = attempt.state else {
                return refuse("but it was not queued");
            };
            attempt.state = AttemptState::Claimed { since: now };
        }
        Event::AttemptReleased(reference) => {
            let attempt = attempt_mut(run, *reference)?;
            let AttemptState::Claimed { since } = attempt.state else {
                return refuse("but it was not claimed");
            };
            attempt.state = AttemptState::Queued { since };
        }
        Event::AttemptStarted {
            attempt: reference,
            image,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            let AttemptState::Claimed { .. } = attempt.state else {
                return refuse("but it was not claimed");
            };
            attempt.state = AttemptState::Running { since: now };
            run.stages[reference.stage.0].image.clone_from(image);
        }
        Event::TimeoutPassed(reference) => {
            let timeout = dag
                .stages()
                .get(reference.stage.0)
                .and_then(|stage| stage.program().timeout);
            let attempt = attempt_mut(run, *reference)?;
            if !matches!(attempt.state, AttemptState::Running { .. }) || attempt.stop.is_some() {
                return refuse("but it does not run, or is stopping");
            }
            let message = match timeout {
                Some(timeout) => format!("it ran longer than its timeout of {}", in_words(timeout)),
                // The operator sets one limit for all stages, which is not part of the DAG.
                None => "it ran longer than a stage may here (stage.timeout_at_most)".to_owned(),
            };
            attempt.stop = Some((now, Reason::new(ReasonCode::StageTimeout, message)));
        }
        Event::AttemptFinished {
            attempt: reference,
            end,
        } => {
            let end = &*with_room_for_metrics(run, reference.stage, end);
            let attempt = attempt_mut(run, *reference)?;
            if !attempt.is_held() {
                return refuse("but no daemon held it");
            }
            let stage = dag.stage(reference.stage);
            let (outcome, reason) = classify(stage, attempt.stop.as_ref(), end);
            let at = match (&attempt.state, end.ran_for) {
                // Counted from the recorded start: the clocks of Docker and of the database may differ.
                (AttemptState::Running { since }, Some(ran_for)) => after(*since, ran_for).min(now),
                _ => now,
            };
            attempt.state = AttemptState::Finished {
                at,
                outcome,
                reason,
            };
            run.stages[reference.stage.0]
                .metrics
                .clone_from(&end.metrics);
        }
        Event::AttemptAbandoned {
            attempt: reference,
            by,
            patience,
            unattended,
        } => {
            let attempt = attempt_mut(run, *reference)?;
            if !attempt.is_held() {
                return refuse("but no daemon held it");
            }
            let stage = &dag.stage(reference.stage).name;
            let message = if *unattended {
                format!(
                    "abandoned by {by}: its daemon was gone, and no other daemon had adopted it"
                )
            } else {
                let waited = waited_in_vain(stage, attempt, *patience, now)?;
                format!("abandoned by {by}: it had not ended {waited} after it was asked to stop")
            };
            attempt.state = AttemptState::Finished {
                at: now,
                outcome: Outcome::Lost,
                reason: Some(Reason::new(ReasonCode::Unproved, message)),
            };
            run.stages[reference.stage.0].metrics.clear();
        }
        Event::Planned(effect) => decision::apply_effect(dag, run, effect, now)?,
    }
    Ok(())
}

/// An attempt's end, without its metrics where the run has no room for them: an attempt that succeeded otherwise fails.
fn with_room_for_metrics<'e>(
    run: &Run,
    stage: StageIndex,
    end: &'e AttemptEnd,
) -> Cow<'e, AttemptEnd> {
    let others = run.stages.iter().enumerate();
    let others: usize = others
        .filter(|(place, _)| *place != stage.0)
        .map(|(_, other)| other.metrics.len())
        .sum();
    let new = end.metrics.len();
    if others + new <= METRICS_OF_A_RUN {
        return Cow::Borrowed(end);
    }
    let mut end = AttemptEnd {
        metrics: BTreeMap::new(),
        ..end.clone()
    };
    if let Ending::Exited { code: 0, .. } = end.ending {
        let message = format!(
            "it reported {new} metrics, and a run may have {METRICS_OF_A_RUN}, of which its other stages have {others}; \
             report fewer in each stage"
        );
        end.ending = Ending::Rejected(Reason::new(ReasonCode::InvalidMetrics, message));
    }
    Cow::Owned(end)
}

/// Ends a run that never started, with all of its stages.
fn skip_run(run: &mut Run, reason: Reason, now: Timestamp) {
    let outcome = Outcome::Skipped;
    for stage in &mut run.stages {
        if stage.outcome().is_none() {
            stage.state = StageState::Finished {
                at: now,
                outcome,
                reason: Some(reason.clone()),
            };
        }
    }
    run.phase = RunPhase::Finished {
        at: now,
        outcome,
        reason: Some(reason),
    };
}

/// How long an attempt has not ended after it was asked to stop, in words, if that is long enough to abandon it.
/// Where the clock has gone back since the request, the wait is unknown, and counts as long enough.
fn waited_in_vain(
    stage: &StageName,
    attempt: &Attempt,
    patience: Duration,
    now: Timestamp,
) -> Result<String, Illegal> {
    let stage = format!("stage {stage}");
    let Some((asked, _)) = &attempt.stop else {
        return Err(Illegal::new(
            stage,
            "was not asked to stop, and a daemon supervises it",
        ));
    };
    let waited = (now - *asked).to_std();
    let words = in_words(Duration::from_secs(
        waited.map_or(0, |waited| waited.as_secs()),
    ));
    match waited {
        Ok(waited) if waited < patience => Err(Illegal::new(
            format!("{stage} was asked to stop {words} ago,"),
            "and may still end by itself",
        )),
        _ => Ok(words),
    }
}

fn attempt_mut(run: &mut Run, reference: AttemptRef) -> Result<&mut Attempt, Illegal> {
    let place = (reference.number as usize).checked_sub(1);
    run.stages
        .get_mut(reference.stage.0)
        .zip(place)
        .and_then(|(stage, place)| stage.attempts.get_mut(place))
        .ok_or_else(|| Illegal::new(reference.to_string(), "is not known to the run"))
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::RunStarted => "run started",
        Event::RunSkipped { .. } => "run skipped",
        Event::CancelRequested { .. } => "cancel requested",
        Event::AttemptClaimed(_) => "attempt claimed",
        Event::AttemptReleased(_) => "attempt released",
        Event::AttemptStarted { .. } => "attempt started",
        Event::TimeoutPassed(_) => "timeout passed",
        Event::AttemptFinished { .. } => "attempt finished",
        Event::AttemptAbandoned { .. } => "attempt abandoned",
        Event::Planned(_) => "decision",
    }
}
