//! The daemon itself: what it is, tokens, garbage collection.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use secrecy::ExposeSecret;
use trainyard_api::{
    DaemonInfo, ErrorBody, GcReport, GcRequest, Listing, NewToken, Token, TokenMade,
};
use trainyard_store::TokenInfo;

use crate::error::ApiError;
use crate::state::WebState;

/// The longest name of a token, in characters.
const TOKEN_NAME_LONGEST: usize = 100;

#[utoipa::path(get, path = "/daemon", responses((status = 200, body = DaemonInfo)))]
pub(crate) async fn daemon(State(state): State<WebState>) -> Result<Json<DaemonInfo>, ApiError> {
    let settings = state.settings();
    Ok(Json(DaemonInfo {
        version: settings.version.clone(),
        instance: state.store().instance().await?.to_string(),
        url: settings.public_url.clone(),
        slots: settings.slots,
    }))
}

#[utoipa::path(get, path = "/tokens", responses((status = 200, body = Listing<Token>)))]
pub(crate) async fn list_tokens(
    State(state): State<WebState>,
) -> Result<Json<Listing<Token>>, ApiError> {
    let tokens = state.store().list_tokens().await?;
    Ok(Json(Listing::whole(
        tokens.into_iter().map(token).collect(),
    )))
}

#[utoipa::path(
    post, path = "/tokens", request_body = NewToken,
    responses((status = 201, body = TokenMade), (status = 422, body = ErrorBody))
)]
pub(crate) async fn create_token(
    State(state): State<WebState>,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, Json<TokenMade>), ApiError> {
    let name = new.name.trim();
    if name.is_empty()
        || name.chars().count() > TOKEN_NAME_LONGEST
        || name.contains(char::is_control)
    {
        return Err(ApiError::invalid(format!(
            "a token's name has 1 to {TOKEN_NAME_LONGEST} characters, none of them control characters"
        )));
    }
    let (info, secret) = state.store().create_token(name).await?;
    let made = TokenMade {
        token: token(info),
        secret: secret.expose_secret().to_owned(),
    };
    Ok((StatusCode::CREATED, Json(made)))
}

#[utoipa::path(
    delete, path = "/tokens/{token}", params(("token" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn revoke_token(
    State(state): State<WebState>,
    Path(token): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.store().revoke_token(&token).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(post, path = "/gc", request_body = GcRequest, responses((status = 200, body = GcReport)))]
pub(crate) async fn gc(
    State(state): State<WebState>,
    Json(request): Json<GcRequest>,
) -> Result<Json<GcReport>, ApiError> {
    let dry_run = request.dry_run;
    let pruned = state
        .store()
        .prune(&state.settings().retention, dry_run)
        .await?;
    let swept = state.store().sweep_blobs(state.blobs(), dry_run).await?;
    if !dry_run {
        // What this crate cannot reach: images and source archives.
        state.store().wakes().prune.wake();
    }
    Ok(Json(GcReport {
        dry_run,
        runs: pruned.runs,
        logs: pruned.logs,
        deliveries: pruned.deliveries,
        dag_versions: pruned.dag_versions,
        artifact_files: swept.files,
        artifact_bytes: swept.bytes,
    }))
}

fn token(info: TokenInfo) -> Token {
    Token {
        id: info.id.to_string(),
        name: info.name,
        created_at: info.created_at,
        last_used_at: info.last_used_at,
        revoked_at: info.revoked_at,
    }
}
