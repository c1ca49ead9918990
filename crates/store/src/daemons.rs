//! Daemons and their leases.
//!
//! The lease is the daemon's, not the attempt's: one row is written each time it is renewed, however
//! many attempts run. While it runs, nobody else touches what the daemon holds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use trainyard_core::id::{AttemptId, DaemonId};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::store::Store;

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonInfo {
    /// The machine's name.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Trainyard's version.
    pub version: String,
    /// Whether it is known to be the only one on its host (it holds the lock of the data directory):
    /// then all earlier ones of that host are gone, and their attempts can be adopted at once.
    pub alone_on_host: bool,
}

impl Store {
    /// Makes a daemon known, with a first lease.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn register_daemon(&self, info: &DaemonInfo, lease: Duration) -> Result<DaemonId> {
        let id = Uuid::now_v7();
        sqlx::query!(
            "with gone as (
                update daemon set stopped_at = clock_timestamp()
                where $5 and host = $2 and stopped_at is null
            )
            insert into daemon (id, host, pid, version, started_at, lease_until)
            values ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $6))",
            id,
            info.host,
            i32::try_from(info.pid).unwrap_or(i32::MAX),
            info.version,
            info.alone_on_host,
            lease.as_secs_f64()
        )
        .execute(&self.core.pool)
        .await?;
        Ok(DaemonId(id))
    }

    /// Renews a daemon's lease, and gives the attempts that it holds. What it attends to and is not
    /// among them has been taken over by another: stop touching it.
    ///
    /// # Errors
    /// `NotFound` where the daemon is not known, or was declared gone: register again.
    pub async fn renew_leases(&self, daemon: DaemonId, lease: Duration) -> Result<Vec<AttemptId>> {
        let renewed = sqlx::query!(
            r#"update daemon set lease_until = clock_timestamp() + make_interval(secs => $2)
            where id = $1 and stopped_at is null
            returning exists (
                select from daemon other
                where other.id <> $1 and other.stopped_at is null and other.lease_until > clock_timestamp()
            ) as "others!""#,
            daemon.0,
            lease.as_secs_f64()
        )
        .fetch_optional(&self.core.relaxed)
        .await?
        .ok_or_else(|| Error::not_found(format!("daemon {daemon}; it was declared gone")))?;
        self.core
            .others_live
            .store(renewed.others, Ordering::Relaxed);
        let held = sqlx::query!(
            "select id from attempt where owner = $1 and state in ('claimed', 'running')",
            daemon.0
        )
        .fetch_all(&self.core.relaxed)
        .await?;
        Ok(held.into_iter().map(|row| AttemptId(row.id)).collect())
    }

    /// Declares a daemon gone: what it holds can be adopted at once. Its containers go on.
    ///
    /// # Errors
    /// Trouble with the database.
    pub async fn stop_daemon(&self, daemon: DaemonId) -> Result<()> {
        sqlx::query!(
            "update daemon set stopped_at = clock_timestamp() where id = $1 and stopped_at is null",
            daemon.0
        )
        .execute(&self.core.pool)
        .await?;
        self.core.wakes.dispatch.wake();
        Ok(())
    }
}
