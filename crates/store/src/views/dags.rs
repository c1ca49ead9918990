//! DAGs as they are shown: their versions, their next ticks, their last runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use trainyard_core::Timestamp;
use trainyard_core::id::{DagId, DagVersionId, RepoId, RunId};
use trainyard_core::name::ParamName;
use trainyard_core::outcome::RunState;
use trainyard_core::param::ParamValue;

use crate::db::encoding;
use crate::db::encoding::param::{ValuesDoc, values};
use crate::db::error::{Error, Result};
use crate::store::Store;
use crate::triggers::dags::PinnedDag;

/// A DAG in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagSummary {
    pub id: DagId,
    pub repo: String,
    pub repo_id: RepoId,
    pub name: String,
    pub path: String,
    /// Whether its triggers are paused.
    pub paused: bool,
    /// Its version at the head of the followed branch; `None` where the branch does not have it, or no longer has it.
    pub version: Option<DagVersionId>,
    pub commit: Option<String>,
    /// Whether its file has errors at the head of a branch: then the version is the last good one.
    pub has_faults: bool,
    /// The format of its version, where it is a later one than this daemon reads.
    pub later_format: Option<u32>,
    /// Since when its repo's syncs have failed: later pushes are not known.
    pub sync_failing_since: Option<Timestamp>,
    /// Its next tick, paused or not.
    pub next_tick: Option<Timestamp>,
    pub last_run: Option<LastRun>,
    /// How many runs of it have not ended.
    pub active_runs: u32,
}

/// A DAG's newest run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRun {
    pub id: RunId,
    pub state: RunState,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// A DAG with all details.
#[derive(Debug, Clone)]
pub struct DagDetail {
    pub summary: DagSummary,
    /// Its version at the head of the followed branch.
    pub pinned: Option<Arc<PinnedDag>>,
    pub source: Option<String>,
    pub schedules: Vec<ScheduleView>,
    /// Faults of its file at heads of branches.
    pub faults: Vec<FaultView>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleView {
    pub cron: String,
    pub timezone: String,
    /// The rule for missed ticks: `none`, `last`, `all`.
    pub missed: String,
    pub params: BTreeMap<ParamName, ParamValue>,
    pub next_tick: Option<Timestamp>,
}

/// A DAG file with errors.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultView {
    pub repo: String,
    pub commit: String,
    /// The branches whose head this commit is; the followed one comes first.
    pub branches: Vec<String>,
    pub path: String,
    /// Its diagnostics, as they were recorded.
    pub diagnostics: serde_json::Value,
    pub found_at: Timestamp,
}

impl Store {
    /// All DAGs, of one repo or of all, by name.
    ///
    /// # Errors
    /// `Corrupt`.
    pub async fn list_dags(&self, repo: Option<RepoId>) -> Result<Vec<DagSummary>> {
        self.summaries(repo, None).await
    }

