//! Which runs have to be planned, and when the next one has to be.
//!
//! A run is due at its own `wake_at`, which planning sets: the end of a back-off or of the run's time limit. The
//! supervisor of an attempt keeps track of how long that may run.

use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::id::RunId;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::encoding;
use crate::db::error::Result;
use crate::store::Store;

/// When the next run is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextWake {
    /// The time of the database's clock.
    pub now: Timestamp,
    /// How long it is from then; zero where a run is due, `None` where none becomes due by itself.
    pub wait: Option<Duration>,
    /// How many unfinished runs are of a later format than this daemon reads, and are left to newer daemons.
    pub left: u64,
}

impl Store {
    /// Unfinished runs that are due and that this daemon reads, the longest due first.
    pub async fn due_runs(&self, limit: u32) -> Result<Vec<RunId>> {
        let rows = sqlx::query!(
            "select id from run r
             where wake_at <= clock_timestamp() and format <= $2
                and not exists (select from quarantine q where q.run = r.id and q.held_at is not null)
             order by wake_at limit $1",
            i64::from(limit),
            encoding::latest_format()
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(rows.into_iter().map(|row| RunId(row.id)).collect())
    }

    /// Makes every run due that waits for a moment: the clock that it waits by has gone back, or may
    /// have. Planning a run too early does no harm.
    pub async fn look_again(&self) -> Result<()> {
        sqlx::query!(
            "update run set wake_at = clock_timestamp() where wake_at > clock_timestamp()"
        )
        .execute(&self.core.pool)
        .at(Point::LookAgain)
        .await?;
        self.core.wakes.plan.wake();
        Ok(())
    }

    /// When to poll for due runs again.
    pub async fn next_wake(&self) -> Result<NextWake> {
        let row = sqlx::query!(
            r#"with clock as materialized (select clock_timestamp() as now)
            select now as "now!", extract(epoch from (
                select min(wake_at) from run r where wake_at is not null and format <= $1
                    and not exists (select from quarantine q where q.run = r.id and q.held_at is not null)
            ) - now)::double precision as seconds,
            (select count(*) from run where phase <> 'finished' and format > 1 and format > $1) as "left!"
            from clock"#,
            encoding::latest_format()
        )
        .fetch_one(&self.core.pool)
        .await?;
        Ok(NextWake {
            now: row.now,
            wait: row
                .seconds
                .map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            left: row.left.unsigned_abs(),
        })
    }
}
