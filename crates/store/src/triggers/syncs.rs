//! Syncs of repos: requests, answers, and results.

use trainyard_core::Timestamp;
use trainyard_core::id::RepoId;
use trainyard_core::text::recorded;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::error::{Error, Result};
use crate::store::Store;
use crate::triggers::repos::AddressNumber;

/// The result of a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncOutcome {
    /// Every move of a branch is recorded.
    Good,
    /// Everything is recorded except what this text names, which is refused.
    AllBut(String),
    /// Why the sync failed, in words.
    Failed(String),
}

/// Repos whose last sync failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailingSyncs {
    pub repos: u64,
    /// When the first of them began to fail.
    pub since: Timestamp,
}

impl Store {
    /// The repos whose last sync failed; `None` without any.
    pub async fn failing_syncs(&self) -> Result<Option<FailingSyncs>> {
        let row = sqlx::query!(
            r#"select count(*) as "repos!", min(failing_since) as since from repo where failing_since is not null"#
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(row.since.map(|since| FailingSyncs {
            repos: row.repos.unsigned_abs(),
            since,
        }))
    }

    /// Makes a repo due now. Returns the request's number, for [`Store::is_sync_answered`].
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn request_sync(&self, repo: RepoId) -> Result<i64> {
        let row = sqlx::query!(
            "update repo set next_sync_at = clock_timestamp(), syncs_asked = syncs_asked + 1
             where id = $1 returning syncs_asked",
            repo.0
        )
        .fetch_optional(&self.core.pool)
        .at(Point::RequestSync)
        .await?
        .ok_or_else(|| Error::not_found("such repo"))?;
        self.core.wakes.sync.wake();
        Ok(row.syncs_asked)
    }

    /// Whether the remote has been polled since a sync was requested.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn is_sync_answered(&self, repo: RepoId, request: i64) -> Result<bool> {
        let row = sqlx::query!("select syncs_answered from repo where id = $1", repo.0)
            .fetch_optional(&self.core.pool)
            .await?
            .ok_or_else(|| Error::not_found("such repo"))?;
        Ok(row.syncs_answered >= request)
    }

    /// Records the result of a sync, which requests it answers ([`crate::RepoToSync::asked`]), and when the next
    /// one is due: after the poll interval; or at once, where a delivery or a request came meanwhile. Changes nothing
    /// where the repo has another address than the one that was synced: it is due since it changed.
    pub async fn record_sync(
        &self,
        repo: RepoId,
        address: AddressNumber,
        asked: i64,
        outcome: SyncOutcome,
    ) -> Result<()> {
        let (error, is_over) = match outcome {
            SyncOutcome::Good => (None, true),
            SyncOutcome::AllBut(problem) => (Some(recorded(problem)), true),
            SyncOutcome::Failed(problem) => (Some(recorded(problem)), false),
        };
        sqlx::query!(
            "update repo
             set last_error = $2, syncs_answered = greatest(syncs_answered, $3),
                failing_since = case when $4 then null else coalesce(failing_since, clock_timestamp()) end,
                last_sync_at = case when $4 then clock_timestamp() else last_sync_at end,
                next_sync_at = case
                    when syncs_asked > $3 then clock_timestamp()
                    when $4 and exists (
                        select from delivery d where d.repo = $1 and d.processed_at is null
                    ) then clock_timestamp()
                    else clock_timestamp() + make_interval(secs => poll_seconds) end
             where id = $1 and address_number = $5",
            repo.0,
            error,
            asked,
            is_over,
            address.0
        )
        .execute(&self.core.pool)
        .at(Point::FinishSync)
        .await?;
        self.core.wakes.synced.wake();
        Ok(())
    }
}
