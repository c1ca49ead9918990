//! The health of a daemon: the problems that keep it from working fully, in its own memory and in its row.
//!
//! 1. In memory, because every run asks whether the daemon may claim, and because the daemon reports
//!    its health while the database is away.
//! 2. In the row, because another daemon may be asked why a stage waits. The row is a
//!    moment behind; no decision depends on it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trainyard_core::Timestamp;
use trainyard_core::id::DaemonId;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::error::{Error, Result};
use crate::store::Store;

/// The kind of a problem; a daemon has at most one problem of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The Docker engine that runs the attempts.
    Engine,
    /// The list of running containers, which that Docker engine does not return.
    Listing,
    /// Free space on disks.
    Space,
    /// Disks that do not answer.
    Disk,
    /// The daemon's lease.
    Lease,
    /// The leader of schedules.
    Scheduler,
}

impl ProblemKind {
    pub const ALL: [Self; 6] = [
        Self::Engine,
        Self::Listing,
        Self::Space,
        Self::Disk,
        Self::Lease,
        Self::Scheduler,
    ];

    /// The name for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Listing => "listing",
            Self::Space => "space",
            Self::Disk => "disk",
            Self::Lease => "lease",
            Self::Scheduler => "scheduler",
        }
    }

    /// Whether a daemon with such a problem claims no attempts. The attempts that it holds continue. The database
    /// itself refuses claims of a daemon without a lease.
    #[must_use]
    pub const fn pauses_claims(self) -> bool {
        match self {
            Self::Engine | Self::Space | Self::Disk => true,
            Self::Listing | Self::Lease | Self::Scheduler => false,
        }
    }
}

/// A problem that keeps a daemon from working fully. `Display` is for people, without paths or addresses, since every
/// caller of the health check sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProblem {
    pub kind: ProblemKind,
    /// The problem in words: `Docker does not answer`.
    pub what: String,
    pub since: Timestamp,
}

impl fmt::Display for HealthProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} since {}",
            self.what,
            self.since.format("%Y-%m-%d %H:%M:%S UTC")
        )
    }
}

/// The health of this process' daemon.
#[derive(Debug, Default)]
pub struct DaemonHealth {
    problems: Mutex<BTreeMap<ProblemKind, HealthProblem>>,
    refused_for_room: Mutex<Option<Instant>>,
}

impl DaemonHealth {
    /// Records a problem of this kind, or with `None` that there is none. A problem that continues keeps its start.
    /// Returns whether there is a change to report.
    pub fn note(&self, kind: ProblemKind, what: Option<String>, now: Timestamp) -> bool {
        let mut problems = self.lock();
        let Some(what) = what else {
            return problems.remove(&kind).is_some();
        };
        let known = problems.get(&kind);
        if known.is_some_and(|known| known.what == what) {
            return false;
        }
        let since = known.map_or(now, |known| known.since);
        let problem = HealthProblem { kind, what, since };
        problems.insert(kind, problem);
        true
    }

    /// The current problems, in the order of the kinds.
    #[must_use]
    pub fn problems(&self) -> Vec<HealthProblem> {
        self.lock().values().cloned().collect()
    }

    /// Whether claims are paused.
    #[must_use]
    pub fn pauses_claims(&self) -> bool {
        self.lock().keys().any(|kind| kind.pauses_claims())
    }

    /// Records when an error means that Postgres refused a write because its disk is full. Postgres still answers
    /// then, and may accept other writes: a small one may fit.
    pub fn note_refusal(&self, error: &Error, now: Instant) {
        if matches!(error, Error::DatabaseFull(_)) {
            *self.refusal_for_room() = Some(now);
        }
    }

    /// Whether Postgres refused a write for that reason within `time` before `now`.
    #[must_use]
    pub fn was_refused_for_room_within(&self, time: Duration, now: Instant) -> bool {
        let refused = *self.refusal_for_room();
        refused.is_some_and(|at| now.saturating_duration_since(at) <= time)
    }

    fn refusal_for_room(&self) -> MutexGuard<'_, Option<Instant>> {
        let guard = self.refused_for_room.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProblemKind, HealthProblem>> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The health of this process' daemon.
    #[must_use]
    pub fn health(&self) -> &DaemonHealth {
        &self.core.health
    }

    /// Publishes the health of this process' daemon in its row, for the other daemons.
    pub async fn publish_health(&self, daemon: DaemonId) -> Result<()> {
        let problems = serde_json::json!(self.core.health.problems());
        sqlx::query!(
            "update daemon set troubles = $2 where id = $1",
            daemon.0,
            problems
        )
        .execute(&self.core.relaxed)
        .at(Point::TellCondition)
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn a_problem_that_continues_keeps_its_start() {
        let health = DaemonHealth::default();
        assert!(health.note(ProblemKind::Space, Some("low".to_owned()), at(1)));
        assert!(!health.note(ProblemKind::Space, Some("low".to_owned()), at(2)));
        assert!(health.note(ProblemKind::Space, Some("lower".to_owned()), at(3)));
        let shown = health.problems()[0].to_string();
        assert_eq!(shown, "lower since 1970-01-01 00:00:01 UTC");
        assert!(health.note(ProblemKind::Space, None, at(4)));
        assert!(!health.note(ProblemKind::Space, None, at(5)));
    }

    #[test]
    fn a_refusal_for_room_counts_for_a_time() {
        let (health, begun) = (DaemonHealth::default(), Instant::now());
        let time = Duration::from_secs(5);
        health.note_refusal(&Error::Contention(None), begun);
        assert!(!health.was_refused_for_room_within(time, begun));
        let full = Error::DatabaseFull(Box::new(sqlx::Error::PoolClosed));
        health.note_refusal(&full, begun);
        assert!(health.was_refused_for_room_within(time, begun + time));
        let later = begun + time + Duration::from_millis(1);
        assert!(!health.was_refused_for_room_within(time, later));
    }

    #[test]
    fn only_problems_that_concern_starts_pause_claims() {
        let health = DaemonHealth::default();
        health.note(ProblemKind::Scheduler, Some("missing".to_owned()), at(1));
        assert!(!health.pauses_claims());
        health.note(ProblemKind::Engine, Some("silent".to_owned()), at(1));
        assert!(health.pauses_claims());
    }
}
