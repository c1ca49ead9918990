//! Daemons and their leases.
//!
//! A lease belongs to a daemon, not to an attempt: each renewal writes one row, however many attempts run. Until the
//! lease expires, no other daemon touches the attempts that the daemon holds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Deserialize as _;
use serde_json::Value;
use trainyard_api::{DaemonState, DaemonSummary, Lead};
use trainyard_core::Timestamp;
use trainyard_core::id::DaemonId;
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::db::encoding;
use crate::db::error::{Error, Result};
use crate::fleet::health::HealthProblem;
use crate::fleet::leaders;
use crate::store::Store;
use crate::views::held;

/// What a daemon registers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonInfo {
    pub host: String,
    pub pid: u32,
    pub version: String,
    /// Whether it is known to be the only daemon on its host (it holds the lock of the data directory). Then all
    /// earlier daemons of that host are gone, and their attempts can be adopted at once.
    pub alone_on_host: bool,
}

/// A lease as another daemon sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseSeen {
    pub daemon: DaemonId,
    /// When it expires, by the database's clock.
    pub until: Timestamp,
    pub length: Duration,
}

impl Store {
    /// The daemons that live, that hold attempts, or that started within the last day;
    /// live ones first, then the newest first.
    pub async fn list_daemons(&self) -> Result<Vec<DaemonSummary>> {
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
        let daemons = rows.into_iter().map(|row| {
            let holding = held.remove(&DaemonId(row.id)).unwrap_or_default();
            let leads = row.leads.iter().filter_map(|lead| {
                let (word, term) = lead.split_once(' ').unwrap_or((lead, ""));
                Some(Lead {
                    role: leaders::role(word)?.as_str().to_owned(),
                    term: term.parse().unwrap_or_default(),
                })
            });
            DaemonSummary {
                id: row.id.to_string(),
                host: row.host,
                pid: u32::try_from(row.pid).unwrap_or_default(),
                version: row.version,
                state: match (row.stopped_at, row.is_alive) {
                    (Some(_), _) if row.replaced => DaemonState::Replaced,
                    (Some(_), _) => DaemonState::Stopped,
                    (None, true) => DaemonState::Alive,
                    (None, false) => DaemonState::Silent,
                },
                started_at: row.started_at,
                lease_until: row.lease_until,
                stopped_at: row.stopped_at,
                attempts: holding.count,
                holds: holding.attempts,
                leads: leads.collect(),
                troubles: troubles(row.troubles)
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            }
        });
        Ok(daemons.collect())
    }

    /// Why no daemon claims: the problems that pause claims, if all live daemons have one. Empty where a live daemon
    /// claims, or where none lives.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) async fn claims_paused_by(&self) -> Result<Vec<HealthProblem>> {
        let rows = sqlx::query_scalar!(
            "select troubles from daemon where stopped_at is null and lease_until > clock_timestamp()
             order by started_at"
        )
        .fetch_all(&self.core.reading)
        .await?;
        let mut paused_by: Vec<HealthProblem> = Vec::new();
        for row in rows {
            let mut pausing = troubles(row);
            pausing.retain(|trouble| trouble.kind.pauses_claims());
            if pausing.is_empty() {
                return Ok(Vec::new());
            }
            // Several daemons on one Docker engine report the same problem.
            pausing.retain(|trouble| paused_by.iter().all(|known| known.what != trouble.what));
            paused_by.extend(pausing);
        }
        Ok(paused_by)
    }

    /// Registers a daemon, with a first lease.
    pub async fn register_daemon(&self, info: &DaemonInfo, lease: Duration) -> Result<DaemonId> {
        let id = Uuid::now_v7();
        sqlx::query!(
            "with gone as (
                update daemon set stopped_at = clock_timestamp(), replaced = true
                where $5 and host = $2 and stopped_at is null
            )
            insert into daemon (id, host, pid, version, format, started_at, lease_until, lease_seconds)
            values ($1, $2, $3, $4, $7, clock_timestamp(), clock_timestamp() + make_interval(secs => $6), $6)",
            id,
            info.host,
            i32::try_from(info.pid).unwrap_or(i32::MAX),
            info.version,
            info.alone_on_host,
            lease.as_secs_f64(),
            encoding::latest_format()
        )
        .execute(&self.core.pool).at(Point::RegisterDaemon)
        .await?;
        Ok(DaemonId(id))
    }

    /// Renews a daemon's lease.
    ///
    /// After the clock went back, the leases of other daemons reach further than the length of a lease. Live
    /// daemons renew theirs; a daemon that is gone must not keep its attempts until the clock has caught up.
    /// So such leases are cut to their length.
    ///
    /// # Errors
    /// `NotFound` where the daemon is not registered or was declared gone: register again.
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

    /// The leases of all other daemons that have not stopped.
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

    /// Declares a daemon gone: its attempts can be adopted at once. Its containers continue.
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

/// The problems that a daemon reported. A problem that cannot be read, such as a kind of a newer daemon, is left out:
/// it must not hide the others. The daemon reports it again after its next check.
fn troubles(json: Value) -> Vec<HealthProblem> {
    let Value::Array(reported) = json else {
        tracing::warn!(troubles = %json, "the reported problems of a daemon cannot be read; they are left out");
        return Vec::new();
    };
    let read = reported.into_iter().filter_map(|trouble| {
        let read = HealthProblem::deserialize(&trouble);
        read.inspect_err(|problem| {
            tracing::warn!(%problem, %trouble, "a reported problem of a daemon cannot be read; it is left out");
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
    fn a_problem_of_an_unknown_kind_hides_no_other() {
        let since = "2026-11-23T12:00:00Z";
        let known = json!({"kind": "engine", "what": "Docker does not answer", "since": since});
        let unknown = json!({"kind": "moon", "what": "the moon is full", "since": since});
        let read = troubles(json!([unknown, known]));
        let shown: Vec<&str> = read.iter().map(|trouble| trouble.what.as_str()).collect();
        assert_eq!(shown, ["Docker does not answer"]);
        assert_eq!(troubles(json!("spoilt")), []);
    }
}
