//! Repos as they are shown: without anything that is sealed.

use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::id::RepoId;

use crate::db::error::{Error, Result};
use crate::store::Store;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoSummary {
    pub id: RepoId,
    pub name: String,
    /// The URL that it is fetched from.
    pub url: String,
    /// The branch that schedules come from, as configured; `None` follows the remote's default branch.
    pub followed_branch: Option<String>,
    /// The branch that was followed when it last moved.
    pub current_branch: Option<String>,
    /// The time between two polls of the remote.
    pub poll_every: Duration,
    /// Whether webhook deliveries are accepted.
    pub has_webhook_secret: bool,
    /// Whether it is fetched with credentials.
    pub has_credentials: bool,
    pub created_at: Timestamp,
    /// When it got the address that it has now; `None` where it never had another.
    pub address_changed_at: Option<Timestamp>,
    /// When it was last synced without an error.
    pub last_sync_at: Option<Timestamp>,
    /// How long ago that was.
    pub last_sync_ago: Option<Duration>,
    /// Whether it was synced and does not have the configured branch.
    pub branch_missing: bool,
    /// Why the last sync failed.
    pub last_error: Option<String>,
    /// Since when its syncs have failed.
    pub failing_since: Option<Timestamp>,
    /// When it is due next.
    pub next_sync_at: Timestamp,
    /// How many DAGs its followed branch has.
    pub dags: u32,
    /// How many DAG files have errors at heads of its branches.
    pub faults: u32,
}

/// A repo with all details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoDetail {
    pub summary: RepoSummary,
    pub branches: Vec<BranchView>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchView {
    pub name: String,
    /// The last seen commit.
    pub sha: String,
    pub moved_at: Timestamp,
}

impl Store {
    /// All repos, by name.
    pub async fn list_repos(&self) -> Result<Vec<RepoSummary>> {
        self.repo_summaries(None).await
    }

    /// One repo in full.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn repo_detail(&self, repo: RepoId) -> Result<RepoDetail> {
        let summary = self
            .repo_summaries(Some(repo))
            .await?
            .pop()
            .ok_or_else(|| Error::not_found("such repo"))?;
        let branches = sqlx::query_as!(
            BranchView,
            r#"select branch as name, sha as "sha!", moved_at from repo_ref
            where repo = $1 and sha is not null order by branch"#,
            repo.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(RepoDetail { summary, branches })
    }

    async fn repo_summaries(&self, repo: Option<RepoId>) -> Result<Vec<RepoSummary>> {
        let rows = sqlx::query!(
            r#"select id, name, url, followed_branch, current_branch, poll_seconds,
                webhook_secret is not null as "has_webhook_secret!", credentials is not null as "has_credentials!",
                created_at, address_changed_at, last_sync_at, last_error, failing_since, next_sync_at,
                extract(epoch from clock_timestamp() - last_sync_at)::double precision as last_sync_ago,
                (followed_branch is not null and last_sync_at is not null and not exists (
                    select from repo_ref h where h.repo = p.id and h.branch = followed_branch and h.sha is not null
                )) as "branch_missing!",
                (select count(*) from dag where repo = p.id and current_version is not null) as "dags!",
                (select count(*) from dag_fault f join repo_ref h on h.repo = f.repo and h.sha = f.commit
                    where f.repo = p.id) as "faults!"
            from repo p where $1::uuid is null or id = $1 order by name"#,
            repo.map(|repo| repo.0)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| RepoSummary {
                id: RepoId(row.id),
                name: row.name,
                url: row.url,
                followed_branch: row.followed_branch,
                current_branch: row.current_branch,
                poll_every: Duration::from_secs(u64::from(row.poll_seconds.unsigned_abs())),
                has_webhook_secret: row.has_webhook_secret,
                has_credentials: row.has_credentials,
                created_at: row.created_at,
                address_changed_at: row.address_changed_at,
                last_sync_at: row.last_sync_at,
                last_sync_ago: row
                    .last_sync_ago
                    .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
                branch_missing: row.branch_missing,
                last_error: row.last_error,
                failing_since: row.failing_since,
                next_sync_at: row.next_sync_at,
                dags: u32::try_from(row.dags).unwrap_or(u32::MAX),
                faults: u32::try_from(row.faults).unwrap_or(u32::MAX),
            })
            .collect())
    }
}
