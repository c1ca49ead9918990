//! Jobs that one daemon does for all: which daemon leads them, and since when.

use std::collections::BTreeSet;
use std::time::Duration;

use trainyard_core::id::DaemonId;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::encoding;
use crate::db::error::Result;
use crate::store::Store;

/// A job that one daemon does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Turns due ticks into runs.
    Scheduler,
    /// Polls the remotes.
    Watcher,
    /// Removes what retention does not keep.
    Pruner,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Scheduler, Self::Watcher, Self::Pruner];

    /// The name in the database and for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Watcher => "watcher",
            Self::Pruner => "pruner",
        }
    }
}

impl Store {
    /// How long a job has had no leader; `None` where it has one, or never had one.
    pub async fn leaderless_for(&self, role: Role) -> Result<Option<Duration>> {
        let seconds = sqlx::query_scalar!(
            r#"select extract(epoch from clock_timestamp() - lease_until)::float8 as "seconds!"
            from leader where role = $1 and lease_until < clock_timestamp()"#,
            role.as_str()
        )
        .fetch_optional(&self.core.relaxed)
        .await?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// Leads, for `lease` from now on, every role that this daemon leads already, that has no leader, or whose leader
    /// reads fewer formats than this daemon: a push or a tick may need the later ones. A daemon whose own lease has
    /// expired leads none. Returns the roles that it leads.
    pub async fn lead(&self, daemon: DaemonId, lease: Duration) -> Result<BTreeSet<Role>> {
        let roles: Vec<String> = Role::ALL
            .iter()
            .map(|role| role.as_str().to_owned())
            .collect();
        let rows = sqlx::query_scalar!(
            r#"insert into leader as l (role, daemon, term, lease_until)
            select role, $1, 1, clock_timestamp() + make_interval(secs => $3) from unnest($2::text[]) as role
            on conflict (role) do update set
                daemon = excluded.daemon,
                term = l.term + case when l.daemon = excluded.daemon then 0 else 1 end,
                lease_until = excluded.lease_until
            where l.daemon = excluded.daemon or l.lease_until < clock_timestamp()
                or not exists (select from daemon d
                    where d.id = l.daemon and d.stopped_at is null and d.lease_until > clock_timestamp()
                        and d.format >= $4)
            returning role"#,
            daemon.0,
            &roles,
            lease.as_secs_f64(),
            encoding::latest_format()
        )
        .fetch_all(&self.core.relaxed).at(Point::Lead)
        .await?;
        Ok(rows.iter().filter_map(|word| role(word)).collect())
    }
}

/// The role of this name; `None` for one that only newer daemons have.
pub(crate) fn role(word: &str) -> Option<Role> {
    Role::ALL.into_iter().find(|role| role.as_str() == word)
}
