//! Quarantine: list and release its subjects, and report it where it is the cause of an error.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::{ErrorBody, Listing, Quarantined};
use trainyard_core::id::RunId;
use trainyard_core::principal::Act;
use trainyard_store::Error;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::Path;
use crate::state::WebState;

#[utoipa::path(get, path = "/quarantine", responses((status = 200, body = Listing<Quarantined>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
) -> Result<Json<Listing<Quarantined>>, ApiError> {
    Ok(Json(Listing::whole(state.store().quarantined().await?)))
}

#[utoipa::path(
    delete, path = "/quarantine/{id}", params(("id" = i64, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn release(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    state.store().release_from_quarantine(&act, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One line on a quarantined run: why it is quarantined, and which commands release or end it.
pub(super) fn in_words(held: &Quarantined) -> String {
    format!(
        "quarantined since its {} failed: {}; release it with `trainyard quarantine release {}`, or end it with \
         `trainyard run cancel {}`",
        held.place, held.reason, held.id, held.name
    )
}

/// An error about a run; where the run is quarantined, the reason and the commands for it.
pub(super) async fn explain(state: &WebState, run: RunId, error: Error) -> ApiError {
    if matches!(error, Error::Corrupt { .. })
        && let Ok(Some(held)) = state.store().quarantine_of(run).await
    {
        return ApiError::conflict(format!("run {run} is {}", in_words(&held)));
    }
    error.into()
}
