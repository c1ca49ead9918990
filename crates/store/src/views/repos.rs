//! Repos as they are shown: without anything that is sealed.

use std::time::Duration;

use trainyard_api::{Branch, Repo};
use trainyard_core::Timestamp;
use trainyard_core::id::RepoId;

use crate::db::error::{Error, Result};
use crate::store::Store;

/// A repo, with what the daemon decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoSummary {
    pub id: RepoId,
    /// As listings show it.
    pub shown: Repo,
    /// The branch that schedules come from, as configured; `None` follows the remote's default branch.
    pub followed_branch: Option<String>,
    /// The branch that was followed when it last moved.
    pub current_branch: Option<String>,
    /// When it got the address that it has now; `None` where it never had another.
    pub address_changed_at: Option<Timestamp>,
    /// How long ago it was last synced without an error.
    pub last_sync_ago: Option<Duration>,
}

impl Store {
    /// All repos, by name.
    pub async fn list_repos(&self) -> Result<Vec<RepoSummary>> {
        self.repo_summaries(None).await
    }

    /// One repo.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn repo_summary(&self, repo: RepoId) -> Result<RepoSummary> {
        let found = self.repo_summaries(Some(repo)).await?.pop();
        found.ok_or_else(|| Error::not_found("such repo"))
    }

    /// The branches of a repo.
    pub async fn list_branches(&self, repo: RepoId) -> Result<Vec<Branch>> {
        let branches = sqlx::query_as!(
            Branch,
            r#"select branch as name, sha as "commit!", moved_at from repo_ref
            where repo = $1 and sha is not null order by branch"#,
            repo.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(branches)
    }

    async fn repo_summaries(&self, repo: Option<RepoId>) -> Result<Vec<RepoSummary>> {
        let rows = sqlx::query!(
            r#"select id, name, url, followed_branch, current_branch, poll_seconds,
                webhook_secret is not null as "has_webhook_secret!", credentials is not null as "has_credentials!",
                created_at, address_changed_at, last_sync_at, last_error, failing_since,
                extract(epoch from clock_timestamp() - last_sync_at)::double precision as last_sync_ago,
                (followed_branch is not null and last_sync_at is not null and not exists (
                    select from repo_ref h where h.repo = p.id and h.branch = followed_branch and h.sha is not null
                )) as "branch_missing!",
                (select count(*) from dag where repo = p.id and current_version is not null) as "dags!",
                (select count(*) from dag_fault f where f.repo = p.id
                    and exists (select from repo_ref where repo = f.repo and sha = f.commit)) as "faults!"
            from repo p where $1::uuid is null or id = $1 order by name"#,
            repo.map(|repo| repo.0)
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| RepoSummary {
                id: RepoId(row.id),
                shown: Repo {
                    name: row.name,
                    url: row.url,
                    branch: row
                        .current_branch
                        .clone()
                        .or_else(|| row.followed_branch.clone()),
                    poll_every_seconds: u64::from(row.poll_seconds.unsigned_abs()),
                    takes_webhooks: row.has_webhook_secret,
                    has_credentials: row.has_credentials,
                    created_at: row.created_at,
                    last_sync_at: row.last_sync_at,
                    last_error: row.last_error,
                    failing_since: row.failing_since,
                    branch_missing: row.branch_missing,
                    dags: u32::try_from(row.dags).unwrap_or(u32::MAX),
                    faults: u32::try_from(row.faults).unwrap_or(u32::MAX),
                },
                followed_branch: row.followed_branch,
                current_branch: row.current_branch,
                address_changed_at: row.address_changed_at,
                last_sync_ago: row
                    .last_sync_ago
                    .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            })
            .collect())
    }
}
