//! Daemons and their leases.
//!
//! The lease is the daemon's, not the attempt's: one row is written each time it is renewed, however
//! many attempts run. While it runs, nobody else touches what the daemon holds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use trainyard_core::Timestamp;
use trainyard_core::id::DaemonId;
use trainyard_failpoint::{Effect as _, Point};
use uuid::Uuid;

use crate::db::error::{Error, Result};
use crate::fleet::condition::Trouble;
use crate::fleet::leaders::{self, Role};
use crate::store::Store;
use crate::views::held::{self, HeldAttempt};

/// What a daemon says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonInfo {
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// Whether it is known to be the only one on its host (it holds the lock of the data directory):
    /// then all earlier ones of that host are gone, and their attempts can be adopted at once.
    pub alone_on_host: bool,
}

/// A daemon, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonView {
    pub id: DaemonId,
    /// The machine's name, and its data folder there.
    pub host: String,
    pub pid: u32,
    pub version: String,
    pub started_at: Timestamp,
    /// Until when nobody takes over what it holds.
    pub lease_until: Timestamp,
    /// When it stopped or was replaced, if it was.
    pub stopped_at: Option<Timestamp>,
    /// Whether it ended without an orderly stop, and the next one on its host took its place.
    pub replaced: bool,
    /// Whether it holds its lease now.
    pub is_alive: bool,
    /// How many attempts it holds.
    pub attempts: u64,
    /// They, the oldest run's first; 1,000 of them at the most.
    pub holds: Vec<HeldAttempt>,
    /// What it leads, and in which term.
    pub leads: Vec<(Role, u64)>,
    /// What keeps it from working fully, as it said last.
    pub troubles: Vec<Trouble>,
}

/// A lease as another daemon sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    pub daemon: DaemonId,
    /// Until when, by the database's clock.
    pub until: Timestamp,
    pub length: Duration,
}

impl Store {
    /// The daemons that live, that hold attempts, or that started within the last day; those that
    /// live first, the newest first.
    pub async fn list_daemons(&self) -> Result<Vec<DaemonView>> {
        let rows = sqlx::query!(
            r#"select d.id, d.host, d.pid, d.version, d.started_at, d.lease_until, d.stopped_at, d.replaced,
                d.stopped_at is null and d.lease_until > clock_timestamp() as "is_alive!",
                array(select l.role || ' ' || l.term from leader l
                    where l.daemon = d.id and l.lease_until > clock_timestamp() and d.stopped_at is null
                    order by l.role) as "leads!",
                d.troubles
            from daemon d
            where d.stopped_at is null or d.started_at > clock_timestamp() - interval '1 day'
                or exists (select from attempt a where a.owner = d.id and a.state in ('claimed', 'running'))
            order by 9 desc, d.started_at desc"#
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut held = held::by_daemon(&self.core).await?;
        rows.into_iter()
            .map(|row| {
                let holding = held.remove(&DaemonId(row.id)).unwrap_or_default();
                let leads = row.leads.iter().map(|lead| {
                    let (word, term) = lead.split_once(' ').unwrap_or((lead, ""));
                    Ok((leaders::role(word)?, term.parse().unwrap_or_default()))
                });
                Ok(DaemonView {
                    id: DaemonId(row.id),
                    pid: u32::try_from(row.pid).unwrap_or_default(),
                    started_at: row.started_at,
                    lease_until: row.lease_until,
                    stopped_at: row.stopped_at,
                    replaced: row.replaced,
                    is_alive: row.is_alive,
                    attempts: holding.count,
                    holds: holding.attempts,
                    leads: leads.collect::<Result<_>>()?,
                    troubles: troubles(row.troubles),
                    host: row.host,
                    version: row.version,
                })
            })
            .collect()
    }

    /// Why no daemon claims: the troubles that pause all that live. Nothing where one of them claims, or
    /// where none lives.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) async fn claims_paused_by(&self) -> Result<Vec<Trouble>> {
        let rows = sqlx::query_scalar!(
            "select troubles from daemon where stopped_at is null and lease_until > clock_timestamp()
             order by started_at"
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut paused_by: Vec<Trouble> = Vec::new();
        for row in rows {
            let mut pausing = troubles(row);
            pausing.retain(|trouble| trouble.kind.pauses_claims());
            if pausing.is_empty() {
                return Ok(Vec::new());
            }
            // Several daemons on one Docker engine say the same of it.
            pausing.retain(|trouble| paused_by.iter().all(|known| known.what != trouble.what));
            paused_by.extend(pausing);
        }
        Ok(paused_by)
    }

    /// Makes a daemon known, with a first lease.
    pub async fn register_daemon(&self, info: &DaemonInfo, lease: Duration) -> Result<DaemonId> {
        let id = Uuid::now_v7();
        sqlx::query!(
            "with gone as (
                update daemon set stopped_at = clock_timestamp(), replaced = true
                where $5 and host = $2 and stopped_at is null
            )
            insert into daemon (id, host, pid, version, started_at, lease_until, lease_seconds)
            values ($1, $2, $3, $4, clock_timestamp(), clock_timestamp() + make_interval(secs => $6), $6)",
            id,
            info.host,
            i32::try_from(info.pid).unwrap_or(i32::MAX),
            info.version,
            info.alone_on_host,
            lease.as_secs_f64()
        )
        .execute(&self.core.pool).at(Point::RegisterDaemon)
        .await?;
        Ok(DaemonId(id))
    }

