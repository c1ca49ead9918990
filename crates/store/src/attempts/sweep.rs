//! What the sweeper asks: which containers are still to be removed, and whose a container is.

use std::collections::HashMap;

use trainyard_core::id::{AttemptId, DaemonId, Fence};

use crate::error::{Error, Result};
use crate::store::Store;

/// An attempt that ended and whose container may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unremoved {
    /// The attempt.
    pub attempt: AttemptId,
    /// The executor that has it.
    pub executor: String,
    /// Its handle, where one was recorded.
    pub handle: Option<String>,
}

/// What the database knows of an attempt, for judging a container that claims to be of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAttempt {
    /// Whether it has ended.
    pub ended: bool,
    /// The fence of its latest claim, if it ever was claimed.
    pub fence: Option<Fence>,
    /// The daemon that holds it, or held it last.
    pub owner: Option<DaemonId>,
}

impl Store {
    /// Attempts that ended at least `older_than` ago and whose containers are not known to be gone.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn unremoved(
        &self,
        older_than: std::time::Duration,
        limit: u32,
    ) -> Result<Vec<Unremoved>> {
        let rows = sqlx::query!(
            r#"select id, executor as "executor!", handle from attempt
            where state = 'finished' and not removed and executor is not null
                and finished_at <= clock_timestamp() - make_interval(secs => $1)
            order by finished_at limit $2"#,
            older_than.as_secs_f64(),
            i64::from(limit)
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Unremoved {
                attempt: AttemptId(row.id),
                executor: row.executor,
                handle: row.handle,
            })
            .collect())
    }

    /// What is known of these attempts; those that are not in the answer are not known.
    ///
    /// # Errors
    /// Trouble with the database: then nothing is known, and nothing may be concluded.
    pub async fn known_attempts(
        &self,
        attempts: &[AttemptId],
    ) -> Result<HashMap<AttemptId, KnownAttempt>> {
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
                let known = KnownAttempt {
                    ended: row.state == "finished",
                    fence: row.fence.map(Fence),
                    owner: row.owner.map(DaemonId),
                };
                (AttemptId(row.id), known)
            })
            .collect())
    }

    /// Looks at the run of an attempt again, now: a timeout has passed.
    ///
    /// # Errors
    /// `NotFound`, or as [`Store::advance`].
    pub async fn plan_run_of(&self, attempt: AttemptId) -> Result<()> {
        let row = sqlx::query!("select run from attempt where id = $1", attempt.0)
            .fetch_optional(&self.core.pool)
            .await?
            .ok_or_else(|| Error::not_found(format!("attempt {attempt}")))?;
        self.advance(trainyard_core::id::RunId(row.run), &[])
            .await
            .map(drop)
    }
}
