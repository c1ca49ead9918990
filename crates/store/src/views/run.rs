//! One run in full: its stages, their attempts, its history.

use std::collections::BTreeMap;
use std::sync::Arc;

use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, RunId};
use trainyard_core::name::ParamName;
use trainyard_core::outcome::{Outcome, Reason};
use trainyard_core::param::ParamValue;
use trainyard_core::run::{AttemptState, Run, StageRun, StageState};

use crate::db::encoding;
use crate::db::encoding::event::place;
use crate::db::error::{Error, Result};
use crate::runs::state::{CachedRun, held_attempts, load_runs, overlay};
use crate::store::Store;
use crate::triggers::dags::PinnedDag;
use crate::views::artifacts::ArtifactView;
use crate::views::runs::RunSummary;

/// A run with all details.
#[derive(Debug, Clone)]
pub struct RunDetail {
    pub summary: RunSummary,
    pub params: BTreeMap<ParamName, ParamValue>,
    /// Its stages, in the order of the file.
    pub stages: Vec<StageView>,
    /// The DAG version that it pins.
    pub pinned: Arc<PinnedDag>,
    /// Its state, for questions that the core answers: what a stage is waiting for.
    pub run: Arc<Run>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StageView {
    pub name: String,
    /// The names of the stages that it needs.
    pub needs: Vec<String>,
    /// Its state in one word: `waiting`, `queued`, `starting`, `running`, `backing_off`, or its outcome.
    pub state: &'static str,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
    /// The reason, where there is one.
    pub reason: Option<Reason>,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Its image, by digest where Docker knows one.
    pub image: Option<String>,
    /// The earlier run whose result it reuses.
    pub reused_from: Option<RunId>,
    /// The metrics of its last ended attempt.
    pub metrics: BTreeMap<String, f64>,
    /// Its attempts, in order.
    pub attempts: Vec<AttemptView>,
    pub artifacts: Vec<ArtifactView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    pub id: AttemptId,
    /// Its number within its stage, from 1.
    pub number: u32,
    /// Its state in one word: `queued`, `starting`, `running`, or its outcome.
    pub state: &'static str,
    pub queued_at: Timestamp,
    /// When a daemon claimed it.
    pub claimed_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    /// The reason, where there is one.
    pub reason: Option<Reason>,
    /// Why it was asked to stop, if it was.
    pub stop: Option<Reason>,
    pub executor: Option<String>,
    /// The host of the daemon that holds it, or held it last.
    pub host: Option<String>,
    pub handle: Option<String>,
    pub image: Option<String>,
    /// How many bytes of log it wrote.
    pub log_length: u64,
    /// How many of these bytes are not kept, in how many records; 0 records where that is not known.
    pub log_dropped: (u64, u64),
    /// When retention deleted its log, if it did.
    pub log_pruned_at: Option<Timestamp>,
    /// Notes about its source tree and inputs.
    pub notes: Vec<String>,
}

/// An event of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEvent {
    /// Its place in the history of all runs.
    pub id: i64,
    pub at: Timestamp,
    /// The kind of event: `attempt_finished`.
    pub kind: String,
    /// The stage's name, if it is about one.
    pub stage: Option<String>,
    /// The attempt's number, if it is about one.
    pub attempt: Option<u32>,
    pub detail: Option<serde_json::Value>,
}

