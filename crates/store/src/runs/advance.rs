//! `advance`: takes facts about runs, lets the core decide, and stores the facts and the decisions.
//!
//! All in one transaction: lock the runs, take the transaction's time, read what their attempts' holders
//! wrote, let the core apply and plan, write the difference. Several runs can be advanced at once; their
//! locks are taken in the order of their ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Effect, Event};
use trainyard_core::id::{AttemptId, DagId, Fence, RunId};
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptRef, AttemptState, Run, RunPhase};
use trainyard_core::transition::Illegal;
use trainyard_failpoint::{Effect as _, Point};

use crate::attempts::abandon::GivingUp;
use crate::care::quarantine::Subject;
use crate::db::error::{Error, Result, repeated};
use crate::fleet::figures::{ATTEMPTS_FINISHED, RUNS_FINISHED};
use crate::runs::change::Changes;
use crate::runs::lock::{LockedRun, lock_runs};
use crate::runs::metrics::MetricColumns;
use crate::runs::state::{KnownRun, load_runs, overlay};
use crate::runs::step::take_step;
use crate::store::{Core, Store};

/// How long a queued run waits until it is planned again without a wake.
const QUEUED_LOOK: Duration = Duration::from_secs(60);

/// The result of advancing a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Advanced {
    /// The decisions of the core.
    pub effects: Vec<Effect>,
    /// Events that did not fit and changed nothing: late, or reported twice.
    pub refused: Vec<Illegal>,
    /// How many attempts were abandoned and count as lost now.
    pub lost: usize,
    /// How the run ended, if it has ended now.
    pub finished: Option<Outcome>,
    /// Whether the run still waits for its DAG's concurrency rule.
    pub queued: bool,
}

/// The facts about one run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Facts {
    pub(crate) events: Vec<Event>,
    pub(crate) ends: Vec<(AttemptId, Fence, AttemptEnd)>,
    pub(crate) giving_up: Option<GivingUp>,
}

/// How the end of an attempt was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndTaken {
    /// It is recorded now.
    Now(RunId, AttemptRef),
    /// It was recorded before, under the same claim.
    Before,
    /// Another claim holds the attempt.
    Fenced,
}

/// The result of advancing several runs. Nothing outside of the transaction has changed until it is
/// [settled](Progress::settle), after the commit.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) runs: HashMap<RunId, Result<Advanced>>,
    pub(crate) ends: HashMap<AttemptId, EndTaken>,
    pub(crate) known: Vec<(RunId, KnownRun)>,
    /// How many attempts have begun to wait for capacity.
    pub(crate) queued: usize,
    pub(crate) ended: usize,
    pub(crate) stop_requested: bool,
    pub(crate) wake_set: bool,
    /// DAGs with a limit, a run of which has ended.
    pub(crate) judge: Vec<DagId>,
    pub(crate) attempts_finished: Vec<Outcome>,
    pub(crate) runs_finished: Vec<Outcome>,
}

impl Store {
    /// Records events of a run, and decides and records what follows.
    ///
    /// Claims, starts and ends of attempts do not go through here: they carry fences and have calls of their own, and
    /// so does abandoning. Without events it only plans; that is always safe.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn advance(&self, run: RunId, events: &[Event]) -> Result<Advanced> {
        let facts = Facts {
            events: events.to_vec(),
            ..Facts::default()
        };
        self.advance_by(run, &facts).await
    }

    pub(crate) async fn advance_by(&self, run: RunId, facts: &Facts) -> Result<Advanced> {
        let result = repeated(|| self.try_advance(run, facts)).await;
        if let Some((reason, weight)) = result.as_ref().err().and_then(Error::fault) {
            self.record_trouble(Subject::Run(run), "planning", &reason, weight)
                .await?;
        }
        result
    }

    async fn try_advance(&self, run: RunId, facts: &Facts) -> Result<Advanced> {
        let mut transaction = self.core.begin().await?;
        let work = BTreeMap::from([(run, facts.clone())]);
        let mut progress = advance_in(&self.core, &mut transaction, work).await?;
        transaction.commit().at(Point::AdvanceRun).await?;
        let advanced = progress
            .runs
            .remove(&run)
            .unwrap_or_else(|| Err(Error::not_found(format!("run {run}"))));
        progress.settle(&self.core).await;
        advanced
    }

    /// Plans a run that is due: decides what follows for it and, where it waits for its
    /// DAG's concurrency rule, applies that rule.
    ///
    /// # Errors
    /// As [`Store::advance`].
    pub async fn plan(&self, run: RunId) -> Result<Advanced> {
        let advanced = self.advance(run, &[]).await?;
        if advanced.queued {
            let dag = sqlx::query!("select dag from run where id = $1", run.0)
                .fetch_one(&self.core.pool)
                .await?;
            self.judge_overlap(DagId(dag.dag)).await?;
        }
        Ok(advanced)
    }
}