    /// One DAG in full.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn dag_detail(&self, dag: DagId) -> Result<DagDetail> {
        let summary = self
            .summaries(None, Some(dag))
            .await?
            .pop()
            .ok_or_else(|| Error::not_found("such DAG"))?;
        let (pinned, source) = match summary.version {
            None => (None, None),
            Some(version) => {
                let row = sqlx::query!("select source from dag_version where id = $1", version.0)
                    .fetch_one(&self.core.reading)
                    .await?;
                (Some(self.dag_version(version).await?), Some(row.source))
            }
        };
        let schedules = self.schedules(dag).await?;
        let mut faults = self.list_faults(Some(summary.repo_id)).await?;
        faults.retain(|fault| fault.path == summary.path);
        Ok(DagDetail {
            summary,
            pinned,
            source,
            schedules,
            faults,
        })
    }

    /// The schedules of a DAG, in the order of the file.
    ///
    /// # Errors
    /// `Corrupt`.
    pub async fn schedules(&self, dag: DagId) -> Result<Vec<ScheduleView>> {
        let rows = sqlx::query!(
            "select cron, timezone, missed, params, next_tick from schedule where dag = $1 order by position",
            dag.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        rows.into_iter()
            .map(|row| {
                let what = || format!("a schedule of DAG {dag}");
                let doc = encoding::read::<ValuesDoc>(row.params, what)?;
                Ok(ScheduleView {
                    cron: row.cron,
                    timezone: row.timezone,
                    missed: row.missed,
                    params: values(doc).map_err(|problem| Error::corrupt(what(), problem))?,
                    next_tick: row.next_tick,
                })
            })
            .collect()
    }

    /// DAG files with errors at the heads of branches, of one repo or of all.
    pub async fn list_faults(&self, repo: Option<RepoId>) -> Result<Vec<FaultView>> {
        let faults = sqlx::query_as!(
            FaultView,
            r#"select p.name as repo, f.commit, f.path, f.diagnostics, f.found_at,
                array(
                    select branch from repo_ref where repo = f.repo and sha = f.commit
                    order by branch is distinct from p.current_branch, branch
                ) as "branches!"
             from dag_fault f join repo p on p.id = f.repo
             where ($1::uuid is null or f.repo = $1)
                and exists (select from repo_ref where repo = f.repo and sha = f.commit)
             order by p.name, exists (
                    select from repo_ref where repo = f.repo and sha = f.commit and branch = p.current_branch
                ) desc, f.path, f.commit"#,
            repo.map(|repo| repo.0)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(faults)
    }

    async fn summaries(&self, repo: Option<RepoId>, dag: Option<DagId>) -> Result<Vec<DagSummary>> {
        let rows = sqlx::query!(
            r#"select d.id, p.name as repo, p.id as repo_id, d.name, d.path, d.paused, p.failing_since,
                v.id as "version?",
                v.commit as "commit?", v.format as "format?",
                exists (
                    select from dag_fault f join repo_ref h on h.repo = f.repo and h.sha = f.commit
                    where f.repo = d.repo and f.path = d.path
                ) as "has_faults!",
                (select min(next_tick) from schedule where dag = d.id) as next_tick,
                l.id as "last?", l.state as "last_state?", l.created_at as "last_created_at?", l.finished_at,
                (select count(*) from run where dag = d.id and phase <> 'finished') as "active!"
            from dag d join repo p on p.id = d.repo
            left join dag_version v on v.id = d.current_version
            left join lateral (
                select id, state, created_at, finished_at from run where dag = d.id order by id desc limit 1
            ) l on true
            where ($1::uuid is null or d.repo = $1) and ($2::uuid is null or d.id = $2)
            order by p.name, d.name"#,
            repo.map(|repo| repo.0),
            dag.map(|dag| dag.0)
        )
        .fetch_all(&self.core.reading)
        .await?;
        rows.into_iter()
            .map(|row| {
                let last_run = match (row.last, row.last_state, row.last_created_at) {
                    (Some(id), Some(word), Some(created_at)) => Some(LastRun {
                        id: RunId(id),
                        state: RunState::from_word(&word).ok_or_else(|| {
                            Error::corrupt(format!("run {id}"), format!("`{word}` is not a state"))
                        })?,
                        created_at,
                        finished_at: row.finished_at,
                    }),
                    _ => None,
                };
                Ok(DagSummary {
                    id: DagId(row.id),
                    repo: row.repo,
                    repo_id: RepoId(row.repo_id),
                    name: row.name,
                    path: row.path,
                    paused: row.paused,
                    version: row.version.map(DagVersionId),
                    commit: row.commit,
                    has_faults: row.has_faults,
                    later_format: row
                        .format
                        .filter(|format| *format > encoding::latest_format())
                        .and_then(|format| u32::try_from(format).ok()),
                    sync_failing_since: row.failing_since,
                    next_tick: row.next_tick,
                    last_run,
                    active_runs: u32::try_from(row.active).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }
}