impl Store {
    /// A run's state now, and the DAG version that it pins.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn run_state(&self, run: RunId) -> Result<(Arc<Run>, Arc<PinnedDag>)> {
        let mut snapshot = self
            .core
            .pool
            .begin_with("begin isolation level repeatable read read only")
            .await?;
        let CachedRun {
            run: state, pinned, ..
        } = load_runs(&self.core, &mut snapshot, &[run.0])
            .await?
            .remove(&run)
            .ok_or_else(|| Error::not_found(format!("run {run}")))??;
        let held = held_attempts(&mut snapshot, &[run.0])
            .await?
            .remove(&run)
            .unwrap_or_default();
        snapshot.commit().await?;
        let mut state = Arc::unwrap_or_clone(state);
        overlay(&mut state, &held);
        Ok((Arc::new(state), pinned))
    }

    /// A run in full.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn run_detail(&self, run: RunId) -> Result<RunDetail> {
        let summary = self.run_summary(run).await?;
        let (state, pinned) = self.run_state(run).await?;
        let mut attempts = self.attempts_of(run).await?;
        let mut artifacts: BTreeMap<String, Vec<ArtifactView>> = BTreeMap::new();
        for artifact in self.list_artifacts(run).await? {
            artifacts
                .entry(artifact.stage.clone())
                .or_default()
                .push(artifact);
        }
        let stages = pinned
            .dag
            .indices()
            .zip(&state.stages)
            .map(|(index, stage)| {
                let declared = pinned.dag.stage(index);
                let attempts = attempts.remove(&place(index)).unwrap_or_default();
                let artifacts = artifacts.remove(declared.name.as_str()).unwrap_or_default();
                let needs = declared.needs.iter().map(ToString::to_string).collect();
                stage_view(declared.name.to_string(), needs, stage, attempts, artifacts)
            });
        let stages = stages.collect();
        Ok(RunDetail {
            summary,
            params: state.facts.params.clone(),
            stages,
            pinned,
            run: state,
        })
    }

    /// The events of a run, in order, after a known event (0 for all).
    pub async fn run_events(&self, run: RunId, after: i64, limit: u32) -> Result<Vec<RunEvent>> {
        let rows = sqlx::query!(
            r#"select e.id, e.at, e.kind, s.name as "stage?", e.attempt, e.detail
            from run_event e left join stage_run s on s.run = e.run and s.position = e.stage
            where e.run = $1 and e.id > $2 order by e.id limit $3"#,
            run.0,
            after,
            i64::from(limit)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| RunEvent {
                id: row.id,
                at: row.at,
                kind: row.kind,
                stage: row.stage,
                attempt: row.attempt.and_then(|number| u32::try_from(number).ok()),
                detail: row.detail,
            })
            .collect())
    }

    /// The last attempt of a stage, for its log; `None` where it has none yet.
    ///
    /// # Errors
    /// `NotFound` for an unknown run or stage, with the stages that the run has.
    pub async fn last_attempt(&self, run: RunId, stage: &str) -> Result<Option<AttemptId>> {
        let rows = sqlx::query!(
            r#"select s.name, a.id as "id?" from stage_run s
            left join lateral (
                select id from attempt where run = s.run and stage = s.position order by number desc limit 1
            ) a on true
            where s.run = $1 order by s.position"#,
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        if rows.is_empty() {
            return Err(Error::not_found(format!("run {run}")));
        }
        match rows.iter().find(|row| row.name == stage) {
            Some(row) => Ok(row.id.map(AttemptId)),
            None => {
                let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
                Err(Error::not_found(format!(
                    "stage `{stage}` in run {run}; it has {}",
                    names.join(", ")
                )))
            }
        }
    }

    async fn attempts_of(&self, run: RunId) -> Result<BTreeMap<i32, Vec<AttemptView>>> {
        let rows = sqlx::query!(
            r#"select a.id, a.stage, a.number, a.state, a.queued_at, a.claimed_at, a.started_at, a.finished_at,
                a.outcome, a.reason_code, a.reason_message, a.stop_code, a.stop_message, a.executor, a.handle,
                a.image, a.notes, d.host as "host?", l.length as "log_length?",
                l.dropped as "log_dropped?", l.dropped_lines as "log_dropped_lines?", l.pruned_at as "log_pruned_at?"
            from attempt a left join daemon d on d.id = a.owner left join attempt_log l on l.attempt = a.id
            where a.run = $1 order by a.stage, a.number"#,
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut attempts: BTreeMap<i32, Vec<AttemptView>> = BTreeMap::new();
        for row in rows {
            let what = || format!("attempt {}", row.id);
            let outcome = row
                .outcome
                .map(|word| encoding::outcome(&word, what))
                .transpose()?;
            let live = match &*row.state {
                "claimed" => AttemptState::STARTING,
                "running" => AttemptState::RUNNING,
                _ => AttemptState::QUEUED,
            };
            attempts.entry(row.stage).or_default().push(AttemptView {
                id: AttemptId(row.id),
                number: u32::try_from(row.number).unwrap_or_default(),
                state: outcome.map_or(live, Outcome::as_str),
                queued_at: row.queued_at,
                claimed_at: row.claimed_at,
                started_at: row.started_at,
                finished_at: row.finished_at,
                outcome,
                reason: encoding::reason(row.reason_code, row.reason_message),
                stop: encoding::reason(row.stop_code, row.stop_message),
                executor: row.executor,
                host: row.host,
                handle: row.handle,
                image: row.image,
                log_length: row.log_length.unwrap_or(0).unsigned_abs(),
                log_dropped: (
                    row.log_dropped.unwrap_or(0).unsigned_abs(),
                    row.log_dropped_lines.unwrap_or(0).unsigned_abs(),
                ),
                log_pruned_at: row.log_pruned_at,
                notes: row
                    .notes
                    .iter()
                    .flat_map(|notes| notes.lines().map(ToOwned::to_owned))
                    .collect(),
            });
        }
        Ok(attempts)
    }
}

fn stage_view(
    name: String,
    needs: Vec<String>,
    stage: &StageRun,
    attempts: Vec<AttemptView>,
    artifacts: Vec<ArtifactView>,
) -> StageView {
    let (finished_at, reason) = match &stage.state {
        StageState::Finished { at, reason, .. } => (Some(*at), reason.clone()),
        StageState::Waiting | StageState::Active | StageState::BackingOff { .. } => (None, None),
    };
    StageView {
        name,
        needs,
        state: stage.word(),
        outcome: stage.outcome(),
        reason,
        started_at: attempts.iter().find_map(|attempt| attempt.started_at),
        finished_at,
        image: stage.image.clone(),
        reused_from: stage.reused_from,
        metrics: stage
            .metrics
            .iter()
            .map(|(name, value)| (name.to_string(), *value))
            .collect(),
        attempts,
        artifacts,
    }
}
