//! What a transaction changes of runs: a [`Draft`] until it is committed, [`Committed`] from then on.
//!
//! 1. A draft gathers the rows of all runs of the transaction, and writes them in one statement: one round trip,
//!    however many stages moved.
//! 2. An attempt's row is changed only if it is still in the state that the step saw. If a claim came in between, the
//!    count of rows shows it, and the transaction is repeated.
//! 3. Nothing outside of the transaction may change before the commit. [`Draft::commit`] is the only way to a
//!    [`Committed`], which has the wakes, the counts, the states for the memory and the answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sqlx::{PgConnection, Postgres, Transaction};
use trainyard_core::Timestamp;
use trainyard_core::event::{Effect, Event};
use trainyard_core::id::{AttemptId, DagId, RunId};
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{Attempt, AttemptRef, AttemptState, Run};
use trainyard_core::stage::StageIndex;
use trainyard_core::transition::Step;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::encoding::event::{EventRow, event_row};
use crate::db::error::{Error, Result};
use crate::db::topics::Topic;
use crate::fleet::metrics::{ATTEMPTS_FINISHED, RUNS_FINISHED};
use crate::runs::advance::{Advanced, EndTaken};
use crate::runs::metrics::MetricColumns;
use crate::runs::rows::{AttemptRow, QueuedRow, RunRow, StageRow, docs};
use crate::runs::state::CachedRun;
use crate::store::Core;
use crate::triggers::dags::PinnedDag;

/// The changes of one transaction.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    // By their places: a stage or an attempt that several events touch is written once.
    stages: BTreeMap<(RunId, StageIndex), StageRow>,
    attempts: BTreeMap<(RunId, AttemptRef), AttemptRow>,
    queued: Vec<QueuedRow>,
    runs: Vec<RunRow>,
    events: Vec<EventRow>,
    metrics: MetricColumns,
    then: Committed,
}

/// What follows from a transaction once it is committed.
#[derive(Debug, Default)]
#[must_use = "settle it"]
pub(crate) struct Committed {
    pub(crate) answers: HashMap<RunId, Result<Advanced>>,
    pub(crate) ends: HashMap<AttemptId, EndTaken>,
    known: Vec<(RunId, CachedRun)>,
    /// Whether attempts have begun to wait for capacity, or may have freed some.
    is_claimable: bool,
    /// Whether attempts wait that were offered capacity in the transaction itself.
    offered: Option<bool>,
    is_stop_requested: bool,
    is_due_earlier: bool,
    /// DAGs with a limit, a run of which has ended.
    judge: BTreeSet<DagId>,
    attempts_finished: Vec<Outcome>,
    runs_finished: Vec<Outcome>,
}

impl Draft {
    /// Adds the first step of a run whose row and stages are inserted as they are after it.
    pub(crate) fn add_new(&mut self, run: &Run, pinned: &PinnedDag, step: &Step, now: Timestamp) {
        for event in events_of(step) {
            if let Event::Planned(Effect::QueueAttempt(attempt)) = event {
                self.add_queued(run, attempt, pinned);
            }
            self.events.push(event_row(&event, run, now));
        }
    }

    /// Adds a step of a run.
    pub(crate) fn add(&mut self, run: &Run, pinned: &PinnedDag, step: &Step, now: Timestamp) {
        for event in events_of(step) {
            self.events.push(event_row(&event, run, now));
            match event {
                Event::RunStarted | Event::CancelRequested { .. } => {}
                Event::RunSkipped { .. } => {
                    for index in pinned.dag.indices() {
                        self.add_stage(run, index);
                    }
                }
                // The attempt's holder writes these (attempts/holding.rs).
                Event::AttemptClaimed(_)
                | Event::AttemptReleased(_)
                | Event::AttemptStarted { .. } => {}
                Event::TimeoutPassed(attempt) => self.add_stop(run, attempt),
                Event::AttemptFinished { attempt, end } => {
                    self.metrics.add(run.facts.id, attempt, &end);
                    self.add_end(run, attempt);
                }
                Event::AttemptAbandoned { attempt, .. } => self.add_end(run, attempt),
                Event::Planned(effect) => self.add_effect(run, pinned, effect),
            }
        }
    }

    fn add_effect(&mut self, run: &Run, pinned: &PinnedDag, effect: Effect) {
        match effect {
            Effect::TimeOutRun | Effect::FinishRun { .. } => {}
            Effect::QueueAttempt(attempt) => {
                self.add_queued(run, attempt, pinned);
                self.add_stage(run, attempt.stage);
            }
            Effect::BackOff { stage, .. } | Effect::FinishStage { stage, .. } => {
                self.add_stage(run, stage);
            }
            Effect::RequestStop { attempt, .. } => self.add_stop(run, attempt),
            Effect::WithdrawAttempt { attempt, .. } => self.add_attempt(run, attempt, false),
        }
    }

