//! DAGs as they are shown: their versions, their next ticks, their last runs.

use std::collections::BTreeMap;

use trainyard_api::{Dag, DagDetail, Fault, LastRun, Schedule, SmallPool, json_values};
use trainyard_core::id::{DagId, DagVersionId, RepoId};
use trainyard_core::name::PoolName;
use trainyard_core::outcome::RunState;

use crate::db::encoding;
use crate::db::encoding::param::{ValuesDoc, values};
use crate::db::error::{Error, Result};
use crate::store::Store;

/// The most DAG files with errors in an answer.
const FAULTS_AT_MOST: i64 = 50;

/// The most branches that are named with a DAG file with errors.
const BRANCHES_AT_MOST: i64 = 100;

/// The most DAGs among which the one is searched that a user meant.
const NAMES_AT_MOST: i64 = 5_000;

/// A DAG as listings show it, with its ids.
struct Found {
    repo: RepoId,
    /// Its version at the head of the followed branch; `None` where the branch does not have it, or no longer has it.
    version: Option<DagVersionId>,
    dag: Dag,
}

/// Where a DAG is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DagPlace {
    pub repo: RepoId,
    pub name: String,
    /// The path of its file, as it was last known.
    pub path: String,
}

impl Store {
    /// All DAGs, of one repo or of all, by name.
    ///
    /// # Errors
    /// `Corrupt`.
    pub async fn list_dags(&self, repo: Option<RepoId>) -> Result<Vec<Dag>> {
        let found = self.find_dags(repo, None).await?;
        Ok(found.into_iter().map(|found| found.dag).collect())
    }

