//! Facts about a run go in, decisions come out, in one transaction: the core's `step`, carried out.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use trainyard_core::event::{Effect, Event};
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::overlap::{Verdict, judge};
use trainyard_core::run::{AttemptRef, CancelledBy, RunPhase};
use trainyard_core::transition::{apply, step};
use uuid::Uuid;

use super::{AttemptRow, Store, Wake};
use crate::engine::short;
use crate::held;
use crate::world::Invariant;

/// How long a queued run waits until the planner reads it again without a wake.
const QUEUED_LOOK: Duration = Duration::from_secs(60);

impl Store {
    /// Applies events and plans; does what was decided.
    pub(super) fn advance(&mut self, id: RunId, events: &[Event]) {
        let now = self.now();
        let world = Arc::clone(&self.world);
        let Some(row) = self.runs.get_mut(&id) else {
            return;
        };
        let mut run = row.run.clone();
        let dag = Arc::clone(&row.dag);
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            let mut accepted = Vec::new();
            for event in events {
                match apply(&dag, &mut run, event, now) {
                    Ok(()) => accepted.push(event.clone()),
                    Err(illegal) => world.note(|| format!("run {id}: {illegal}")),
                }
            }
            let step = step(&dag, &mut run, &[], now);
            (accepted, step)
        }));
        let Ok((accepted, step)) = stepped else {
            self.world
                .violate(Invariant::CoreAgrees, format!("planning run {id} panicked"));
            return;
        };
        self.world
            .demand(Invariant::CoreAgrees, step.refused.is_empty(), || {
                format!("run {id}: {:?}", step.refused)
            });
        row.wake_at = match &run.phase {
            RunPhase::Queued => Some(
                row.wake_at
                    .filter(|at| *at > now)
                    .unwrap_or(now + QUEUED_LOOK),
            ),
            RunPhase::Running { .. } => step.wake_at,
            RunPhase::Finished { .. } => None,
        };
        let ended_now = !row.run.is_finished() && run.is_finished();
        let place = row.dag_place;
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
            self.wake(Wake::Dispatch);
        }
    }

    fn note_event(&mut self, run: RunId, event: &Event) {
        self.world.note(|| format!("run {run}: {event:?}"));
        match event {
            Event::AttemptFinished { attempt, .. } => self.note_end(run, *attempt, true),
            // Its end is not known, and its program may run on.
            Event::AttemptAbandoned { attempt, .. } => self.note_end(run, *attempt, false),
            _ => {}
        }
    }

    fn carry_out(&mut self, run: RunId, effect: &Effect) {
        self.world.note(|| format!("run {run} decides {effect:?}"));
        match effect {
            Effect::QueueAttempt(reference) => self.queue(run, *reference),
            Effect::RequestStop { .. } => self.wake(Wake::Supervise),
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
            stage: row.dag.stage(reference.stage).name.to_string(),
            owner: None,
            fence: Fence(0),
            claimed_at: None,
            handle: None,
            started_at: None,
            ended: false,
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
        let found = self
            .attempts
            .iter_mut()
            .find(|(_, row)| row.run == run && row.reference == reference);
        let Some((id, row)) = found else {
            self.world
                .violate(Invariant::RecordedOnce, "an end of an unknown attempt");
            return;
        };
        let (before, id) = (row.ended, *id);
        row.ended = true;
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
        let rule = self.dags[dag].declared().concurrency.clone();
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
            let (run, event) = match verdict {
                Verdict::Start(run) => (run, Event::RunStarted),
                Verdict::Skip { run, because_of } => (run, Event::RunSkipped { because_of }),
                Verdict::Cancel { run, newer } => {
                    let by = CancelledBy::Newer(newer);
                    (run, Event::CancelRequested { by })
                }
            };
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

    pub(crate) fn plan_due(&mut self) -> Option<Duration> {
        let now = self.now();
        let due: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(_, row)| row.wake_at.is_some_and(|at| at <= now))
            .map(|(id, _)| *id)
            .collect();
        if !due.is_empty() {
            self.undo.clear();
        }
        for run in due {
            self.advance(run, &[]);
            let queued = self
                .runs
                .get(&run)
                .filter(|row| row.run.phase == RunPhase::Queued);
            if let Some(place) = queued.map(|row| row.dag_place) {
                self.judge(place);
            }
        }
        self.settle();
        let next = self.runs.values().filter_map(|row| row.wake_at).min()?;
        Some((next - now).to_std().unwrap_or_default())
    }

    /// Judges the DAGs of runs that have ended; in the real store, in transactions that follow.
    pub(super) fn settle(&mut self) {
        while let Some(dag) = self.to_judge.pop() {
            self.judge(dag);
        }
    }
}