    /// Renews a daemon's lease.
    ///
    /// Where the clock went back, leases of others reach further than a lease does. Those who live renew
    /// theirs; those who are gone must not keep what they held until the clock is where it was. So such
    /// leases are cut to their length.
    ///
    /// # Errors
    /// `NotFound` where the daemon is not known, or was declared gone: register again.
    pub async fn renew_leases(&self, daemon: DaemonId, lease: Duration) -> Result<()> {
        let renewed = sqlx::query!(
            r#"with too_long as (
                select id from daemon
                where id <> $1 and stopped_at is null
                    and lease_until > clock_timestamp() + make_interval(secs => lease_seconds)
                for update skip locked
            ),
            cut as (
                update daemon d set lease_until = clock_timestamp() + make_interval(secs => d.lease_seconds)
                from too_long where d.id = too_long.id
            )
            update daemon set lease_until = clock_timestamp() + make_interval(secs => $2), lease_seconds = $2
            where id = $1 and stopped_at is null
            returning exists (
                select from daemon other
                where other.id <> $1 and other.stopped_at is null and other.lease_until > clock_timestamp()
            ) as "others!""#,
            daemon.0,
            lease.as_secs_f64()
        )
        .fetch_optional(&self.core.relaxed).at(Point::RenewLeases)
        .await?
        .ok_or_else(|| Error::not_found(format!("daemon {daemon}; it was declared gone")))?;
        self.core
            .others_live
            .store(renewed.others, Ordering::Relaxed);
        Ok(())
    }

    /// How the leases of those stand that have not stopped, but for this daemon's own.
    pub async fn leases_of_others(&self, daemon: DaemonId) -> Result<Vec<LeaseSeen>> {
        let rows = sqlx::query!(
            "select id, lease_until, lease_seconds from daemon where id <> $1 and stopped_at is null",
            daemon.0
        )
        .fetch_all(&self.core.relaxed)
        .await?;
        let leases = rows.into_iter().map(|row| LeaseSeen {
            daemon: DaemonId(row.id),
            until: row.lease_until,
            length: Duration::try_from_secs_f64(row.lease_seconds).unwrap_or(Duration::MAX),
        });
        Ok(leases.collect())
    }

    /// Declares a daemon gone: what it holds can be adopted at once. Its containers go on.
    pub async fn stop_daemon(&self, daemon: DaemonId) -> Result<()> {
        sqlx::query!(
            "update daemon set stopped_at = clock_timestamp() where id = $1 and stopped_at is null",
            daemon.0
        )
        .execute(&self.core.pool)
        .at(Point::StopDaemon)
        .await?;
        self.core.wakes.dispatch.wake();
        Ok(())
    }
}

/// What a daemon said of itself. What of it cannot be read, as a newer daemon may have troubles of other kinds, is
/// left out, and said again at its next look: nobody else has to wait for it.
fn troubles(json: Value) -> Vec<Trouble> {
    let Value::Array(told) = json else {
        tracing::warn!(troubles = %json, "the troubles of a daemon cannot be read");
        return Vec::new();
    };
    let read = told.into_iter().filter_map(|trouble| {
        let read = Trouble::deserialize(&trouble);
        read.inspect_err(|problem| {
            tracing::warn!(%problem, %trouble, "a reported problem of a daemon cannot be read");
        })
        .ok()
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trouble_of_a_kind_that_is_not_known_hides_no_other() {
        let since = "2026-11-23T12:00:00Z";
        let known = json!({"kind": "engine", "what": "Docker does not answer", "since": since});
        let unknown = json!({"kind": "moon", "what": "the moon is full", "since": since});
        let read = troubles(json!([unknown, known]));
        let told: Vec<&str> = read.iter().map(|trouble| trouble.what.as_str()).collect();
        assert_eq!(told, ["Docker does not answer"]);
        assert_eq!(troubles(json!("spoilt")), []);
    }
}
