//! Facts about a run go in, decisions come out, in one transaction: the core's `step`, carried out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use trainyard_core::event::{Effect, Event};
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::overlap::judge;
use trainyard_core::run::{AttemptRef, RunPhase};
use trainyard_core::transition::{apply, step};
use trainyard_store::{Advanced, Concern, NextWake, Result};
use uuid::Uuid;

use super::{AttemptRow, Store};
use crate::engine::short;
use crate::held;
use crate::world::Invariant;

impl Store {
    /// Applies events and plans; does what was decided.
    pub(super) fn advance(&mut self, id: RunId, events: &[Event]) -> Advanced {
        let now = self.now();
        let world = Arc::clone(&self.world);
        let Some(row) = self.runs.get_mut(&id) else {
            return Advanced::default();
        };
        let mut run = row.run.clone();
        let dag = Arc::clone(&row.pinned.dag);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let (mut accepted, mut refused) = (Vec::new(), Vec::new());
            for event in events {
                match apply(&dag, &mut run, event, now) {
                    Ok(()) => accepted.push(event.clone()),
                    Err(illegal) => {
                        world.note(|| format!("run {id}: {illegal}"));
                        refused.push(illegal);
                    }
                }
            }
            let step = step(&dag, &mut run, &[], now);
            (accepted, refused, step)
        }));
        let Ok((accepted, refused, step)) = stepped else {
            self.world
                .violate(Invariant::CoreAgrees, format!("planning run {id} panicked"));
            return Advanced::default();
        };
        self.world
            .demand(Invariant::CoreAgrees, step.refused.is_empty(), || {
                format!("run {id}: {:?}", step.refused)
            });
        let due = step.due(&run, row.wake_at, now);
        let is_due_earlier = due.is_some_and(|at| row.wake_at.is_none_or(|before| at < before));
        row.wake_at = due;
        let ended_now = !row.run.is_finished() && run.is_finished();
        let (place, queued) = (row.dag_place, run.phase == RunPhase::Queued);
        let finished = run.outcome();
        row.run = run;
        for event in &accepted {
            self.note_event(id, event);
        }
        for effect in &step.effects {
            self.carry_out(id, effect);
        }
        if ended_now {
            self.world.note(|| format!("run {id} has ended"));
            self.to_judge.push(place);
        }
        if !accepted.is_empty() || !step.effects.is_empty() {
            self.wake(Concern::Dispatch);
        }
        if is_due_earlier {
            self.wake(Concern::Plan);
        }
        let abandoned = |event: &&Event| matches!(event, Event::AttemptAbandoned { .. });
        Advanced {
            lost: accepted.iter().filter(abandoned).count(),
            effects: step.effects,
            refused,
            finished,
            queued,
        }
    }

    fn note_event(&mut self, run: RunId, event: &Event) {
        self.world.note(|| format!("run {run}: {event:?}"));
        match event {
            Event::AttemptFinished { attempt, .. } => self.note_end(run, *attempt, true),
            // Its end is not known, and its program may run on.
            Event::AttemptAbandoned { attempt, .. } => self.note_end(run, *attempt, false),
            Event::TimeoutPassed(_) => self.wake(Concern::Supervise),
            _ => {}
        }
    }

    fn carry_out(&mut self, run: RunId, effect: &Effect) {
        self.world.note(|| format!("run {run} decides {effect:?}"));
        match effect {
            Effect::QueueAttempt(reference) => self.queue(run, *reference),
            Effect::RequestStop { .. } => self.wake(Concern::Supervise),
            Effect::WithdrawAttempt { attempt, .. } => self.note_end(run, *attempt, true),
            Effect::TimeOutRun
            | Effect::BackOff { .. }
            | Effect::FinishStage { .. }
            | Effect::FinishRun { .. } => {}
        }
    }

    fn queue(&mut self, run: RunId, reference: AttemptRef) {
        let id = AttemptId(Uuid::from_u128(1 + self.attempts.len() as u128));
        let Some(row) = self.runs.get(&run) else {
            return;
        };
        let row = AttemptRow {
            run,
            reference,
            stage: row.pinned.dag.stage(reference.stage).name.to_string(),
            owner: None,
            fence: Fence(0),
            queued_at: self.now(),
            claimed_at: None,
            handle: None,
            started_at: None,
            finished_at: None,
            removed: false,
            log: Vec::new(),
            cursor: None,
            last_piece: Vec::new(),
        };
        self.world.note(|| {
            format!(
                "run {run} queues {} for {} #{}",
                short(id),
                row.stage,
                reference.number
            )
        });
        self.attempts.insert(id, row);
    }

    /// The end of an attempt is a row now; that its program has ended is `known`, or is not.
    fn note_end(&mut self, run: RunId, reference: AttemptRef, known: bool) {
        let now = self.now();
        let found = self
            .attempts
            .iter_mut()
            .find(|(_, row)| row.run == run && row.reference == reference);
        let Some((id, row)) = found else {
            self.world
                .violate(Invariant::RecordedOnce, "an end of an unknown attempt");
            return;
        };
        let (before, id) = (row.is_finished(), *id);
        row.finished_at.get_or_insert(now);
        row.removed = row.claimed_at.is_none();
        self.world.demand(Invariant::RecordedOnce, !before, || {
            format!("the end of {} is recorded again", short(id))
        });
        let mut witness = held(&self.world.witness);
        let program = witness.of(id);
        program.ended = true;
        let runs_on = program.running && program.proper;
        self.world
            .demand(Invariant::EndedBeforeRecorded, !(known && runs_on), || {
                format!(
                    "the end of {} is recorded while its program runs",
                    short(id)
                )
            });
    }

    /// Judges which runs of a DAG may start.
    fn judge(&mut self, dag: usize) {
        let rule = self.dags[dag].dag.declared().concurrency.clone();
        let of = |keep: &dyn Fn(&super::RunRow) -> bool| -> Vec<RunId> {
            let rows = self.runs.iter().filter(|(_, row)| row.dag_place == dag);
            rows.filter(|(_, row)| keep(row))
                .map(|(id, _)| *id)
                .collect()
        };
        let running = |row: &super::RunRow| matches!(row.run.phase, RunPhase::Running { .. });
        let cancelling = of(&|row| running(row) && row.run.cancel.is_some());
        let waiting = of(&|row| row.run.phase == RunPhase::Queued && row.run.cancel.is_none());
        for verdict in judge(&rule, &of(&running), &cancelling, &waiting) {
            let (run, event) = verdict.event();
            self.advance(run, &[event]);
        }
        let running = |row: &&super::RunRow| matches!(row.run.phase, RunPhase::Running { .. });
        let of_dag = self.runs.values().filter(|row| row.dag_place == dag);
        let active = of_dag.filter(running).count();
        let most = rule.limit.map_or(usize::MAX, |limit| limit as usize);
        self.world.demand(Invariant::Capacity, active <= most, || {
            format!("{active} runs of dag{dag} are active, {most} are permitted")
        });
    }

    /// Plans a run that is due, and applies the rule of its DAG if it waits for that.
    pub(crate) fn plan(&mut self, run: RunId) -> Advanced {
        let advanced = self.tell(run, &[]);
        let place = self.runs.get(&run).map(|row| row.dag_place);
        if let Some(place) = place.filter(|_| advanced.queued) {
            self.judge(place);
            self.settle();
        }
        advanced
    }

    /// Runs that are due, the longest due first.
    pub(crate) fn due_runs(&self, limit: u32) -> Vec<RunId> {
        let now = self.now();
        let due = self.runs.iter();
        let due = due.filter_map(|(id, row)| Some((row.wake_at.filter(|at| *at <= now)?, *id)));
        let mut due: Vec<_> = due.collect();
        due.sort();
        due.truncate(limit as usize);
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Makes every run due that waits for a moment.
    pub(crate) fn look_again(&mut self) -> Result<()> {
        let now = self.now();
        for row in self.runs.values_mut() {
            row.wake_at = row.wake_at.map(|at| at.min(now));
        }
        self.wake(Concern::Plan);
        Ok(())
    }

    /// When the next run is due.
    pub(crate) fn next_wake(&self) -> NextWake {
        let now = self.now();
        let next = self.runs.values().filter_map(|row| row.wake_at).min();
        NextWake {
            now,
            wait: next.map(|next| (next - now).to_std().unwrap_or_default()),
            left: 0,
        }
    }

    /// Judges the DAGs of runs that have ended; in the real store, in transactions that follow.
    pub(super) fn settle(&mut self) {
        while let Some(dag) = self.to_judge.pop() {
            self.judge(dag);
        }
    }
}
