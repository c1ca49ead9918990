//! The audit log.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Principal {
    /// `user` (who started a daemon), `token` or `daemon`.
    pub kind: String,
    /// Distinguishes principals of one name.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// A change that a principal made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number: newer entries have higher ones.
    pub id: i64,
    /// When the change was made.
    pub at: DateTime<Utc>,
    /// Who made it.
    pub by: Principal,
    /// The address that the request came from, a reverse proxy's where there is one; none for changes by a process on
    /// the daemon's machine.
    pub peer: Option<String>,
    /// What was done: `secret.set`.
    pub action: String,
    /// To what: a name or a number.
    pub subject: Option<String>,
    /// The repo that it belongs to.
    pub repo: Option<String>,
    /// More of the change, depending on the action; never the value of a secret.
    pub detail: BTreeMap<String, Value>,
}

/// Which entries of the audit log to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditSelection {
    /// Of this repo, which may have been removed since.
    pub repo: Option<String>,
    /// By the principal of this name.
    pub by: Option<String>,
    /// Of one of these actions.
    pub actions: Vec<String>,
    /// At this moment or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this moment.
    pub until: Option<DateTime<Utc>>,
    /// Older than this entry.
    pub before: Option<i64>,
    /// At most this many.
    pub limit: Option<u32>,
}
