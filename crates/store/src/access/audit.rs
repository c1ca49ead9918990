//! The audit log: each change that a principal makes has a row.
//!
//! 1. The row is written in the transaction of the change: neither is there without the other.
//! 2. It has names, not references, so it outlives the repo, DAG, run or token that it names.
//! 3. It has no value of a secret. A detail says that a secret or a credential changed, never to what.
//! 4. Changes that daemons make by themselves (runs of ticks and pushes, plans, retention, quarantine) have no rows:
//!    causes, the events of runs and the deliveries record these.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::PgConnection;
use trainyard_api::{AuditEntry, Principal};
use trainyard_core::Timestamp;
use trainyard_core::principal::{Act, AuditAction};

use crate::db::error::Result;
use crate::store::Store;

/// A change, as the audit log describes it.
#[derive(Debug)]
pub(crate) struct Audited<'a> {
    pub(crate) action: AuditAction,
    /// The thing that changed, as the command line names it; `None` where the action has none.
    pub(crate) subject: Option<&'a str>,
    /// The name of the repo that it belongs to.
    pub(crate) repo: Option<&'a str>,
    /// An object; see [`crate::access::audit`] for what it must not contain.
    pub(crate) detail: Value,
}

/// Records a change within its transaction.
pub(crate) async fn record(
    connection: &mut PgConnection,
    act: &Act,
    audited: Audited<'_>,
) -> Result<()> {
    sqlx::query!(
        "insert into audit (at, principal_kind, principal_id, principal, peer, action, subject, repo, detail)
         values (clock_timestamp(), $1, $2, $3, $4, $5, $6, $7, $8)",
        act.by.kind.as_str(),
        act.by.id,
        act.by.name,
        act.peer.map(|peer| peer.to_string()),
        audited.action.as_str(),
        audited.subject,
        audited.repo,
        audited.detail
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which entries of the audit log to list, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// The name of a repo, which may have been removed since.
    pub repo: Option<String>,
    /// The name of the principal.
    pub by: Option<String>,
    /// One of these; empty means any.
    pub actions: Vec<AuditAction>,
    /// At this time or later.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
    /// Older than this entry: for the next page.
    pub before: Option<i64>,
    pub limit: u32,
}

impl Store {
    /// The audit log, the newest entries first.
    pub async fn list_audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>> {
        let actions: Vec<String> = filter.actions.iter().map(ToString::to_string).collect();
        let entries = sqlx::query!(
            "select id, at, principal_kind, principal_id, principal, peer, action, subject, repo, detail from audit
             where id < $1 and ($2::text is null or repo = $2) and ($3::text is null or principal = $3)
                and (cardinality($4::text[]) = 0 or action = any($4))
                and ($5::timestamptz is null or at >= $5) and ($6::timestamptz is null or at < $6)
             order by id desc limit $7",
            filter.before.unwrap_or(i64::MAX),
            filter.repo.as_deref(),
            filter.by.as_deref(),
            &actions,
            filter.since,
            filter.until,
            i64::from(filter.limit)
        )
        .fetch_all(&self.core.reading)
        .await?;
        // The words are those that were written, perhaps by a newer version.
        Ok(entries
            .into_iter()
            .map(|row| AuditEntry {
                id: row.id,
                at: row.at,
                by: Principal {
                    kind: row.principal_kind,
                    id: row.principal_id,
                    name: row.principal,
                },
                peer: row.peer,
                action: row.action,
                subject: row.subject,
                repo: row.repo,
                detail: match row.detail {
                    Value::Object(detail) => detail.into_iter().collect(),
                    _ => BTreeMap::new(),
                },
            })
            .collect())
    }
}
