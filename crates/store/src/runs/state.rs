//! The state of a run, read from its rows.
//!
//! A state in memory is current while its `version` is the row's. The version does not count changes that only
//! the holder of an attempt makes (claimed, started, its image): these are in the attempt's row alone, and are
//! laid over the state whenever it is used ([`overlay`]). So a claim needs no lock on the run, and a busy run
//! is not read again for each of its stages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, DagVersionId, Fence, RunId};
use trainyard_core::name::MetricName;
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::run::{
    Attempt, AttemptRef, AttemptState, Cancel, CancelledBy, Run, RunFacts, RunPhase, StageRun,
    StageState,
};
use trainyard_core::stage::StageIndex;

use crate::db::encoding;
use crate::db::encoding::param::ValuesDoc;
use crate::db::error::{Error, Result};
use crate::store::Core;
use crate::triggers::dags::{PinnedDag, pinned_all};

/// A run as of one version of its row.
#[derive(Debug, Clone)]
pub(crate) struct CachedRun {
    pub(crate) version: i64,
    pub(crate) run: Arc<Run>,
    pub(crate) pinned: Arc<PinnedDag>,
}

/// About how many bytes the state of a stage takes, and each of its metrics.
const STAGE_BYTES: usize = 1024;
const METRIC_BYTES: usize = 64;

impl CachedRun {
    /// About how many bytes it takes, with its DAG.
    pub(crate) fn bytes(&self) -> usize {
        let stages = self.run.stages.iter();
        let stages = stages.map(|stage| STAGE_BYTES + METRIC_BYTES * stage.metrics.len());
        self.pinned.bytes + stages.sum::<usize>()
    }
}

/// An attempt that a daemon holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) id: AttemptId,
    pub(crate) reference: AttemptRef,
    pub(crate) fence: Fence,
    pub(crate) claimed_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) image: Option<String>,
}

/// The held attempts of some runs.
pub(crate) async fn held_attempts(
    connection: &mut PgConnection,
    runs: &[i64],
) -> Result<HashMap<RunId, Vec<Held>>> {
    let rows = sqlx::query!(
        "select id, run, stage, number, fence as \"fence!\", claimed_at as \"claimed_at!\", started_at, image
         from attempt where run = any($1) and state in ('claimed', 'running')",
        runs
    )
    .fetch_all(connection)
    .await?;
    let mut held: HashMap<RunId, Vec<Held>> = HashMap::new();
    for row in rows {
        held.entry(RunId(row.run)).or_default().push(Held {
            id: AttemptId(row.id),
            reference: reference(row.stage, row.number),
            fence: Fence(row.fence),
            claimed_at: row.claimed_at,
            started_at: row.started_at,
            image: row.image,
        });
    }
    Ok(held)
}

/// Lays the changes of the attempts' holders over a run's state.
pub(crate) fn overlay(run: &mut Run, held: &[Held]) {
    for stage in &mut run.stages {
        // Only the last attempt can be live. If it was held and is not any more, it was given back.
        if let Some(last) = stage.attempts.last_mut()
            && let AttemptState::Claimed { since } | AttemptState::Running { since } = last.state
        {
            last.state = AttemptState::Queued { since };
        }
    }
    for held in held {
        let Some(stage) = run.stages.get_mut(held.reference.stage.0) else {
            continue;
        };
        let place = held.reference.number.saturating_sub(1) as usize;
        let Some(attempt) = stage.attempts.get_mut(place) else {
            continue;
        };
        match held.started_at {
            Some(since) => {
                attempt.state = AttemptState::Running { since };
                stage.image.clone_from(&held.image);
            }
            None => {
                attempt.state = AttemptState::Claimed {
                    since: held.claimed_at,
                }
            }
        }
    }
}

