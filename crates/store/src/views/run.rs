//! One run in full: its stages, their attempts, its history.

use std::collections::BTreeMap;
use std::sync::Arc;

use trainyard_api::{Artifact, Attempt, RunDetail, RunEvent, Stage, json_values, text_bytes};
use trainyard_core::id::{AttemptId, RunId};
use trainyard_core::outcome::Outcome;
use trainyard_core::run::{AttemptState, Run, StageRun, StageState};
use trainyard_core::stage as core_stage;
use trainyard_core::why::{why, why_not_started};

use crate::attempts::claim::ClaimCapacity;
use crate::db::encoding;
use crate::db::encoding::event::place;
use crate::db::error::{Error, Result};
use crate::runs::state::{CachedRun, held_attempts, load_runs, overlay};
use crate::store::Store;
use crate::triggers::dags::PinnedDag;

/// The attempt that a log is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logged {
    /// The attempt and its number; `None` where the stage has none yet.
    pub attempt: Option<(AttemptId, u32)>,
    /// Whether the stage has ended, so that no further attempt follows.
    pub stage_is_over: bool,
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

    /// A run in full. `capacity` is what the configuration says that stages share.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn run_detail(&self, run: RunId, capacity: &ClaimCapacity) -> Result<RunDetail> {
        let summary = self.run_summary(run).await?;
        let (state, pinned) = self.run_state(run).await?;
        let queue = self.queue(run, pinned.dag_id, capacity).await?;
        let mut attempts = self.attempts_of(run).await?;
        let mut artifacts: BTreeMap<String, Vec<Artifact>> = BTreeMap::new();
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
                let why = why(&pinned.dag, &state, index, &queue);
                let attempts = attempts.remove(&place(index)).unwrap_or_default();
                let artifacts = artifacts.remove(declared.name.as_str()).unwrap_or_default();
                shown(declared, stage, why, attempts, artifacts)
            })
            .collect();
        Ok(RunDetail {
            params: json_values(&state.facts.params),
            group: pinned
                .dag
                .declared()
                .concurrency
                .group_of(&state.facts_of_cause()),
            stages,
            summary,
        })
    }

    /// What keeps a run from its start, in words; `None` where it has started or ended.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn why_not_started(
        &self,
        run: RunId,
        capacity: &ClaimCapacity,
    ) -> Result<Option<String>> {
        let (state, pinned) = self.run_state(run).await?;
        let queue = self.queue(run, pinned.dag_id, capacity).await?;
        Ok(why_not_started(&pinned.dag, &state, &queue))
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

    /// An attempt of a stage, for its log: the last one, or the one with this number.
    ///
    /// # Errors
    /// `NotFound` for an unknown run, stage or attempt, with the stages that the run has.
    pub async fn logged(&self, run: RunId, stage: &str, number: Option<u32>) -> Result<Logged> {
        let number = number.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
        let rows = sqlx::query!(
            r#"select s.name, s.outcome is not null as "is_over!", a.id as "id?", a.number as "number?"
            from stage_run s
            left join lateral (
                select id, number from attempt
                where run = s.run and stage = s.position and s.name = $2 and ($3::integer is null or number = $3)
                order by number desc limit 1
            ) a on true
            where s.run = $1 order by s.position"#,
            run.0,
            stage,
            number
        )
        .fetch_all(&self.core.reading)
        .await?;
        if rows.is_empty() {
            return Err(Error::not_found(format!("run {run}")));
        }
        let Some(row) = rows.iter().find(|row| row.name == stage) else {
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            return Err(Error::not_found(format!(
                "stage `{stage}` in run {run}; it has {}",
                names.join(", ")
            )));
        };
        let attempt = row.id.zip(row.number);
        if let (Some(number), None) = (number, attempt) {
            return Err(Error::not_found(format!(
                "attempt {number} of stage `{stage}` in run {run}"
            )));
        }
        Ok(Logged {
            attempt: attempt
                .map(|(id, number)| (AttemptId(id), u32::try_from(number).unwrap_or_default())),
            stage_is_over: row.is_over,
        })
    }

    async fn attempts_of(&self, run: RunId) -> Result<BTreeMap<i32, Vec<Attempt>>> {
        let rows = sqlx::query!(
            r#"select a.id, a.stage, a.number, a.state, a.queued_at, a.started_at, a.finished_at, a.outcome,
                a.reason_code, a.reason_message, a.executor, a.handle, a.notes, d.host as "host?",
                l.length as "log_length?", l.dropped as "log_dropped?", l.dropped_lines as "log_dropped_lines?",
                l.pruned_at as "log_pruned_at?"
            from attempt a left join daemon d on d.id = a.owner left join attempt_log l on l.attempt = a.id
            where a.run = $1 order by a.stage, a.number"#,
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut attempts: BTreeMap<i32, Vec<Attempt>> = BTreeMap::new();
        for row in rows {
            let what = || format!("attempt {}", row.id);
            let outcome = row
                .outcome
                .map(|word| encoding::outcome(&word, what))
                .transpose()?;
            let dropped_lines = row.log_dropped_lines.unwrap_or(0).unsigned_abs();
            attempts.entry(row.stage).or_default().push(Attempt {
                notes: row
                    .notes
                    .iter()
                    .flat_map(|notes| notes.lines().map(ToOwned::to_owned))
                    .collect(),
                number: u32::try_from(row.number).unwrap_or_default(),
                id: AttemptId(row.id).to_string(),
                state: outcome
                    .map_or(live_word(&row.state), Outcome::as_str)
                    .to_owned(),
                reason: encoding::reason(row.reason_code, row.reason_message).map(Into::into),
                queued_at: row.queued_at,
                started_at: row.started_at,
                finished_at: row.finished_at,
                executor: row.executor,
                host: row.host,
                container: row.handle,
                log_bytes: row.log_length.unwrap_or(0).unsigned_abs(),
                log_dropped_bytes: text_bytes(
                    row.log_dropped.unwrap_or(0).unsigned_abs(),
                    dropped_lines,
                ),
                log_dropped_lines: dropped_lines,
                log_removed_at: row.log_pruned_at,
            });
        }
        Ok(attempts)
    }
}

/// The state of an attempt that has not ended, as people and programs see it.
pub(crate) fn live_word(stored: &str) -> &'static str {
    match stored {
        "claimed" => AttemptState::STARTING,
        "running" => AttemptState::RUNNING,
        _ => AttemptState::QUEUED,
    }
}

/// A stage of a run, with these attempts and artifacts.
fn shown(
    declared: &core_stage::Stage,
    stage: &StageRun,
    why: String,
    attempts: Vec<Attempt>,
    artifacts: Vec<Artifact>,
) -> Stage {
    let (finished_at, reason) = match &stage.state {
        StageState::Finished { at, reason, .. } => (Some(*at), reason.clone()),
        StageState::Waiting | StageState::Active | StageState::BackingOff { .. } => (None, None),
    };
    let started_at = attempts.iter().find_map(|attempt| attempt.started_at);
    let duration = started_at
        .zip(finished_at)
        .map(|(start, end)| (end - start).as_seconds_f64().max(0.0));
    Stage {
        name: declared.name.to_string(),
        needs: declared.needs.iter().map(ToString::to_string).collect(),
        state: stage.word().to_owned(),
        reason: reason.map(Into::into),
        why,
        started_at,
        finished_at,
        duration_seconds: duration,
        image: stage.image.clone(),
        reused_from: stage.reused_from.map(|run| run.0),
        metrics: stage
            .metrics
            .iter()
            .map(|(name, value)| (name.to_string(), *value))
            .collect(),
        attempts,
        artifacts,
    }
}