    fn add_end(&mut self, run: &Run, attempt: AttemptRef) {
        self.add_attempt(run, attempt, true);
        self.add_stage(run, attempt.stage);
        let outcome = run.attempt(attempt).and_then(Attempt::outcome);
        self.then.attempts_finished.extend(outcome);
    }

    fn add_stop(&mut self, run: &Run, attempt: AttemptRef) {
        self.add_attempt(run, attempt, true);
        self.then.is_stop_requested = true;
    }

    fn add_stage(&mut self, run: &Run, index: StageIndex) {
        self.stages
            .insert((run.facts.id, index), StageRow::new(run, index));
    }

    fn add_attempt(&mut self, run: &Run, reference: AttemptRef, held: bool) {
        if let Some(attempt) = run.attempt(reference) {
            let row = AttemptRow::new(run, reference, attempt, held);
            self.attempts.insert((run.facts.id, reference), row);
            self.then.is_claimable = true;
        }
    }

    fn add_queued(&mut self, run: &Run, reference: AttemptRef, pinned: &PinnedDag) {
        // An attempt that is new and ended at once was never queued.
        if let Some(AttemptState::Queued { since }) = run.attempt(reference).map(|a| &a.state) {
            self.queued
                .push(QueuedRow::new(run, reference, pinned, *since));
            self.then.is_claimable = true;
        }
    }

    /// Adds the row of a run; `before` is when it was due before.
    pub(crate) fn add_run(
        &mut self,
        run: &Run,
        wake_at: Option<Timestamp>,
        before: Option<Timestamp>,
    ) {
        self.runs.push(RunRow::new(run, wake_at));
        self.add_due(wake_at, before);
    }

    /// Adds when a run is due. A planner that sleeps until an earlier time needs no wake.
    pub(crate) fn add_due(&mut self, at: Option<Timestamp>, before: Option<Timestamp>) {
        self.then.is_due_earlier |= at.is_some_and(|at| before.is_none_or(|before| at < before));
    }

    /// Adds that a run has ended now.
    pub(crate) fn add_run_end(&mut self, outcome: Outcome, pinned: &PinnedDag) {
        self.then.runs_finished.push(outcome);
        if pinned.dag.declared().concurrency.limit.is_some() {
            self.then.judge.insert(pinned.dag_id);
        }
    }

    /// Adds the answer about a run, and its state after the transaction.
    pub(crate) fn add_answer(&mut self, run: RunId, known: CachedRun, advanced: Advanced) {
        self.then.known.push((run, known));
        self.then.answers.insert(run, Ok(advanced));
    }

    /// Adds that a run cannot be read or planned. The other runs of the transaction continue.
    pub(crate) fn add_failure(&mut self, run: RunId, error: Error) {
        self.then.answers.insert(run, Err(error));
    }

    pub(crate) fn add_end_taken(&mut self, attempt: AttemptId, taken: EndTaken) {
        self.then.ends.insert(attempt, taken);
    }

    pub(crate) fn end_taken(&self, attempt: AttemptId) -> Option<EndTaken> {
        self.then.ends.get(&attempt).copied()
    }

    /// Adds that the waiting attempts were offered capacity in the same transaction: only other daemons can have more
    /// to do, if `some_wait`.
    pub(crate) fn add_offer(&mut self, some_wait: bool) {
        self.then.offered = Some(some_wait || self.then.offered == Some(true));
    }

