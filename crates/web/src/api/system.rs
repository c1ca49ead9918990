//! The daemon itself: its properties, tokens, garbage collection.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::{
    DaemonInfo, DaemonSummary, ErrorBody, GcReport, GcRequest, Listing, NewToken, Token, TokenMade,
    Violation,
};
use trainyard_core::principal::Act;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path};
use crate::state::WebState;

#[utoipa::path(get, path = "/daemon", responses((status = 200, body = DaemonInfo)))]
pub(crate) async fn daemon(State(state): State<WebState>) -> Result<Json<DaemonInfo>, ApiError> {
    Ok(Json(state.app().daemon().await?))
}

#[utoipa::path(get, path = "/daemons", responses((status = 200, body = Listing<DaemonSummary>)))]
pub(crate) async fn list_daemons(
    State(state): State<WebState>,
) -> Result<Json<Listing<DaemonSummary>>, ApiError> {
    Ok(Json(state.app().list_daemons().await?))
}

#[utoipa::path(get, path = "/violations", responses((status = 200, body = Listing<Violation>)))]
pub(crate) async fn list_violations(
    State(state): State<WebState>,
) -> Result<Json<Listing<Violation>>, ApiError> {
    Ok(Json(state.app().list_violations().await?))
}

#[utoipa::path(get, path = "/tokens", responses((status = 200, body = Listing<Token>)))]
pub(crate) async fn list_tokens(
    State(state): State<WebState>,
) -> Result<Json<Listing<Token>>, ApiError> {
    Ok(Json(state.app().list_tokens().await?))
}

#[utoipa::path(
    post, path = "/tokens", request_body = NewToken,
    responses((status = 201, body = TokenMade), (status = 422, body = ErrorBody))
)]
pub(crate) async fn create_token(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(new): Object<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), ApiError> {
    let made = state.app().create_token(&act, new).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

#[utoipa::path(
    delete, path = "/tokens/{token}", params(("token" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn revoke_token(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.app().revoke_token(&act, &token).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/gc", request_body = GcRequest, responses((status = 200, body = GcReport)))]
pub(crate) async fn gc(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(request): Object<GcRequest>,
) -> Result<Json<GcReport>, ApiError> {
    Ok(Json(state.app().gc(&act, request).await?))
}
