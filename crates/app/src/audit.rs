//! The audit log.

use chrono::{DateTime, Utc};
use trainyard_api::{AuditEntry, AuditSelection, Listing};
use trainyard_core::principal::AuditAction;
use trainyard_store::AuditFilter;

use crate::{App, AppError, Result};

/// The most entries in one answer.
const ENTRIES_AT_MOST: u32 = 1_000;

impl App {
    /// The changes that principals made, the newest first. Needs a token that may change things.
    pub async fn list_audit(&self, selection: AuditSelection) -> Result<Listing<AuditEntry>> {
        let actions = selection.actions.iter().map(|word| {
            AuditAction::from_word(word).ok_or_else(|| {
                let actions: Vec<&str> = AuditAction::ALL
                    .iter()
                    .map(|action| action.as_str())
                    .collect();
                AppError::invalid(format!("`{word}` is not an action of the audit log"))
                    .help(format!("the actions are {}", actions.join(", ")))
            })
        });
        let limit = selection.limit.unwrap_or(50).clamp(1, ENTRIES_AT_MOST);
        // Postgres knows no moments before some thousand years ago.
        let known = |at: DateTime<Utc>| at.max(DateTime::UNIX_EPOCH);
        let filter = AuditFilter {
            repo: selection.repo,
            by: selection.by,
            actions: actions.collect::<Result<Vec<AuditAction>>>()?,
            since: selection.since.map(known),
            until: selection.until.map(known),
            before: selection.before,
            limit: limit + 1,
        };
        let mut entries = self.store().list_audit(&filter).await?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        Ok(Listing {
            items: entries,
            more,
        })
    }
}
