//! Queries of the sweeper: which containers are still to be removed, and which attempt a container belongs to.

use std::collections::HashMap;

use trainyard_core::id::{AttemptId, DaemonId, Fence};

use crate::attempts::claim::ClaimRequest;
use crate::db::error::Result;
use crate::store::Store;

/// What the database knows of an attempt, to judge a container that carries its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedAttempt {
    pub ended: bool,
    /// The fence of its latest claim, if it ever was claimed.
    pub fence: Option<Fence>,
    /// The daemon that holds it, or held it last.
    pub owner: Option<DaemonId>,
}

impl Store {
    /// The oldest `limit` attempts that ended on the Docker engine that `request` reaches and
    /// whose containers are not known to be gone.
    pub async fn unremoved(&self, request: &ClaimRequest, limit: u32) -> Result<Vec<AttemptId>> {
        let rows = sqlx::query_scalar!(
            "select id from attempt
            where state = 'finished' and not removed and executor = $1 and engine is not distinct from $2
            order by finished_at limit $3",
            request.executor,
            request.engine,
            i64::from(limit)
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows.into_iter().map(AttemptId).collect())
    }

    /// What is known of these attempts; an attempt that is missing from the answer does not exist.
    ///
    /// # Errors
    /// A database error: then nothing is known, and the caller must not conclude anything.
    pub async fn known_attempts(
        &self,
        attempts: &[AttemptId],
    ) -> Result<HashMap<AttemptId, RecordedAttempt>> {
        let ids: Vec<_> = attempts.iter().map(|attempt| attempt.0).collect();
        let rows = sqlx::query!(
            "select id, state, fence, owner from attempt where id = any($1)",
            &ids
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let known = RecordedAttempt {
                    ended: row.state == "finished",
                    fence: row.fence.map(Fence),
                    owner: row.owner.map(DaemonId),
                };
                (AttemptId(row.id), known)
            })
            .collect())
    }
}
