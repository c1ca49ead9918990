//! One step of a run: what happened, and all that follows from it.

use std::time::Duration;

use crate::Timestamp;
use crate::dag::Dag;
use crate::event::{Effect, Event};
use crate::plan::{Plan, plan};
use crate::run::{Run, RunPhase};
use crate::transition::{Illegal, apply};

/// The result of one step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Step {
    /// Events that fit, in order.
    pub applied: Vec<Event>,
    /// Decisions that were taken and applied, in order.
    pub effects: Vec<Effect>,
    /// When to plan the run again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// Events that did not fit and were dropped.
    pub refused: Vec<Illegal>,
}

/// How long a queued run waits until it is planned again without a wake.
const QUEUED_LOOK: Duration = Duration::from_secs(60);

impl Step {
    /// When to plan the run again if nothing happens before. `before` is what that was before the step.
    #[must_use]
    pub fn due(&self, run: &Run, before: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        match &run.phase {
            RunPhase::Queued => before.filter(|at| *at > now).or(Some(now + QUEUED_LOOK)),
            RunPhase::Running { .. } => self.wake_at,
            RunPhase::Finished { .. } => None,
        }
    }
}

/// Records events, then decides and applies until there is nothing more to decide.
pub fn step(dag: &Dag, run: &mut Run, events: &[Event], now: Timestamp) -> Step {
    let mut step = Step::default();
    for event in events {
        match apply(dag, run, event, now) {
            Ok(()) => step.applied.push(event.clone()),
            Err(illegal) => step.refused.push(illegal),
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
