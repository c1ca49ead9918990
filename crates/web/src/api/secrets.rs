//! Secrets: set, list and remove them. No route returns a value.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::{ErrorBody, Listing, Secret, SecretValue};
use trainyard_core::principal::Act;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path};
use crate::state::WebState;

#[utoipa::path(
    get, path = "/repos/{repo}/secrets", params(("repo" = String, Path)),
    responses((status = 200, body = Listing<Secret>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn list(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<Listing<Secret>>, ApiError> {
    Ok(Json(state.app().list_secrets(&repo).await?))
}

#[utoipa::path(
    put, path = "/repos/{repo}/secrets/{name}", request_body = SecretValue,
    params(("repo" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn set(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, name)): Path<(String, String)>,
    Object(secret): Object<SecretValue>,
) -> Result<StatusCode, ApiError> {
    state.app().set_secret(&act, &repo, &name, secret).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete, path = "/repos/{repo}/secrets/{name}",
    params(("repo" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    state.app().remove_secret(&act, &repo, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
