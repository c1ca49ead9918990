//! DAGs and their versions.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde_json::json;
use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::dag::Dag;
use trainyard_core::id::{DagId, DagVersionId, RepoId};
use trainyard_core::name::{DagName, RepoName};
use trainyard_core::principal::{Act, AuditAction};
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::access::audit::{self, Audited};
use crate::db::encoding;
use crate::db::encoding::dag::DagDoc;
use crate::db::error::{Error, Result};
use crate::store::{Core, Store};

/// A decoded DAG version: what a run pins. Immutable.
#[derive(Debug, Clone, PartialEq)]
pub struct PinnedDag {
    pub version: DagVersionId,
    pub dag_id: DagId,
    pub repo: RepoId,
    pub repo_name: RepoName,
    /// The commit that it was read from, as a full hash.
    pub commit: String,
    /// The file's path in the repo.
    pub path: String,
    pub dag: Arc<Dag>,
    /// About how many bytes it takes in memory.
    pub bytes: usize,
}

/// About how many bytes a decoded stage takes, apart from its texts.
const STAGE_BYTES: usize = 2048;

/// About how many bytes a DAG takes in memory, and at most how many in the database: the length of its canonical form,
/// and something for each stage. Its file may be much shorter, as aliases repeat texts.
#[must_use]
pub fn dag_bytes(dag: &Dag) -> usize {
    #[derive(Default)]
    struct Length(usize);
    impl std::io::Write for Length {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut length = Length::default();
    // The mirror structs have only string keys, so this cannot fail.
    let _ = serde_json::to_writer(&mut length, &DagDoc::from(dag));
    length.0 + STAGE_BYTES * dag.stages().len()
}

impl PinnedDag {
    /// The name of the DAG with that of its repo: `shop/train`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.repo_name, self.dag.name())
    }
}

/// A DAG file at a commit.
#[derive(Debug, Clone)]
pub struct DagAtCommit {
    /// The file's path in the repo.
    pub path: String,
    pub source: String,
    /// The DAG; for a file with errors, its diagnostics as JSON.
    pub dag: Result<Dag, serde_json::Value>,
}

impl Store {
    /// Finds a DAG by `REPO/NAME`, or by `NAME` where only one repo has it.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` where several repos have it, with the choices.
    pub async fn resolve_dag(&self, text: &str) -> Result<DagId> {
        let (repo, name) = match text.split_once('/') {
            Some((repo, name)) => (Some(repo), name),
            None => (None, text),
        };
        let found = sqlx::query!(
            "select d.id, r.name as repo from dag d join repo r on r.id = d.repo
             where d.name = $1 and ($2::text is null or r.name = $2) order by r.name",
            name,
            repo
        )
        .fetch_all(&self.core.pool)
        .await?;
        match found.as_slice() {
            [] => Err(Error::not_found(format!("DAG `{text}`"))),
            [one] => Ok(DagId(one.id)),
            several => {
                let choices: Vec<String> = several
                    .iter()
                    .map(|row| format!("{}/{name}", row.repo))
                    .collect();
                Err(Error::conflict(format!(
                    "several repos have a DAG named `{name}`; say which: {}",
                    choices.join(", ")
                )))
            }
        }
    }

    /// A version of a DAG.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn dag_version(&self, version: DagVersionId) -> Result<Arc<PinnedDag>> {
        let mut connection = self.core.pool.acquire().await?;
        pinned(&self.core, &mut connection, version).await
    }

    /// The version of a DAG at the head of the repo's followed branch.
    ///
    /// # Errors
    /// `NotFound` for an unknown DAG; `Conflict` where the branch does not have it, or no longer has it.
    pub async fn current_version(&self, dag: DagId) -> Result<Arc<PinnedDag>> {
        let row = sqlx::query!("select name, current_version from dag where id = $1", dag.0)
            .fetch_optional(&self.core.pool)
            .await?
            .ok_or_else(|| Error::not_found("such DAG"))?;
        match row.current_version {
            Some(version) => self.dag_version(DagVersionId(version)).await,
            None => Err(Error::conflict(format!(
                "DAG `{}` is not on the followed branch of its repo; name a branch, tag or commit that has it",
                row.name
            ))),
        }
    }

    /// Records a DAG at a commit; the same commit again returns the same version.
    pub async fn record_dag_version(
        &self,
        repo: RepoId,
        commit: &str,
        path: &str,
        source: &str,
        dag: &Dag,
    ) -> Result<(DagId, DagVersionId)> {
        let mut transaction = self.core.begin().await?;
        let now = lock_repo(&mut transaction, repo).await?;
        let id = dag_row(&mut transaction, repo, dag.name(), path, now).await?;
        let version = version_row(&mut transaction, id, commit, path, source, dag, now).await?;
        transaction.commit().at(Point::RecordDagVersion).await?;
        Ok((id, version))
    }

    /// Pauses a DAG, or resumes it: while it is paused, its triggers start no runs. Users can
    /// always start one by hand. Safe to repeat.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn pause_dag(&self, act: &Act, dag: DagId, paused: bool) -> Result<()> {
        let mut transaction = self.core.begin().await?;
        let known = sqlx::query!(
            "select d.name, d.paused, r.name as repo from dag d join repo r on r.id = d.repo
             where d.id = $1 for no key update of d",
            dag.0
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| Error::not_found("such DAG"))?;
        if known.paused == paused {
            return Ok(());
        }
        sqlx::query!("update dag set paused = $2 where id = $1", dag.0, paused)
            .execute(&mut *transaction)
            .await?;
        let audited = Audited {
            action: match paused {
                true => AuditAction::DagPause,
                false => AuditAction::DagUnpause,
            },
            subject: Some(&format!("{}/{}", known.repo, known.name)),
            repo: Some(&known.repo),
            detail: json!({}),
        };
        audit::record(&mut transaction, act, audited).await?;
        transaction.commit().at(Point::PauseDag).await?;
        self.core.wakes.schedule.wake();
        Ok(())
    }
}