    /// Writes all rows that were added since the last write.
    ///
    /// # Errors
    /// `Contention` where an attempt is no longer in the state that the step saw.
    pub(crate) async fn write(&mut self, connection: &mut PgConnection) -> Result<()> {
        if self.events.is_empty() && self.runs.is_empty() {
            return Ok(());
        }
        let attempts = docs(std::mem::take(&mut self.attempts).into_values());
        let expected = attempts.len();
        let written = sqlx::query_scalar!(
            r#"with
            stages as (
                update stage_run s
                set state = u.state, until = u.until, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, finished_at = u.finished_at, image = u.image
                from unnest($1::jsonb[]) as doc cross join jsonb_to_record(doc) as u (
                    run bigint, position integer, state text, until timestamptz, finished_at timestamptz, outcome text,
                    reason_code text, reason_message text, image text)
                where s.run = u.run and s.position = u.position
            ),
            attempts as (
                update attempt a
                set state = case when u.finished_at is null then a.state else 'finished' end,
                    finished_at = u.finished_at, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, stop_requested_at = u.stop_at, stop_code = u.stop_code,
                    stop_message = u.stop_message, removed = a.claimed_at is null
                from unnest($2::jsonb[]) as doc cross join jsonb_to_record(doc) as u (
                    run bigint, stage integer, number integer, held boolean, finished_at timestamptz, outcome text,
                    reason_code text, reason_message text, stop_at timestamptz, stop_code text, stop_message text)
                where a.run = u.run and a.stage = u.stage and a.number = u.number
                    and case when u.held then a.state in ('claimed', 'running') else a.state = 'queued' end
                returning 1
            ),
            queued as (
                insert into attempt (id, repo, run, stage, number, state, pools, queued_at)
                select u.id, u.repo, u.run, u.stage, u.number, 'queued', u.pools, u.queued_at
                from unnest($3::jsonb[]) as doc cross join jsonb_to_record(doc) as u (
                    id uuid, repo uuid, run bigint, stage integer, number integer, pools jsonb, queued_at timestamptz)
            ),
            runs as (
                update run r
                set phase = u.phase, started_at = coalesce(r.started_at, u.started_at),
                    finished_at = u.finished_at, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, cancel_at = u.cancel_at, cancel_by = u.cancel_by,
                    cancel_actor = u.cancel_actor, cancel_newer = u.cancel_newer,
                    cancel_force = u.cancel_force, stages_finished = u.stages_finished,
                    stages_failed = u.stages_failed, wake_at = u.wake_at, version = r.version + 1
                from unnest($4::jsonb[]) as doc cross join jsonb_to_record(doc) as u (
                    id bigint, phase text, started_at timestamptz, finished_at timestamptz, outcome text,
                    reason_code text, reason_message text, cancel_at timestamptz, cancel_by text, cancel_actor text,
                    cancel_newer bigint, cancel_force boolean, stages_finished integer, stages_failed integer,
                    wake_at timestamptz)
                where r.id = u.id
            ),
            events as (
                insert into run_event (run, at, kind, stage, attempt, detail)
                select u.run, u.at, u.kind, u.stage, u.attempt, u.detail
                from unnest($5::jsonb[]) with ordinality as rows (doc, place) cross join jsonb_to_record(doc) as u (
                    run bigint, at timestamptz, kind text, stage integer, attempt integer, detail jsonb)
                order by rows.place
            )
            select count(*) as "attempts!" from attempts"#,
            docs(std::mem::take(&mut self.stages).into_values()) as _,
            attempts as _,
            docs(std::mem::take(&mut self.queued)) as _,
            docs(std::mem::take(&mut self.runs)) as _,
            docs(std::mem::take(&mut self.events)) as _,
        )
        .fetch_one(&mut *connection)
        .await?;
        if usize::try_from(written) != Ok(expected) {
            return Err(Error::Contention(None));
        }
        std::mem::take(&mut self.metrics).write(connection).await
    }

    /// Commits the transaction.
    pub(crate) async fn commit(
        self,
        transaction: Transaction<'static, Postgres>,
        point: Point,
    ) -> Result<Committed> {
        transaction.commit().at(point).await?;
        Ok(self.then)
    }
}

/// What happened in a step, in order.
fn events_of(step: &Step) -> impl Iterator<Item = Event> {
    let decided = step.effects.iter().cloned().map(Event::Planned);
    step.applied.iter().cloned().chain(decided)
}

impl Committed {
    /// Counts the ends, updates the memory, and wakes the listeners concerned.
    pub(crate) async fn settle(&self, core: &Arc<Core>) {
        for outcome in &self.attempts_finished {
            ATTEMPTS_FINISHED.add_for(outcome.as_str(), 1);
        }
        for outcome in &self.runs_finished {
            RUNS_FINISHED.add_for(outcome.as_str(), 1);
        }
        for (id, known) in &self.known {
            if known.run.is_finished() {
                core.runs.remove(*id);
            } else {
                core.runs.put(*id, known.clone(), known.bytes());
            }
        }
        let wakes = &core.wakes;
        match self.offered {
            Some(true) => wakes.dispatch.wake_others(),
            Some(false) => {}
            None if self.is_claimable => wakes.dispatch.wake(),
            None => {}
        }
        if self.is_stop_requested {
            wakes.supervise.wake();
        }
        if self.is_due_earlier {
            wakes.plan.wake();
        }
        for (id, _) in &self.known {
            wakes.topics.changed(Topic::Run(*id));
        }
        // Once for each DAG: runs that were cancelled together all end at the same time.
        for dag in &self.judge {
            // A failure here costs time, not correctness: waiting runs are planned again.
            if let Err(error) = Box::pin(crate::runs::overlap::judge_dag(core, *dag)).await {
                tracing::warn!(
                    %error, dag.id = %dag,
                    "could not apply the concurrency rule to waiting runs; they are planned again"
                );
            }
        }
    }
}
