//! The list of runs.

use trainyard_api::{Cause, Run};
use trainyard_core::Timestamp;
use trainyard_core::cause::CauseKind;
use trainyard_core::id::{DagId, RepoId, RunId};
use trainyard_core::outcome::RunState;

use crate::db::encoding;
use crate::db::encoding::cause::CauseDoc;
use crate::db::error::{Error, Result};
use crate::store::Store;

/// Which runs to list, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFilter {
    pub dag: Option<DagId>,
    /// Of the DAGs of one repo.
    pub repo: Option<RepoId>,
    pub branch: Option<String>,
    /// Of the commit whose hash begins with this.
    pub commit: Option<String>,
    /// In one of these states; empty means any.
    pub states: Vec<RunState>,
    /// Made at this time or later.
    pub since: Option<Timestamp>,
    /// Older than this one: for the next page.
    pub before: Option<RunId>,
    pub limit: u32,
}

impl Default for RunFilter {
    /// The newest 50 of all.
    fn default() -> Self {
        Self {
            dag: None,
            repo: None,
            branch: None,
            commit: None,
            states: Vec::new(),
            since: None,
            before: None,
            limit: 50,
        }
    }
}

/// A run's row as the listings read it.
struct RunListingRow {
    id: i64,
    repo: String,
    dag: String,
    state: String,
    reason_code: Option<String>,
    reason_message: Option<String>,
    cancelling: bool,
    kind: String,
    detail: serde_json::Value,
    format: i32,
    actor: Option<String>,
    branch: Option<String>,
    commit: String,
    summary: String,
    logical_time: Timestamp,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    stages_total: i32,
    stages_finished: i32,
    stages_failed: i32,
}

impl Store {
    /// Lists runs, the newest first.
    ///
    /// # Errors
    /// `Corrupt`.
    pub async fn list_runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let before = filter.before.map_or(i64::MAX, |run| run.0);
        let limit = i64::from(filter.limit);
        // One statement for each common filter, so that each has its own index: a plan made for "any of these or
        // none" reads the table from its newest row on.
        let state = match filter {
            RunFilter {
                repo: None,
                branch: None,
                commit: None,
                since: None,
                states,
                ..
            } if states.len() <= 1 => states.first().map(|state| state.as_str()),
            _ => return self.search_runs(filter, before, limit).await,
        };
        let ids = match (filter.dag, state) {
            (None, None) => {
                sqlx::query_scalar!(
                    "select id from run where id < $1 order by id desc limit $2",
                    before,
                    limit
                )
                .fetch_all(&self.core.reading)
                .await?
            }
            (Some(dag), None) => {
                sqlx::query_scalar!(
                    "select id from run where dag = $3 and id < $1 order by id desc limit $2",
                    before,
                    limit,
                    dag.0
                )
                .fetch_all(&self.core.reading)
                .await?
            }
            (None, Some(state)) => {
                sqlx::query_scalar!(
                    "select id from run where state = $3 and id < $1 order by id desc limit $2",
                    before,
                    limit,
                    state
                )
                .fetch_all(&self.core.reading)
                .await?
            }
            (Some(dag), Some(state)) => {
                sqlx::query_scalar!(
                    "select id from run where dag = $3 and state = $4 and id < $1 order by id desc limit $2",
                    before,
                    limit,
                    dag.0,
                    state
                )
                .fetch_all(&self.core.reading)
                .await?
            }
        };
        self.summaries_of(&ids).await
    }

    /// Lists runs by any combination of filters.
    async fn search_runs(&self, filter: &RunFilter, before: i64, limit: i64) -> Result<Vec<Run>> {
        let states: Vec<String> = filter
            .states
            .iter()
            .map(|state| state.as_str().to_owned())
            .collect();
        let ids = sqlx::query_scalar!(
            "select r.id from run r join cause c on c.id = r.cause join dag d on d.id = r.dag
             where r.id < $1
                and ($3::uuid is null or r.dag = $3)
                and ($4::uuid is null or d.repo = $4)
                and ($5::text is null or c.branch = $5)
                and ($6::text is null or starts_with(c.commit, $6))
                and (cardinality($7::text[]) = 0 or r.state = any($7))
                and ($8::timestamptz is null or r.created_at >= $8)
             order by r.id desc limit $2",
            before,
            limit,
            filter.dag.map(|dag| dag.0),
            filter.repo.map(|repo| repo.0),
            filter.branch.as_deref(),
            filter.commit.as_deref(),
            &states,
            filter.since
        )
        .fetch_all(&self.core.reading)
        .await?;
        self.summaries_of(&ids).await
    }

    /// One run as listings show it.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn run_summary(&self, run: RunId) -> Result<Run> {
        let mut found = self.summaries_of(&[run.0]).await?;
        found
            .pop()
            .ok_or_else(|| Error::not_found(format!("run {run}")))
    }

    /// Runs as listings show them, the newest first.
    async fn summaries_of(&self, ids: &[i64]) -> Result<Vec<Run>> {
        let rows = sqlx::query_as!(
            RunListingRow,
            r#"select r.id, p.name as repo, d.name as dag, r.state as "state!", r.reason_code, r.reason_message,
                r.cancel_at is not null as "cancelling!",
                c.kind, c.detail, r.format, c.actor, c.branch, c.commit, c.summary, r.logical_time, r.created_at, r.started_at,
                r.finished_at, r.stages_total, r.stages_finished, r.stages_failed
            from run r join cause c on c.id = r.cause join dag d on d.id = r.dag join repo p on p.id = d.repo
            where r.id = any($1) order by r.id desc"#,
            ids
        )
        .fetch_all(&self.core.reading)
        .await?;
        rows.into_iter().map(shown).collect()
    }
}

/// A run as listings show it.
fn shown(row: RunListingRow) -> Result<Run> {
    let what = || format!("run {}", row.id);
    let corrupt = |problem: String| Error::corrupt(what(), problem);
    let count = |count: i32| u32::try_from(count).unwrap_or_default();
    let state = RunState::from_word(&row.state)
        .ok_or_else(|| corrupt(format!("`{}` is not a state", row.state)))?;
    let cause: Result<CauseKind> = encoding::readable(row.format, what)
        .and_then(|()| encoding::read::<CauseDoc>(row.detail, what))
        .and_then(|doc| doc.try_into().map_err(corrupt))
        .inspect_err(|problem| {
            // One such run must not hide all others. Its kind and its summary still show the cause.
            if !matches!(problem, Error::LaterFormat { .. }) {
                tracing::warn!(%problem, "the cause of a run cannot be read; the list shows only its kind");
            }
        });
    Ok(Run {
        id: row.id,
        dag: format!("{}/{}", row.repo, row.dag),
        state: state.as_str().to_owned(),
        reason: encoding::reason(row.reason_code, row.reason_message).map(Into::into),
        cancelling: row.cancelling,
        cause: Cause {
            summary: match cause {
                Ok(cause) => cause.in_words(row.actor.as_deref()),
                Err(_) => row.kind.clone(),
            },
            kind: row.kind,
            actor: row.actor,
        },
        branch: row.branch,
        commit: row.commit,
        commit_summary: row.summary,
        logical_time: row.logical_time,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        stages_total: count(row.stages_total),
        stages_finished: count(row.stages_finished),
        stages_failed: count(row.stages_failed),
    })
}
