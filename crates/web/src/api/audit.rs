//! The audit log.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use trainyard_api::{AuditEntry, AuditSelection, ErrorBody, Listing};
use utoipa::IntoParams;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::Query;
use crate::state::WebState;

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
    let actions = query.action.iter().flat_map(|words| words.split(','));
    let selection = AuditSelection {
        repo: query.repo,
        by: query.by,
        actions: actions.map(ToOwned::to_owned).collect(),
        since: query.since,
        until: query.until,
        before: query.before,
        limit: query.limit,
    };
    Ok(Json(state.app().list_audit(selection).await?))
}
