//! The daemon itself: errors, listings, tokens, health, garbage collection.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// A stable word for programs: `not_found`.
    pub code: String,
    /// What happened, and where.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Listing<T> {
    /// The items, in the listing's order.
    pub items: Vec<T>,
    /// Whether there are more; the query of the listing has the parameters for the next page.
    #[serde(default)]
    pub more: bool,
}

impl<T> Listing<T> {
    /// A whole listing.
    #[must_use]
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, more: false }
    }
}

/// A daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaemonInfo {
    /// Trainyard's version.
    pub version: String,
    /// The installation's id.
    pub instance: String,
    /// The address at which forges reach it.
    pub url: String,
    /// How many attempts run at the same time.
    pub slots: u32,
    /// The pools that its configuration defines, with their slots; older daemons do not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<BTreeMap<String, u32>>,
}

/// One of the daemons on a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DaemonSummary {
    /// Its id.
    pub id: String,
    /// The machine's name, and its data folder there.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Trainyard's version.
    pub version: String,
    /// `alive`; `silent` where its lease expired; `replaced` where it ended without a stop; `stopped`.
    pub state: DaemonState,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When its lease expires. Until then, no other daemon adopts its attempts.
    pub lease_until: DateTime<Utc>,
    /// When it stopped or was replaced.
    pub stopped_at: Option<DateTime<Utc>>,
    /// How many attempts it holds.
    pub attempts: u64,
    /// The attempts that it holds, the oldest run's first; 1,000 of them at the most.
    #[serde(default)]
    pub holds: Vec<HeldAttempt>,
    /// The jobs that it does for all daemons: `scheduler`, `watcher`, `pruner`.
    pub leads: Vec<Lead>,
    /// The problems that keep it from working fully, each in words, as it last reported them.
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// The state of a daemon's registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DaemonState {
    /// It holds its lease.
    Alive,
    /// Its lease expired: it was killed, or cannot reach the database.
    Silent,
    /// It ended without an orderly stop (killed, crashed, or cut off from the database), and the next one on its host
    /// took its place.
    Replaced,
    /// It stopped in order.
    Stopped,
}

/// An attempt that a daemon holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeldAttempt {
    /// Its run.
    pub run: i64,
    /// Its stage.
    pub stage: String,
    /// Its number, from 1.
    pub attempt: u32,
    /// `starting` or `running`.
    pub state: String,
    /// When this daemon claimed or adopted it.
    pub since: DateTime<Utc>,
}

/// A job that one daemon does for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lead {
    /// The job.
    pub role: String,
    /// The number of its term as leader: each new leader has a higher one.
    pub term: u64,
}

/// A violated invariant of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Violation {
    /// The invariant's name.
    pub invariant: String,
    /// The invariant, in words.
    pub says: String,
    /// The rows that break it, each as JSON; the first few.
    pub rows: Vec<String>,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            invariant,
            says,
            rows,
        } = self;
        let rows = rows.join(" ");
        write!(f, "{invariant}: it does not hold that {says}: {rows}")
    }
}

/// A repo, DAG or run that is quarantined because it failed in the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// Its number, to release it by.
    pub id: i64,
    /// `repo`, `dag` or `run`.
    pub kind: String,
    /// Its name or number: `shop`, `shop/train`, `42`.
    pub name: String,
    /// Where it failed: `planning`, `scheduling`, `dispatch`, `supervision` or `sync`.
    pub place: String,
    /// The reason.
    pub reason: String,
    /// How often it failed.
    pub failures: u32,
    /// When it was quarantined.
    pub held_at: DateTime<Utc>,
}

/// The answer of `/healthz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// Whether a daemon can do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// Its state.
    pub state: ReadyState,
    /// The problems that keep it from being `ready`, each in words.
    pub reasons: Vec<String>,
}

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadyState {
    /// All is well.
    Ready,
    /// It answers, but does not do all of its work.
    Degraded,
    /// It can do nothing: the database does not answer.
    Unready,
}

/// The scope of a token.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Read everything except secrets and the audit log.
    Read,
    /// Read and change everything.
    #[default]
    Admin,
}

impl TokenScope {
    /// Whether this scope permits an action that needs `needed`.
    #[must_use]
    pub fn permits(self, needed: Self) -> bool {
        self >= needed
    }

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// A scope of a newer version permits nothing here.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Read, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == word)
    }
}

/// A request to create a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name, shown as the actor of its requests.
    pub name: String,
    /// What it permits.
    #[serde(default)]
    pub scope: TokenScope,
}

/// A token, without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it permits.
    #[serde(default)]
    pub scope: TokenScope,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A newly created token.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// As listings show it.
    #[serde(flatten)]
    pub token: Token,
    /// The text to send. It is not stored and not shown again.
    pub secret: String,
}

impl std::fmt::Debug for TokenMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenMade")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// A request to remove everything that retention does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GcRequest {
    /// Only count, and remove nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The counts of what was removed, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct GcReport {
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Runs.
    pub runs: u64,
    /// Logs of runs that stay.
    pub logs: u64,
    /// Webhook deliveries.
    pub deliveries: u64,
    /// DAG versions.
    pub dag_versions: u64,
    /// Files of the artifact store.
    pub artifact_files: u64,
    /// Their bytes.
    pub artifact_bytes: u64,
}
