//! Quarantine: list and release its subjects, and report it where it is the cause of an error.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::{ErrorBody, Listing, Quarantined};
use trainyard_core::principal::Act;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::Path;
use crate::state::WebState;

#[utoipa::path(get, path = "/quarantine", responses((status = 200, body = Listing<Quarantined>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
) -> Result<Json<Listing<Quarantined>>, ApiError> {
    Ok(Json(state.app().list_quarantined().await?))
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
    state.app().release(&act, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
