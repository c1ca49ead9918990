//! The difference that a step made to runs, written in one statement.
//!
//! 1. The changes of all runs of a transaction are gathered in columns and passed to Postgres as arrays: one round
//!    trip, however many stages moved.
//! 2. An attempt's row is changed only if it is still in the state that the step saw. If a claim came in between, the
//!    count of rows shows it, and the transaction is repeated.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::event::{Effect, Event};
use trainyard_core::id::RunId;
use trainyard_core::run::{AttemptRef, AttemptState, CancelledBy, Run, RunPhase};
use trainyard_core::stage::StageIndex;
use uuid::Uuid;

use crate::db::encoding::event::{EventRow, number, place};
use crate::db::encoding::reason_columns;
use crate::db::error::{Error, Result};
use crate::runs::columns::{AttemptColumns, EventColumns, QueuedColumns, RunColumns, StageColumns};
use crate::triggers::dags::PinnedDag;

/// Which parts of one run's state changed.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) stages: BTreeSet<StageIndex>,
    /// Attempts that ended or were asked to stop, and whether they were held before.
    pub(crate) attempts: BTreeSet<(AttemptRef, bool)>,
    pub(crate) queued: BTreeSet<AttemptRef>,
    pub(crate) stop_requested: bool,
}

impl Touched {
    /// Records what an applied event touched.
    pub(crate) fn note(&mut self, event: &Event, run: &Run) {
        match event {
            Event::RunStarted | Event::CancelRequested { .. } => {}
            Event::RunSkipped { .. } => {
                self.stages.extend((0..run.stages.len()).map(StageIndex));
            }
            // The attempt's holder writes these itself.
            Event::AttemptClaimed(_) | Event::AttemptReleased(_) | Event::AttemptStarted { .. } => {
            }
            Event::TimeoutPassed(attempt) => {
                self.attempts.insert((*attempt, true));
                self.stop_requested = true;
            }
            Event::AttemptFinished { attempt, .. } | Event::AttemptAbandoned { attempt, .. } => {
                self.attempts.insert((*attempt, true));
                self.stages.insert(attempt.stage);
            }
            Event::Planned(effect) => self.note_effect(effect),
        }
    }

    fn note_effect(&mut self, effect: &Effect) {
        match effect {
            Effect::TimeOutRun | Effect::FinishRun { .. } => {}
            Effect::QueueAttempt(attempt) => {
                self.queued.insert(*attempt);
                self.stages.insert(attempt.stage);
            }
            Effect::BackOff { stage, .. } | Effect::FinishStage { stage, .. } => {
                self.stages.insert(*stage);
            }
            Effect::RequestStop { attempt, .. } => {
                self.attempts.insert((*attempt, true));
                self.stop_requested = true;
            }
            Effect::WithdrawAttempt { attempt, .. } => {
                self.attempts.insert((*attempt, false));
            }
        }
    }
}

/// All changes of one transaction, in columns.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    stages: StageColumns,
    attempts: AttemptColumns,
    queued: QueuedColumns,
    runs: RunColumns,
    events: EventColumns,
}

/// How many stages of a run ended, and how many of them in a way that counts as failure.
pub(crate) fn stage_counts(run: &Run) -> (i32, i32) {
    let (mut finished, mut failed) = (0, 0);
    for outcome in run
        .stages
        .iter()
        .filter_map(trainyard_core::run::StageRun::outcome)
    {
        finished += 1;
        failed += i32::from(outcome.is_failure());
    }
    (finished, failed)
}

impl Changes {
    /// Adds the changed parts of a run whose row exists.
    pub(crate) fn add_run(
        &mut self,
        run: &Run,
        touched: &Touched,
        pinned: &PinnedDag,
        wake_at: Option<Timestamp>,
    ) {
        for index in &touched.stages {
            self.stages.add(run, *index);
        }
        for (reference, held) in &touched.attempts {
            self.add_attempt(run, *reference, *held);
        }
        self.add_queued(run, touched, pinned);
        self.add_run_row(run, wake_at);
    }

    /// Adds the attempts that were queued. An attempt that is new and ended at once was never queued.
    pub(crate) fn add_queued(&mut self, run: &Run, touched: &Touched, pinned: &PinnedDag) {
        for reference in &touched.queued {
            let Some(AttemptState::Queued { since }) =
                run.attempt(*reference).map(|attempt| &attempt.state)
            else {
                continue;
            };
            let stage = pinned.dag.stage(reference.stage);
            let pools = (!stage.program().pools.is_empty()).then(|| {
                stage
                    .program()
                    .pools
                    .iter()
                    .map(|(name, slots)| (name.to_string(), Value::from(*slots)))
                    .collect()
            });
            self.queued.id.push(Uuid::now_v7());
            self.queued.repo.push(pinned.repo.0);
            self.queued.run.push(run.facts.id.0);
            self.queued.stage.push(place(reference.stage));
            self.queued.number.push(number(*reference));
            self.queued.pools.push(pools);
            self.queued.queued_at.push(*since);
        }
    }