impl Progress {
    /// Notes that the waiting attempts were offered capacity in the same transaction:
    /// only other daemons can have more to do.
    pub(crate) fn admitted(&mut self, core: &Core, some_wait: bool) {
        (self.queued, self.ended) = (0, 0);
        if some_wait {
            core.wakes.dispatch.wake_others();
        }
    }

    /// Updates the memory with what was committed, and wakes the listeners concerned.
    pub(crate) async fn settle(self, core: &Arc<Core>) {
        for outcome in &self.attempts_finished {
            ATTEMPTS_FINISHED.add_for(outcome.as_str(), 1);
        }
        for outcome in &self.runs_finished {
            RUNS_FINISHED.add_for(outcome.as_str(), 1);
        }
        for (id, known) in self.known {
            if known.run.is_finished() {
                core.runs.remove(id);
            } else {
                core.runs.put(id, known);
            }
        }
        let wakes = &core.wakes;
        if self.queued > 0 || self.ended > 0 {
            wakes.dispatch.wake();
        }
        if self.stop_requested {
            wakes.supervise.wake();
        }
        if self.wake_set {
            wakes.plan.wake();
        }
        if self.runs.values().any(Result::is_ok) {
            wakes.runs.wake();
        }
        // Once for each DAG: runs that were cancelled together all end at the same time.
        for dag in self.judge.into_iter().collect::<BTreeSet<_>>() {
            // A failure here costs time, not correctness: waiting runs are planned again.
            if let Err(error) = Box::pin(crate::runs::overlap::judge_dag(core, dag)).await {
                tracing::warn!(
                    %error, dag.id = %dag,
                    "could not apply the concurrency rule to waiting runs; they are planned again"
                );
            }
        }
    }
}

