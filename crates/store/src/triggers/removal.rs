//! Removes repos and DAGs with their history; and counts how much that is.

use serde_json::json;
use sqlx::PgConnection;
use trainyard_api::History;
use trainyard_core::id::{DagId, RepoId};
use trainyard_core::measure::counted;
use trainyard_core::principal::{Act, AuditAction};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::db::error::{Error, Result};
use crate::store::Store;
use crate::triggers::dags::lock_repo;
use crate::triggers::repos::repo_name;

impl Store {
    /// What is deleted with a repo.
    pub async fn repo_history(&self, repo: RepoId) -> Result<History> {
        let dags = sqlx::query_scalar!("select id from dag where repo = $1", repo.0)
            .fetch_all(&self.core.reading)
            .await?;
        let secrets = sqlx::query_scalar!(
            r#"select count(*) as "count!" from secret where repo = $1"#,
            repo.0
        )
        .fetch_one(&self.core.reading)
        .await?;
        let history = self.history_of(&dags).await?;
        Ok(History {
            secrets: secrets.unsigned_abs(),
            ..history
        })
    }

    /// What is deleted with a DAG.
    pub async fn dag_history(&self, dag: DagId) -> Result<History> {
        self.history_of(&[dag.0]).await
    }

    async fn history_of(&self, dags: &[Uuid]) -> Result<History> {
        let row = sqlx::query!(
            r#"with gone as materialized (select id, phase from run where dag = any($1))
            select (select count(*) from gone) as "runs!",
                (select count(*) from gone where phase <> 'finished') as "unfinished_runs!",
                (select count(*) from artifact where run in (select id from gone)) as "artifacts!",
                (select coalesce(sum(size), 0)::bigint from artifact join blob using (sha256)
                    where run in (select id from gone)) as "bytes!",
                (select coalesce(sum(l.length), 0)::bigint from attempt_log l join attempt a on a.id = l.attempt
                    where a.run in (select id from gone) and l.pruned_at is null) as "log_bytes!""#,
            dags
        )
        .fetch_one(&self.core.reading)
        .await?;
        Ok(History {
            dags: dags.len() as u64,
            runs: row.runs.unsigned_abs(),
            unfinished_runs: row.unfinished_runs.unsigned_abs(),
            artifacts: row.artifacts.unsigned_abs(),
            artifact_bytes: row.bytes.unsigned_abs(),
            log_bytes: row.log_bytes.unsigned_abs(),
            secrets: 0,
        })
    }

    /// Stops following a repo and deletes everything known of it: DAGs, runs, logs, secrets.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it has runs that have not ended.
    pub async fn remove_repo(&self, act: &Act, repo: RepoId) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        lock_repo(&mut transaction, repo).await?;
        let dags = sqlx::query_scalar!("select id from dag where repo = $1", repo.0)
            .fetch_all(&mut *transaction)
            .await?;
        let name = repo_name(&mut transaction, repo).await?;
        let live = live_runs(&mut transaction, &dags).await?;
        if live > 0 {
            return Err(Error::conflict(format!(
                "{}; wait, or run `trainyard run cancel --repo {name}`, then remove it",
                not_ended(live, "this repo")
            )));
        }
        let runs = remove_dags(&mut transaction, &dags).await?;
        sqlx::query!("delete from repo where id = $1", repo.0)
            .execute(&mut *transaction)
            .await?;
        let audited = Audited {
            action: AuditAction::RepoRemove,
            subject: Some(&name),
            repo: Some(&name),
            detail: json!({"dags": dags.len(), "runs": runs}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::RemoveRepo).await?;
        // A sync that is going on ends.
        self.core.wakes.sync.wake();
        Ok(())
    }

    /// Deletes a DAG that the followed branch of its repo does not have, with its runs and logs. A push to a branch
    /// that has its file records it again.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while the followed branch has it, or while it has runs that have not ended.
    pub async fn remove_dag(&self, act: &Act, dag: DagId) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let repo = sqlx::query_scalar!("select repo from dag where id = $1", dag.0)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| Error::not_found("such DAG"))?;
        lock_repo(&mut transaction, RepoId(repo)).await?;
        let row = sqlx::query!(
            "select d.name, d.path, d.current_version, r.name as repo
             from dag d join repo r on r.id = d.repo where d.id = $1 for update of d",
            dag.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Error::not_found("such DAG"))?;
        if row.current_version.is_some() {
            return Err(Error::conflict(format!(
                "DAG `{name}` is on the followed branch of its repo; delete {path} there first, or pause it with \
                 `trainyard dag pause {repo}/{name}`",
                name = row.name,
                path = row.path,
                repo = row.repo
            )));
        }
        let live = live_runs(&mut transaction, &[dag.0]).await?;
        if live > 0 {
            return Err(Error::conflict(format!(
                "{}; wait, or run `trainyard run cancel --repo {repo} --dag {name}`, then remove it",
                not_ended(live, &format!("DAG `{}`", row.name)),
                name = row.name,
                repo = row.repo
            )));
        }
        let runs = remove_dags(&mut transaction, &[dag.0]).await?;
        let audited = Audited {
            action: AuditAction::DagRemove,
            subject: Some(&format!("{}/{}", row.repo, row.name)),
            repo: Some(&row.repo),
            detail: json!({"runs": runs}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::RemoveDag).await?;
        Ok(())
    }
}

/// How many runs, and DAGs with their causes and versions, one statement deletes.
const RUNS_AT_ONCE: i64 = 1_000;
const DAGS_AT_ONCE: usize = 50;

/// How many runs of DAGs have not ended.
async fn live_runs(connection: &mut PgConnection, dags: &[Uuid]) -> Result<u64> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from run where dag = any($1) and phase <> 'finished'"#,
        dags
    )
    .fetch_one(connection)
    .await?;
    Ok(count.unsigned_abs())
}

fn not_ended(live: u64, of: &str) -> String {
    let have = if live == 1 { "has" } else { "have" };
    format!("{} of {of} {have} not ended", counted(live, "run"))
}

/// Deletes from the leaves up: runs reference versions and causes, which cascades alone would delete first. Returns the
/// number of runs.
async fn remove_dags(connection: &mut PgConnection, dags: &[Uuid]) -> Result<u64> {
    let mut runs = 0;
    loop {
        // In parts: each statement has a timeout.
        let some = sqlx::query_scalar!(
            "select id from run where dag = any($1) limit $2",
            dags,
            RUNS_AT_ONCE
        )
        .fetch_all(&mut *connection)
        .await?;
        if some.is_empty() {
            break;
        }
        sqlx::query!("delete from run_event where run = any($1)", &some)
            .execute(&mut *connection)
            .await?;
        runs += sqlx::query!("delete from run where id = any($1)", &some)
            .execute(&mut *connection)
            .await?
            .rows_affected();
    }
    sqlx::query!("delete from schedule where dag = any($1)", dags)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "update dag set current_version = null where id = any($1)",
        dags
    )
    .execute(&mut *connection)
    .await?;
    for some in dags.chunks(DAGS_AT_ONCE) {
        sqlx::query!("delete from dag where id = any($1)", some)
            .execute(&mut *connection)
            .await?;
    }
    Ok(runs)
}