    /// Adds rows of history, recorded at a given time.
    pub(crate) fn add_events(&mut self, run: RunId, at: Timestamp, events: Vec<EventRow>) {
        for event in events {
            self.events.run.push(run.0);
            self.events.at.push(event.at.unwrap_or(at));
            self.events.kind.push(event.kind.to_owned());
            self.events.stage.push(event.stage);
            self.events.attempt.push(event.attempt);
            self.events.detail.push(event.detail);
        }
    }

    fn add_attempt(&mut self, run: &Run, reference: AttemptRef, held: bool) {
        let Some(attempt) = run.attempt(reference) else {
            return;
        };
        let ended = match &attempt.state {
            AttemptState::Finished {
                at,
                outcome,
                reason,
            } => Some((*at, *outcome, reason.as_ref())),
            AttemptState::Queued { .. }
            | AttemptState::Claimed { .. }
            | AttemptState::Running { .. } => None,
        };
        let columns = &mut self.attempts;
        columns.run.push(run.facts.id.0);
        columns.stage.push(place(reference.stage));
        columns.number.push(number(reference));
        columns.held.push(held);
        columns.finished_at.push(ended.map(|(at, ..)| at));
        columns
            .outcome
            .push(ended.map(|(_, outcome, _)| outcome.as_str().to_owned()));
        let (code, message) = reason_columns(ended.and_then(|(.., reason)| reason));
        columns.reason_code.push(code);
        columns.reason_message.push(message);
        let (code, message) = reason_columns(attempt.stop.as_ref().map(|(_, why)| why));
        columns
            .stop_at
            .push(attempt.stop.as_ref().map(|(at, _)| *at));
        columns.stop_code.push(code);
        columns.stop_message.push(message);
    }

    fn add_run_row(&mut self, run: &Run, wake_at: Option<Timestamp>) {
        let columns = &mut self.runs;
        let (finished, failed) = stage_counts(run);
        columns.id.push(run.facts.id.0);
        columns.stages_finished.push(finished);
        columns.stages_failed.push(failed);
        columns.wake_at.push(wake_at);
        let (phase, started, ended) = match &run.phase {
            RunPhase::Queued => ("queued", None, None),
            RunPhase::Running { since } => ("running", Some(*since), None),
            RunPhase::Finished {
                at,
                outcome,
                reason,
            } => ("finished", None, Some((*at, *outcome, reason.as_ref()))),
        };
        columns.phase.push(phase.to_owned());
        columns.started_at.push(started);
        columns.finished_at.push(ended.map(|(at, ..)| at));
        columns
            .outcome
            .push(ended.map(|(_, outcome, _)| outcome.as_str().to_owned()));
        let (code, message) = reason_columns(ended.and_then(|(.., reason)| reason));
        columns.reason_code.push(code);
        columns.reason_message.push(message);
        let cancel = run.cancel.as_ref();
        columns.cancel_at.push(cancel.map(|cancel| cancel.at));
        columns
            .cancel_force
            .push(cancel.is_some_and(|cancel| cancel.force));
        let (by, actor, newer) = match cancel.map(|cancel| &cancel.by) {
            None => (None, None, None),
            Some(CancelledBy::Actor(name)) => (Some("actor"), Some(name.clone()), None),
            Some(CancelledBy::Newer(run)) => (Some("newer"), None, Some(run.0)),
            Some(CancelledBy::Timeout) => (Some("timeout"), None, None),
        };
        columns.cancel_by.push(by.map(ToOwned::to_owned));
        columns.cancel_actor.push(actor);
        columns.cancel_newer.push(newer);
    }

