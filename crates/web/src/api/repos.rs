//! Repos.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use trainyard_api::{
    ChangeRepo, Delivery, ErrorBody, History, Listing, NewRepo, Repo, RepoDetail, RepoSaved,
};
use trainyard_core::principal::Act;
use utoipa::IntoParams;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::state::WebState;

#[utoipa::path(get, path = "/repos", responses((status = 200, body = Listing<Repo>)))]
pub(crate) async fn list(State(state): State<WebState>) -> Result<Json<Listing<Repo>>, ApiError> {
    Ok(Json(state.app().list_repos().await?))
}

#[utoipa::path(
    post, path = "/repos", request_body = NewRepo,
    responses((status = 201, body = RepoSaved), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn add(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(new): Object<NewRepo>,
) -> Result<(StatusCode, Json<RepoSaved>), ApiError> {
    let made = state.app().add_repo(&act, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Changes a repo; fields that are left out stay as they are.
#[utoipa::path(
    patch, path = "/repos/{repo}", params(("repo" = String, Path)), request_body = ChangeRepo,
    responses((status = 200, body = RepoSaved), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn change(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(repo): Path<String>,
    Object(asked): Object<ChangeRepo>,
) -> Result<Json<RepoSaved>, ApiError> {
    Ok(Json(state.app().change_repo(&act, &repo, asked).await?))
}

#[utoipa::path(
    get, path = "/repos/{repo}", params(("repo" = String, Path)),
    responses((status = 200, body = RepoDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<RepoDetail>, ApiError> {
    Ok(Json(state.app().repo(&repo).await?))
}

#[utoipa::path(
    delete, path = "/repos/{repo}", params(("repo" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(repo): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.app().remove_repo(&act, &repo).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The history that is removed along with a repo.
#[utoipa::path(
    get, path = "/repos/{repo}/history", params(("repo" = String, Path)),
    responses((status = 200, body = History), (status = 404, body = ErrorBody))
)]
pub(crate) async fn history(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<History>, ApiError> {
    Ok(Json(state.app().repo_history(&repo).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeliveriesQuery {
    /// At most this many.
    limit: Option<u32>,
}

/// The newest webhook deliveries for a repo. Deliveries with a wrong signature are rejected and not stored.
#[utoipa::path(
    get, path = "/repos/{repo}/deliveries", params(("repo" = String, Path), DeliveriesQuery),
    responses((status = 200, body = Listing<Delivery>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn deliveries(
    State(state): State<WebState>,
    Path(repo): Path<String>,
    Query(query): Query<DeliveriesQuery>,
) -> Result<Json<Listing<Delivery>>, ApiError> {
    Ok(Json(state.app().list_deliveries(&repo, query.limit).await?))
}

/// Asks for a sync, and waits for the end of one that began after this call.
#[utoipa::path(
    post, path = "/repos/{repo}/sync", params(("repo" = String, Path)),
    responses((status = 200, body = Repo), (status = 404, body = ErrorBody))
)]
pub(crate) async fn sync(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<Repo>, ApiError> {
    Ok(Json(state.app().sync_repo(&repo).await?))
}