/// Locks a repo against other syncs and removal; returns the transaction's time.
pub(crate) async fn lock_repo(connection: &mut PgConnection, repo: RepoId) -> Result<Timestamp> {
    let row = sqlx::query!(
        "with locked as materialized (select id from repo where id = $1 for no key update)
         select clock_timestamp() as \"now!\" from locked",
        repo.0
    )
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| Error::not_found("such repo"))?;
    Ok(row.now)
}

/// The row of a DAG, created if it is missing.
pub(crate) async fn dag_row(
    connection: &mut PgConnection,
    repo: RepoId,
    name: &DagName,
    path: &str,
    now: Timestamp,
) -> Result<DagId> {
    let known = sqlx::query!(
        "select id from dag where repo = $1 and name = $2",
        repo.0,
        name.as_str()
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = known {
        return Ok(DagId(row.id));
    }
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into dag (id, repo, name, path, created_at) values ($1, $2, $3, $4, $5)",
        id,
        repo.0,
        name.as_str(),
        path,
        now
    )
    .execute(connection)
    .await?;
    Ok(DagId(id))
}

/// The row of a DAG's version, created if it is missing.
pub(crate) async fn version_row(
    connection: &mut PgConnection,
    dag: DagId,
    commit: &str,
    path: &str,
    source: &str,
    content: &Dag,
    now: Timestamp,
) -> Result<DagVersionId> {
    let known = sqlx::query!(
        "select id from dag_version where dag = $1 and commit = $2",
        dag.0,
        commit
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = known {
        return Ok(DagVersionId(row.id));
    }
    let id = Uuid::now_v7();
    sqlx::query!(
        "insert into dag_version (id, dag, commit, path, source, spec, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id,
        dag.0,
        commit,
        path,
        source,
        encoding::write(&DagDoc::from(content)),
        now
    )
    .execute(connection)
    .await?;
    Ok(DagVersionId(id))
}

/// One version, from memory where possible.
pub(crate) async fn pinned(
    core: &Core,
    connection: &mut PgConnection,
    version: DagVersionId,
) -> Result<Arc<PinnedDag>> {
    if let Some(known) = core.dags.get(version) {
        return Ok(known);
    }
    pinned_all(core, connection, &[version])
        .await?
        .remove(&version)
        .ok_or_else(|| Error::not_found("such DAG version"))?
}

/// Versions, from memory where possible. A version that cannot be read, or not by this daemon, is an error of its own.
pub(crate) async fn pinned_all(
    core: &Core,
    connection: &mut PgConnection,
    versions: &[DagVersionId],
) -> Result<HashMap<DagVersionId, Result<Arc<PinnedDag>>>> {
    let mut found = HashMap::new();
    let mut missing = Vec::new();
    for version in versions {
        match core.dags.get(*version) {
            Some(known) => {
                found.insert(*version, Ok(known));
            }
            None => missing.push(version.0),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    // One after the other: a document takes many times the memory of the DAG that it becomes.
    let mut rows = sqlx::query!(
        "select v.id, v.dag, v.commit, v.path, v.spec, v.format, d.repo, r.name as repo_name
         from dag_version v join dag d on d.id = v.dag join repo r on r.id = d.repo
         where v.id = any($1)",
        &missing
    )
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let version = DagVersionId(row.id);
        let what = || {
            format!(
                "DAG version {} (commit {}, {})",
                row.id, row.commit, row.path
            )
        };
        let decoded = encoding::dag::read(row.spec, row.format, what).and_then(|dag| {
            Ok(Arc::new(PinnedDag {
                version,
                dag_id: DagId(row.dag),
                repo: RepoId(row.repo),
                repo_name: RepoName::new(row.repo_name)
                    .map_err(|fault| Error::corrupt(what(), fault))?,
                bytes: dag_bytes(&dag),
                dag: Arc::new(dag),
                commit: row.commit.clone(),
                path: row.path.clone(),
            }))
        });
        if let Ok(pinned) = &decoded {
            core.dags.put(version, Arc::clone(pinned), pinned.bytes);
        }
        found.insert(version, decoded);
    }
    Ok(found)
}
