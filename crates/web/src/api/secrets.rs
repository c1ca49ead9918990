//! Secrets: set, named, removed; never read.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use trainyard_api::{ErrorBody, Listing, Secret, SecretValue};
use trainyard_core::name::SecretName;

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
    let id = state.store().resolve_repo(&repo).await?;
    let secrets = state.store().list_secrets(id).await?;
    let named = |secret: trainyard_store::SecretInfo| Secret {
        repo: repo.clone(),
        name: secret.name,
        updated_at: secret.updated_at,
    };
    Ok(Json(Listing::whole(
        secrets.into_iter().map(named).collect(),
    )))
}

#[utoipa::path(
    put, path = "/repos/{repo}/secrets/{name}", request_body = SecretValue,
    params(("repo" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn set(
    State(state): State<WebState>,
    Path((repo, name)): Path<(String, String)>,
    Object(secret): Object<SecretValue>,
) -> Result<StatusCode, ApiError> {
    let name = SecretName::new(name).map_err(|fault| ApiError::invalid(fault.to_string()))?;
    if secret.value.is_empty() {
        return Err(ApiError::invalid(format!("the value of {name} is empty")));
    }
    if secret.value.contains('\0') {
        return Err(ApiError::invalid(format!(
            "the value of {name} holds a NUL character, which no environment variable can"
        ))
        .help("encode it, as base64 does, and have the stage decode it"));
    }
    let id = state.store().resolve_repo(&repo).await?;
    state
        .store()
        .set_secret(id, &name, &SecretString::from(secret.value))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    delete, path = "/repos/{repo}/secrets/{name}",
    params(("repo" = String, Path), ("name" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Path((repo, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let name = SecretName::new(name).map_err(|fault| ApiError::invalid(fault.to_string()))?;
    let id = state.store().resolve_repo(&repo).await?;
    state.store().remove_secret(id, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
