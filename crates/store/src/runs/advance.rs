//! `advance`: takes facts about runs, lets the core decide, and stores the facts and the decisions.
//!
//! All in one transaction: lock the runs, take the transaction's time, read what their attempts' holders
//! wrote, let the core apply and plan, write the difference. Several runs can be advanced at once; their
//! locks are taken in the order of their ids.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Effect, Event};
use trainyard_core::id::{AttemptId, DagId, Fence, RunId};
use trainyard_core::outcome::Outcome;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_core::run::{AttemptRef, Run, RunPhase};
use trainyard_core::transition::{Illegal, Step};
use trainyard_failpoint::Point;

use crate::access::audit::{self, Audited};
use crate::attempts::abandon::GivingUp;
use crate::care::quarantine::Subject;
use crate::db::error::{Error, Result, repeated};
use crate::runs::draft::Draft;
use crate::runs::lock::{LockedRun, lock_runs};
use crate::runs::state::{CachedRun, load_runs, overlay};
use crate::runs::step::take_step;
use crate::store::{Core, Store};
use crate::triggers::dags::PinnedDag;

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

/// What a transaction is to take in about one run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Input {
    pub(crate) events: Vec<Event>,
    pub(crate) ends: Vec<(AttemptId, Fence, AttemptEnd)>,
    pub(crate) giving_up: Option<GivingUp>,
    /// Who asks for it; `None` for what no principal asks for.
    pub(crate) act: Option<Act>,
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

impl Store {
    /// Records events of a run, and decides and records what follows.
    ///
    /// Claims, starts and ends of attempts do not go through here: they carry fences and have calls of their own, and
    /// so does abandoning. Without events it only plans; that is always safe.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn advance(&self, run: RunId, events: &[Event]) -> Result<Advanced> {
        let input = Input {
            events: events.to_vec(),
            ..Input::default()
        };
        self.advance_by(run, &input).await
    }

    pub(crate) async fn advance_by(&self, run: RunId, input: &Input) -> Result<Advanced> {
        let result = repeated(|| self.try_advance(run, input)).await;
        if let Some((reason, weight)) = result.as_ref().err().and_then(Error::fault) {
            self.record_trouble(Subject::Run(run), "planning", &reason, weight)
                .await?;
        }
        result
    }

    async fn try_advance(&self, run: RunId, input: &Input) -> Result<Advanced> {
        let mut transaction = self.core.begin().await?;
        let mut draft = Draft::default();
        let work = BTreeMap::from([(run, input.clone())]);
        advance_in(&self.core, &mut transaction, &mut draft, work).await?;
        let mut committed = draft.commit(transaction, Point::AdvanceRun).await?;
        committed.settle(&self.core).await;
        let advanced = committed.answers.remove(&run);
        advanced.unwrap_or_else(|| Err(Error::not_found(format!("run {run}"))))
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

/// Advances runs within the caller's transaction.
pub(crate) async fn advance_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    mut work: BTreeMap<RunId, Input>,
) -> Result<()> {
    let ids: Vec<i64> = work.keys().map(|run| run.0).collect();
    let (locked, mut held) = lock_runs(connection, &ids).await?;
    let Some(now) = locked.iter().map(|run| run.now).max() else {
        return Ok(());
    };
    let mut known = known_runs(core, connection, &locked).await?;
    let mut unmatched = Vec::new();
    for locked in locked {
        let id = locked.id;
        let (Some(input), Some(known)) = (work.remove(&id), known.remove(&id)) else {
            continue;
        };
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                draft.add_failure(id, error);
                continue;
            }
        };
        let held = held.remove(&id).unwrap_or_default();
        let mut events = input.events;
        for (attempt, fence, end) in input.ends {
            match held.iter().find(|held| held.id == attempt) {
                Some(held) if held.fence == fence => {
                    draft.add_end_taken(attempt, EndTaken::Now(id, held.reference));
                    events.push(Event::AttemptFinished {
                        attempt: held.reference,
                        end,
                    });
                }
                Some(_) => draft.add_end_taken(attempt, EndTaken::Fenced),
                None => unmatched.push((attempt, fence)),
            }
        }
        if let Some(giving_up) = &input.giving_up {
            events.extend(giving_up.events(connection, id).await?);
        }
        let mut run = Run::clone(&known.run);
        overlay(&mut run, &held);
        match take_step(&known.pinned, &mut run, &events, now) {
            Ok(step) => {
                if let Some(act) = &input.act {
                    audit_step(connection, act, id, &known.pinned, &step).await?;
                }
                add_step(draft, &locked, known, run, step, now);
            }
            Err(error) => draft.add_failure(id, error),
        }
    }
    draft.write(connection).await?;
    classify_ends(connection, unmatched, draft).await
}

/// Records who cancelled or abandoned a run, unless that was refused.
async fn audit_step(
    connection: &mut PgConnection,
    act: &Act,
    run: RunId,
    pinned: &PinnedDag,
    step: &Step,
) -> Result<()> {
    let action = step.applied.iter().find_map(|event| match event {
        Event::CancelRequested { .. } => Some(AuditAction::RunCancel),
        Event::AttemptAbandoned { .. } => Some(AuditAction::RunAbandon),
        _ => None,
    });
    let Some(action) = action else {
        return Ok(());
    };
    let audited = Audited {
        action,
        subject: Some(&run.to_string()),
        repo: Some(pinned.repo_name.as_str()),
        detail: json!({"dag": pinned.full_name()}),
    };
    audit::record(connection, act, audited).await
}

/// Adds what a step did to a run, and the answer to the caller.
fn add_step(
    draft: &mut Draft,
    locked: &LockedRun,
    mut known: CachedRun,
    run: Run,
    step: Step,
    now: Timestamp,
) {
    let wake_at = step.due(&run, locked.wake_at, now).map(whole_micros);
    let is_abandoned = |event: &&Event| matches!(event, Event::AttemptAbandoned { .. });
    let lost = step.applied.iter().filter(is_abandoned).count();
    let has_changed = !step.applied.is_empty() || !step.effects.is_empty();
    if has_changed || wake_at != locked.wake_at {
        draft.add(&run, &known.pinned, &step, now);
        draft.add_run(&run, wake_at, locked.wake_at);
        if let Some(outcome) = run.outcome().filter(|_| !known.run.is_finished()) {
            draft.add_run_end(outcome, &known.pinned);
        }
        known.version = locked.version + 1;
        known.run = Arc::new(run);
    }
    let advanced = Advanced {
        effects: step.effects,
        refused: step.refused,
        lost,
        finished: known.run.outcome(),
        queued: known.run.phase == RunPhase::Queued,
    };
    draft.add_answer(locked.id, known, advanced);
}

/// The runs' states, from memory where it is current.
async fn known_runs(
    core: &Core,
    connection: &mut PgConnection,
    locked: &[LockedRun],
) -> Result<HashMap<RunId, Result<CachedRun>>> {
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
    draft: &mut Draft,
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
        let taken = match before {
            true => EndTaken::Before,
            false => EndTaken::Fenced,
        };
        draft.add_end_taken(attempt, taken);
    }
    Ok(())
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
