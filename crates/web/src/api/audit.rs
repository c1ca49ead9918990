//! The audit log.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use trainyard_api::{AuditEntry, ErrorBody, Listing};
use trainyard_core::principal::AuditAction;
use trainyard_store::AuditFilter;
use utoipa::IntoParams;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::Query;
use crate::state::WebState;

/// The most entries in one answer.
const ENTRIES_AT_MOST: u32 = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Of this repo, which may have been removed since.
    repo: Option<String>,
    /// By the principal of this name.
    by: Option<String>,
    /// Of this action: `secret.set`; several with commas between them.
    action: Option<String>,
    /// At this moment or later.
    since: Option<DateTime<Utc>>,
    /// Before this moment.
    until: Option<DateTime<Utc>>,
    /// Older than this entry: for the next page.
    before: Option<i64>,
    /// At most this many.
    limit: Option<u32>,
}

/// The changes that principals made, the newest first. Needs a token that may change things.
#[utoipa::path(
    get, path = "/audit", params(AuditQuery),
    responses((status = 200, body = Listing<AuditEntry>), (status = 422, body = ErrorBody))
)]
pub(crate) async fn list(
    State(state): State<WebState>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Listing<AuditEntry>>, ApiError> {
    let words = query.action.iter().flat_map(|words| words.split(','));
    let actions = words.map(|word| {
        AuditAction::from_word(word).ok_or_else(|| {
            let actions: Vec<&str> = AuditAction::ALL
                .iter()
                .map(|action| action.as_str())
                .collect();
            ApiError::invalid(format!("`{word}` is not an action of the audit log"))
                .help(format!("the actions are {}", actions.join(", ")))
        })
    });
    let limit = query.limit.unwrap_or(50).clamp(1, ENTRIES_AT_MOST);
    // Postgres knows no moments before some thousand years ago.
    let known = |at: DateTime<Utc>| at.max(DateTime::UNIX_EPOCH);
    let filter = AuditFilter {
        repo: query.repo,
        by: query.by,
        actions: actions.collect::<Result<Vec<AuditAction>, ApiError>>()?,
        since: query.since.map(known),
        until: query.until.map(known),
        before: query.before,
        limit: limit + 1,
    };
    let mut entries = state.store().list_audit(&filter).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    Ok(Json(Listing {
        items: entries,
        more,
    }))
}
