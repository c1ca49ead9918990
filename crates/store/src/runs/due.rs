//! Which runs have to be planned, and when the next one does.
//!
//! A run is due at its own `wake_at`, which planning sets, and at the deadline of an attempt, which
//! its start sets: so that starting an attempt does not have to lock its run.

use std::time::Duration;

use trainyard_core::id::RunId;

use crate::error::Result;
use crate::store::Store;

impl Store {
    /// Unfinished runs that are due, the longest due first.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn due_runs(&self, limit: u32) -> Result<Vec<RunId>> {
        let rows = sqlx::query!(
            r#"with due as (
                (select id as run, wake_at as at from run r
                    where wake_at <= clock_timestamp()
                        and not exists (select from quarantine q where q.run = r.id and q.held_at is not null)
                    order by wake_at limit $1)
                union all
                (select run, deadline_at from attempt a
                    where state = 'running' and stop_requested_at is null and deadline_at <= clock_timestamp()
                        and not exists (select from quarantine q where q.run = a.run and q.held_at is not null)
                    order by deadline_at limit $1)
            )
            select run as "run!" from due group by run order by min(at) limit $1"#,
            i64::from(limit)
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows.into_iter().map(|row| RunId(row.run)).collect())
    }

    /// How long until the next run is due; zero where one is, `None` where none will be by itself.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn next_wake(&self) -> Result<Option<Duration>> {
        let row = sqlx::query!(
            r#"select extract(epoch from least(
                (select min(wake_at) from run r where wake_at is not null
                    and not exists (select from quarantine q where q.run = r.id and q.held_at is not null)),
                (select min(deadline_at) from attempt a
                    where state = 'running' and stop_requested_at is null and deadline_at is not null
                        and not exists (select from quarantine q where q.run = a.run and q.held_at is not null))
            ) - clock_timestamp())::double precision as seconds"#
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(row
            .seconds
            .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }
}