    /// Writes all changes.
    ///
    /// # Errors
    /// `Contention` where an attempt is no longer in the state that the step saw.
    pub(crate) async fn write(self, connection: &mut PgConnection) -> Result<()> {
        let Self {
            stages,
            attempts,
            queued,
            runs,
            events,
        } = self;
        let expected = attempts.run.len();
        let written = sqlx::query!(
            r#"with
            stages as (
                update stage_run s
                set state = u.state, until = u.until, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, finished_at = u.finished_at, image = u.image
                from unnest($1::bigint[], $2::integer[], $3::text[], $4::timestamptz[], $5::text[], $6::text[],
                    $7::text[], $8::timestamptz[], $9::text[])
                    as u (run, position, state, until, outcome, reason_code, reason_message, finished_at, image)
                where s.run = u.run and s.position = u.position
            ),
            attempts as (
                update attempt a
                set state = case when u.finished_at is null then a.state else 'finished' end,
                    finished_at = u.finished_at, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, stop_requested_at = u.stop_at, stop_code = u.stop_code,
                    stop_message = u.stop_message, removed = a.claimed_at is null
                from unnest($10::bigint[], $11::integer[], $12::integer[], $13::boolean[], $14::timestamptz[],
                    $15::text[], $16::text[], $17::text[], $18::timestamptz[], $19::text[], $20::text[])
                    as u (run, stage, number, held, finished_at, outcome, reason_code, reason_message, stop_at,
                        stop_code, stop_message)
                where a.run = u.run and a.stage = u.stage and a.number = u.number
                    and case when u.held then a.state in ('claimed', 'running') else a.state = 'queued' end
                returning 1
            ),
            queued as (
                insert into attempt (id, repo, run, stage, number, state, pools, queued_at)
                select u.id, u.repo, u.run, u.stage, u.number, 'queued', u.pools, u.queued_at
                from unnest($21::uuid[], $22::uuid[], $23::bigint[], $24::integer[], $25::integer[], $26::jsonb[],
                    $27::timestamptz[])
                    as u (id, repo, run, stage, number, pools, queued_at)
            ),
            runs as (
                update run r
                set phase = u.phase, started_at = coalesce(r.started_at, u.started_at),
                    finished_at = u.finished_at, outcome = u.outcome, reason_code = u.reason_code,
                    reason_message = u.reason_message, cancel_at = u.cancel_at, cancel_by = u.cancel_by,
                    cancel_actor = u.cancel_actor, cancel_newer = u.cancel_newer,
                    cancel_force = u.cancel_force, stages_finished = u.stages_finished,
                    stages_failed = u.stages_failed, wake_at = u.wake_at, version = r.version + 1
                from unnest($28::bigint[], $29::text[], $30::timestamptz[], $31::timestamptz[], $32::text[],
                    $33::text[], $34::text[], $35::timestamptz[], $36::text[], $37::text[], $38::bigint[],
                    $39::boolean[], $40::integer[], $41::integer[], $42::timestamptz[])
                    as u (id, phase, started_at, finished_at, outcome, reason_code, reason_message, cancel_at,
                        cancel_by, cancel_actor, cancel_newer, cancel_force, stages_finished, stages_failed, wake_at)
                where r.id = u.id
            ),
            events as (
                insert into run_event (run, at, kind, stage, attempt, detail)
                select u.run, u.at, u.kind, u.stage, u.attempt, u.detail
                from unnest($43::bigint[], $44::timestamptz[], $45::text[], $46::integer[], $47::integer[],
                    $48::jsonb[]) with ordinality as u (run, at, kind, stage, attempt, detail, place)
                order by u.place
            )
            select count(*) as "attempts!" from attempts"#,
            &stages.run,
            &stages.position,
            &stages.state,
            &stages.until as &[Option<Timestamp>],
            &stages.outcome as &[Option<String>],
            &stages.reason_code as &[Option<String>],
            &stages.reason_message as &[Option<String>],
            &stages.finished_at as &[Option<Timestamp>],
            &stages.image as &[Option<String>],
            &attempts.run,
            &attempts.stage,
            &attempts.number,
            &attempts.held,
            &attempts.finished_at as &[Option<Timestamp>],
            &attempts.outcome as &[Option<String>],
            &attempts.reason_code as &[Option<String>],
            &attempts.reason_message as &[Option<String>],
            &attempts.stop_at as &[Option<Timestamp>],
            &attempts.stop_code as &[Option<String>],
            &attempts.stop_message as &[Option<String>],
            &queued.id,
            &queued.repo,
            &queued.run,
            &queued.stage,
            &queued.number,
            &queued.pools as &[Option<Value>],
            &queued.queued_at,
            &runs.id,
            &runs.phase,
            &runs.started_at as &[Option<Timestamp>],
            &runs.finished_at as &[Option<Timestamp>],
            &runs.outcome as &[Option<String>],
            &runs.reason_code as &[Option<String>],
            &runs.reason_message as &[Option<String>],
            &runs.cancel_at as &[Option<Timestamp>],
            &runs.cancel_by as &[Option<String>],
            &runs.cancel_actor as &[Option<String>],
            &runs.cancel_newer as &[Option<i64>],
            &runs.cancel_force,
            &runs.stages_finished,
            &runs.stages_failed,
            &runs.wake_at as &[Option<Timestamp>],
            &events.run,
            &events.at,
            &events.kind,
            &events.stage as &[Option<i32>],
            &events.attempt as &[Option<i32>],
            &events.detail as &[Option<Value>],
        )
        .fetch_one(connection)
        .await?;
        if usize::try_from(written.attempts) == Ok(expected) {
            Ok(())
        } else {
            Err(Error::Contention(None))
        }
    }
}