    /// Where a DAG is defined.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn dag_place(&self, dag: DagId) -> Result<DagPlace> {
        let row = sqlx::query!("select repo, name, path from dag where id = $1", dag.0)
            .fetch_optional(&self.core.reading)
            .await?
            .ok_or_else(no_such_dag)?;
        Ok(DagPlace {
            repo: RepoId(row.repo),
            name: row.name,
            path: row.path,
        })
    }

    /// One DAG as listings show it.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn dag_summary(&self, dag: DagId) -> Result<Dag> {
        Ok(self.find_dag(dag).await?.dag)
    }

    /// One DAG in full. `pools` are those that the configuration defines.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn dag_detail(
        &self,
        dag: DagId,
        pools: &BTreeMap<PoolName, u32>,
    ) -> Result<DagDetail> {
        let found = self.find_dag(dag).await?;
        let (pinned, source) = match found.version {
            None => (None, None),
            Some(version) => {
                let row = sqlx::query!("select source from dag_version where id = $1", version.0)
                    .fetch_one(&self.core.reading)
                    .await?;
                (Some(self.dag_version(version).await?), Some(row.source))
            }
        };
        let schedules = self.schedules(dag).await?;
        let faults = self.faults(Some(found.repo), Some(&found.dag.path)).await?;
        let declared = pinned.as_ref().map(|pinned| pinned.dag.declared());
        let stages = declared.iter().flat_map(|declared| &declared.stages);
        let mut wanted = BTreeMap::<&PoolName, u32>::new();
        for (pool, slots) in stages.flat_map(|stage| &stage.program().pools) {
            let most = wanted.entry(pool).or_default();
            *most = (*most).max(*slots);
        }
        let small = wanted.iter().filter_map(|(pool, wanted)| {
            let slots = *pools.get(*pool).filter(|slots| *slots < wanted)?;
            Some(SmallPool {
                pool: pool.to_string(),
                slots,
                wanted: *wanted,
            })
        });
        let undefined = wanted.keys().filter(|pool| !pools.contains_key(**pool));
        Ok(DagDetail {
            schedules,
            faults,
            undefined_pools: undefined.map(ToString::to_string).collect(),
            small_pools: small.collect(),
            source,
            ..DagDetail::declared(found.dag, declared)
        })
    }

    /// The schedules of a DAG, in the order of the file.
    ///
    /// # Errors
    /// `Corrupt`.
    pub async fn schedules(&self, dag: DagId) -> Result<Vec<Schedule>> {
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
                Ok(Schedule {
                    cron: row.cron,
                    timezone: row.timezone,
                    missed: row.missed,
                    params: json_values(
                        &values(doc).map_err(|problem| Error::corrupt(what(), problem))?,
                    ),
                    next_tick: row.next_tick,
                })
            })
            .collect()
    }

    /// The names of DAGs, with those of their repos, to find the one that a user meant: some thousands at most.
    pub async fn dag_names(&self) -> Result<Vec<(String, String)>> {
        let rows = sqlx::query!(
            "select p.name as repo, d.name from dag d join repo p on p.id = d.repo
             order by d.current_version is null limit $1",
            NAMES_AT_MOST
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows.into_iter().map(|row| (row.repo, row.name)).collect())
    }

    /// DAG files with errors at the heads of branches, of one repo or of all: the first ones, those of the followed
    /// branch before others.
    pub async fn list_faults(&self, repo: Option<RepoId>) -> Result<Vec<Fault>> {
        self.faults(repo, None).await
    }

    async fn faults(&self, repo: Option<RepoId>, path: Option<&str>) -> Result<Vec<Fault>> {
        let faults = sqlx::query!(
            r#"select p.name as repo, f.commit, f.path, f.diagnostics,
                array(
                    select branch from repo_ref where repo = f.repo and sha = f.commit
                    order by branch is distinct from p.current_branch, branch limit $4
                ) as "branches!"
             from dag_fault f join repo p on p.id = f.repo
             where ($1::uuid is null or f.repo = $1) and ($2::text is null or f.path = $2)
                and exists (select from repo_ref where repo = f.repo and sha = f.commit)
             order by p.name, exists (
                    select from repo_ref where repo = f.repo and sha = f.commit and branch = p.current_branch
                ) desc, f.path, f.commit
             limit $3"#,
            repo.map(|repo| repo.0),
            path,
            FAULTS_AT_MOST,
            BRANCHES_AT_MOST
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(faults
            .into_iter()
            .map(|row| Fault {
                repo: row.repo,
                branch: row.branches.first().cloned().unwrap_or_default(),
                branches: row.branches,
                commit: row.commit,
                path: row.path,
                diagnostics: row.diagnostics,
            })
            .collect())
    }

    async fn find_dag(&self, dag: DagId) -> Result<Found> {
        let found = self.find_dags(None, Some(dag)).await?.pop();
        found.ok_or_else(no_such_dag)
    }

    async fn find_dags(&self, repo: Option<RepoId>, dag: Option<DagId>) -> Result<Vec<Found>> {
        let rows = sqlx::query!(
            r#"select p.name as repo, p.id as repo_id, d.name, d.path, d.paused, p.failing_since,
                v.id as "version?",
                v.commit as "commit?", v.format as "format?",
                exists (
                    select from dag_fault f join repo_ref h on h.repo = f.repo and h.sha = f.commit
                    where f.repo = d.repo and f.path = d.path and h.branch = p.current_branch
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
                    (Some(id), Some(word), Some(created_at)) => {
                        let state = RunState::from_word(&word).ok_or_else(|| {
                            Error::corrupt(format!("run {id}"), format!("`{word}` is not a state"))
                        })?;
                        Some(LastRun {
                            id,
                            state: state.as_str().to_owned(),
                            created_at,
                            finished_at: row.finished_at,
                        })
                    }
                    _ => None,
                };
                let dag = Dag {
                    dag: format!("{}/{}", row.repo, row.name),
                    repo: row.repo,
                    name: row.name,
                    path: row.path,
                    paused: row.paused,
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
                };
                Ok(Found {
                    repo: RepoId(row.repo_id),
                    version: row.version.map(DagVersionId),
                    dag,
                })
            })
            .collect()
    }
}

fn no_such_dag() -> Error {
    Error::not_found("such DAG")
}