/// Reads runs. A run that cannot be read, or not by this daemon, is an error of its own; a run that does not exist is
/// missing.
///
/// The caller holds the runs' locks, or a snapshot.
pub(crate) async fn load_runs(
    core: &Core,
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<HashMap<RunId, Result<CachedRun>>> {
    let rows = sqlx::query!(
        "select r.id, r.dag_version, r.params, r.logical_time, r.phase, r.outcome, r.reason_code,
             r.reason_message, r.cancel_at, r.cancel_by, r.cancel_actor, r.cancel_newer, r.cancel_force,
             r.started_at, r.finished_at, r.version, r.format, c.kind as cause, c.commit, c.branch
         from run r join cause c on c.id = r.cause where r.id = any($1)",
        ids
    )
    .fetch_all(&mut *connection)
    .await?;
    let versions: Vec<DagVersionId> = rows
        .iter()
        .map(|row| DagVersionId(row.dag_version))
        .collect();
    let mut dags = pinned_all(core, connection, &versions).await?;
    let mut stages = load_stages(connection, ids).await?;
    let mut runs = HashMap::new();
    for row in rows {
        let id = RunId(row.id);
        let what = || format!("run {id}");
        if let Err(error) = encoding::readable(row.format, what) {
            runs.insert(id, Err(error));
            continue;
        }
        let version = DagVersionId(row.dag_version);
        let pinned = match dags.get(&version) {
            Some(Ok(pinned)) => Arc::clone(pinned),
            Some(Err(_)) => {
                // Only one run can own the error itself; the others get a short one.
                let error = match dags.remove(&version) {
                    Some(Err(Error::LaterFormat { format, .. })) => Error::corrupt(
                        what(),
                        format!(
                            "its DAG version has format {format}, and it has {}",
                            row.format
                        ),
                    ),
                    Some(Err(error)) => error,
                    Some(Ok(_)) | None => Error::corrupt(what(), "its DAG version cannot be read"),
                };
                runs.insert(id, Err(error));
                continue;
            }
            None => {
                runs.insert(
                    id,
                    Err(Error::corrupt(what(), "its DAG version cannot be read")),
                );
                continue;
            }
        };
        let loaded = (|| {
            let doc = encoding::read::<ValuesDoc>(row.params, what)?;
            let facts = RunFacts {
                id,
                repo: Some(pinned.repo_name.clone()),
                dag: pinned.dag.name().clone(),
                cause: row.cause,
                commit: row.commit,
                branch: row.branch,
                logical_time: row.logical_time,
                params: encoding::param::values(doc)
                    .map_err(|problem| Error::corrupt(what(), problem))?,
            };
            let outcome = row
                .outcome
                .map(|word| encoding::outcome(&word, what))
                .transpose()?;
            let reason = encoding::reason(row.reason_code, row.reason_message);
            let phase = match (row.phase.as_str(), row.started_at, row.finished_at, outcome) {
                ("queued", ..) => RunPhase::Queued,
                ("running", Some(since), ..) => RunPhase::Running { since },
                ("finished", _, Some(at), Some(outcome)) => RunPhase::Finished {
                    at,
                    outcome,
                    reason,
                },
                (phase, ..) => {
                    return Err(Error::corrupt(
                        what(),
                        format!("phase `{phase}` without its times"),
                    ));
                }
            };
            let cancel = row.cancel_at.map(|at| {
                let by = match (row.cancel_actor, row.cancel_newer) {
                    (Some(actor), _) => CancelledBy::Actor(actor),
                    (None, Some(newer)) => CancelledBy::Newer(RunId(newer)),
                    (None, None) => CancelledBy::Timeout,
                };
                Cancel {
                    at,
                    by,
                    force: row.cancel_force,
                }
            });
            let stages = stages.remove(&id).unwrap_or_else(|| Ok(Vec::new()))?;
            if stages.len() != pinned.dag.stages().len() {
                return Err(Error::corrupt(
                    what(),
                    "its stages are not those of its DAG version",
                ));
            }
            let run = Arc::new(Run {
                facts,
                phase,
                cancel,
                stages,
            });
            Ok(CachedRun {
                version: row.version,
                run,
                pinned,
            })
        })();
        runs.insert(id, loaded);
    }
    Ok(runs)
}

async fn load_stages(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<HashMap<RunId, Result<Vec<StageRun>>>> {
    let mut attempts = load_attempts(connection, ids).await?;
    let mut metrics = load_metrics(connection, ids).await?;
    let rows = sqlx::query!(
        "select run, position, state, until, outcome, reason_code, reason_message, finished_at, image, reused_from
         from stage_run where run = any($1) order by run, position",
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut runs: HashMap<RunId, Result<Vec<StageRun>>> = HashMap::new();
    for row in rows {
        let key = (row.run, row.position);
        let what = || format!("stage #{} of run {}", row.position, row.run);
        let stage = (|| {
            let outcome = row
                .outcome
                .map(|word| encoding::outcome(&word, what))
                .transpose()?;
            let reason = encoding::reason(row.reason_code, row.reason_message);
            let state = match (row.state.as_str(), row.until, row.finished_at, outcome) {
                ("waiting", ..) => StageState::Waiting,
                ("active", ..) => StageState::Active,
                ("backing_off", Some(until), ..) => StageState::BackingOff { until },
                ("finished", _, Some(at), Some(outcome)) => StageState::Finished {
                    at,
                    outcome,
                    reason,
                },
                (state, ..) => {
                    return Err(Error::corrupt(
                        what(),
                        format!("state `{state}` without its times"),
                    ));
                }
            };
            Ok(StageRun {
                state,
                attempts: attempts.remove(&key).unwrap_or_else(|| Ok(Vec::new()))?,
                metrics: metrics
                    .remove(&key)
                    .unwrap_or_else(|| Ok(BTreeMap::new()))?,
                image: row.image,
                reused_from: row.reused_from.map(RunId),
            })
        })();
        let stages = runs.entry(RunId(row.run)).or_insert_with(|| Ok(Vec::new()));
        match (stages.as_mut(), stage) {
            (Ok(list), Ok(stage)) => list.push(stage),
            (Ok(_), Err(error)) => *stages = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(runs)
}

type AttemptsByStage = HashMap<(i64, i32), Result<Vec<Attempt>>>;

async fn load_attempts(connection: &mut PgConnection, ids: &[i64]) -> Result<AttemptsByStage> {
    let rows = sqlx::query!(
        "select id, run, stage, number, state, queued_at, claimed_at, started_at, finished_at, outcome, reason_code,
             reason_message, stop_requested_at, stop_code, stop_message
         from attempt where run = any($1) order by run, stage, number",
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut attempts: AttemptsByStage = HashMap::new();
    for row in rows {
        let what = || format!("attempt {}", row.id);
        let attempt = (|| {
            let outcome = row
                .outcome
                .map(|word| encoding::outcome(&word, what))
                .transpose()?;
            let reason = encoding::reason(row.reason_code, row.reason_message);
            let stop = encoding::reason(row.stop_code, row.stop_message);
            let state = attempt_state(
                &row.state,
                row.queued_at,
                row.claimed_at,
                row.started_at,
                row.finished_at,
                outcome,
                reason,
            )
            .ok_or_else(|| {
                Error::corrupt(what(), format!("state `{}` without its times", row.state))
            })?;
            Ok(Attempt {
                state,
                stop: row.stop_requested_at.zip(stop),
            })
        })();
        let list = attempts
            .entry((row.run, row.stage))
            .or_insert_with(|| Ok(Vec::new()));
        match (list.as_mut(), attempt) {
            // The holder of an attempt finds it by its number.
            (Ok(earlier), Ok(_)) if usize::try_from(row.number) != Ok(earlier.len() + 1) => {
                let problem = format!("its number is {}, after {}", row.number, earlier.len());
                *list = Err(Error::corrupt(what(), problem));
            }
            (Ok(list), Ok(attempt)) => list.push(attempt),
            (Ok(_), Err(error)) => *list = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(attempts)
}

fn attempt_state(
    state: &str,
    queued_at: Timestamp,
    claimed_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
) -> Option<AttemptState> {
    Some(match state {
        "queued" => AttemptState::Queued { since: queued_at },
        "claimed" => AttemptState::Claimed { since: claimed_at? },
        "running" => AttemptState::Running { since: started_at? },
        "finished" => AttemptState::Finished {
            at: finished_at?,
            outcome: outcome?,
            reason,
        },
        _ => return None,
    })
}

/// A metric that cannot be read is an error of its own run, not of the other runs.
type MetricsByStage = HashMap<(i64, i32), Result<BTreeMap<MetricName, f64>>>;

/// The metrics of the last attempt of each stage that ended; number 0 holds reused ones.
async fn load_metrics(connection: &mut PgConnection, ids: &[i64]) -> Result<MetricsByStage> {
    let rows = sqlx::query!(
        "select m.run, m.stage, m.name, m.value
         from metric m
         left join (
             select run, stage, max(number) as number from attempt
             where run = any($1) and state = 'finished' group by run, stage
         ) last on last.run = m.run and last.stage = m.stage
         where m.run = any($1) and m.attempt = coalesce(last.number, 0)",
        ids
    )
    .fetch_all(connection)
    .await?;
    let mut metrics: MetricsByStage = HashMap::new();
    for row in rows {
        let of_stage = metrics
            .entry((row.run, row.stage))
            .or_insert_with(|| Ok(BTreeMap::new()));
        match (of_stage.as_mut(), MetricName::new(row.name)) {
            (Ok(values), Ok(name)) => {
                values.insert(name, row.value);
            }
            (Ok(_), Err(fault)) => {
                let what = format!("a metric of run {}", row.run);
                *of_stage = Err(Error::corrupt(what, fault));
            }
            (Err(_), _) => {}
        }
    }
    Ok(metrics)
}

/// An attempt's place from its columns, which a CHECK keeps from being negative.
pub(crate) fn reference(stage: i32, number: i32) -> AttemptRef {
    AttemptRef {
        stage: StageIndex(usize::try_from(stage).unwrap_or(usize::MAX)),
        number: u32::try_from(number).unwrap_or(u32::MAX),
    }
}