/// Advances runs within the caller's transaction.
pub(crate) async fn advance_in(
    core: &Core,
    connection: &mut PgConnection,
    work: BTreeMap<RunId, Facts>,
) -> Result<Progress> {
    let ids: Vec<i64> = work.keys().map(|run| run.0).collect();
    let (locked, mut held) = lock_runs(connection, &ids).await?;
    let mut progress = Progress::default();
    let Some(now) = locked.iter().map(|run| run.now).max() else {
        return Ok(progress);
    };
    let mut known = known_runs(core, connection, &locked).await?;
    let mut changes = Changes::default();
    let mut metrics = MetricColumns::default();
    let mut unmatched = Vec::new();
    for (id, facts) in work {
        let Some(locked) = locked.iter().find(|run| run.id == id) else {
            continue;
        };
        let known = match known.remove(&id) {
            Some(Ok(known)) => known,
            Some(Err(error)) => {
                progress.runs.insert(id, Err(error));
                continue;
            }
            None => continue,
        };
        let held = held.remove(&id).unwrap_or_default();
        let mut events = facts.events;
        let mut ended = Vec::new();
        for (attempt, fence, end) in facts.ends {
            match held.iter().find(|held| held.id == attempt) {
                Some(held) if held.fence == fence => {
                    progress
                        .ends
                        .insert(attempt, EndTaken::Now(id, held.reference));
                    metrics.add(id, held.reference, &end);
                    ended.push(held.reference);
                    events.push(Event::AttemptFinished {
                        attempt: held.reference,
                        end,
                    });
                }
                Some(_) => {
                    progress.ends.insert(attempt, EndTaken::Fenced);
                }
                None => unmatched.push((attempt, fence)),
            }
        }
        let mut run = Run::clone(&known.run);
        overlay(&mut run, &held);
        let mut lost = Vec::new();
        if let Some(giving_up) = &facts.giving_up {
            for event in giving_up.events(connection, id).await? {
                if let Event::AttemptAbandoned { attempt, .. } = &event {
                    lost.push(*attempt);
                }
                events.push(event);
            }
        }
        let mut stepped = match take_step(&known.pinned, &mut run, &events, now) {
            Ok(stepped) => stepped,
            Err(error) => {
                progress.runs.insert(id, Err(error));
                continue;
            }
        };
        lost.retain(|attempt| outcome_of(&run, *attempt).is_some());
        stepped.advanced.lost = lost.len();
        ended.extend(lost);
        progress.attempts_finished.extend(
            ended
                .into_iter()
                .filter_map(|attempt| outcome_of(&run, attempt)),
        );
        let wake_at = match &run.phase {
            RunPhase::Queued => Some(
                locked
                    .wake_at
                    .filter(|at| *at > now)
                    .unwrap_or(now + QUEUED_LOOK),
            ),
            RunPhase::Running { .. } => stepped.wake_at.map(whole_micros),
            RunPhase::Finished { .. } => None,
        };
        stepped.advanced.finished = run.outcome();
        stepped.advanced.queued = run.phase == RunPhase::Queued;
        if !stepped.events.is_empty() || wake_at != locked.wake_at {
            changes.add_events(id, now, stepped.events);
            changes.add_run(&run, &stepped.touched, &known.pinned, wake_at);
            // A planner that sleeps until an earlier time needs no wake.
            progress.wake_set |=
                wake_at.is_some_and(|at| locked.wake_at.is_none_or(|before| at < before));
            let version = locked.version + 1;
            let pinned = Arc::clone(&known.pinned);
            let finished = run.is_finished();
            if !known.run.is_finished() {
                progress.runs_finished.extend(run.outcome());
            }
            if finished && pinned.dag.declared().concurrency.limit.is_some() {
                progress.judge.push(pinned.dag_id);
            }
            progress.queued += stepped.touched.queued.len();
            progress.ended += stepped.touched.attempts.len();
            progress.stop_requested |= stepped.touched.stop_requested;
            progress.known.push((
                id,
                KnownRun {
                    version,
                    run: Arc::new(run),
                    pinned,
                },
            ));
        } else {
            progress.known.push((id, known));
        }
        progress.runs.insert(id, Ok(stepped.advanced));
    }
    if !progress.known.is_empty() {
        changes.write(connection).await?;
        metrics.write(connection).await?;
    }
    classify_ends(connection, unmatched, &mut progress).await?;
    Ok(progress)
}

/// The runs' states, from memory where it is current.
async fn known_runs(
    core: &Core,
    connection: &mut PgConnection,
    locked: &[LockedRun],
) -> Result<HashMap<RunId, Result<KnownRun>>> {
    let mut known = HashMap::new();
    let mut unknown = Vec::new();
    for run in locked {
        match core
            .runs
            .get(run.id)
            .filter(|known| known.version == run.version)
        {
            Some(current) => {
                known.insert(run.id, Ok(current));
            }
            None => unknown.push(run.id.0),
        }
    }
    if !unknown.is_empty() {
        known.extend(load_runs(core, connection, &unknown).await?);
    }
    Ok(known)
}

/// Separates ends that were recorded before from those that come too late.
async fn classify_ends(
    connection: &mut PgConnection,
    unmatched: Vec<(AttemptId, Fence)>,
    progress: &mut Progress,
) -> Result<()> {
    if unmatched.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = unmatched.iter().map(|(attempt, _)| attempt.0).collect();
    let rows = sqlx::query!(
        "select id, fence from attempt where id = any($1) and state = 'finished'",
        &ids
    )
    .fetch_all(connection)
    .await?;
    for (attempt, fence) in unmatched {
        let before = rows
            .iter()
            .any(|row| row.id == attempt.0 && row.fence == Some(fence.0));
        progress.ends.insert(
            attempt,
            if before {
                EndTaken::Before
            } else {
                EndTaken::Fenced
            },
        );
    }
    Ok(())
}

fn outcome_of(run: &Run, attempt: AttemptRef) -> Option<Outcome> {
    match run.attempt(attempt)?.state {
        AttemptState::Finished { outcome, .. } => Some(outcome),
        AttemptState::Queued { .. }
        | AttemptState::Claimed { .. }
        | AttemptState::Running { .. } => None,
    }
}

/// Postgres keeps microseconds. Rounded up, so that a run is never woken before its time.
pub(crate) fn whole_micros(at: Timestamp) -> Timestamp {
    let beyond = at.timestamp_subsec_nanos() % 1_000;
    if beyond == 0 {
        at
    } else {
        at + Duration::from_nanos(u64::from(1_000 - beyond))
    }
}
