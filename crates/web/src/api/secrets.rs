//! Secrets: set, list and remove them. No route returns a value.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use trainyard_api::{ErrorBody, Listing, Secret, SecretValue};
use trainyard_core::name::SecretName;
use trainyard_core::principal::Act;
use trainyard_core::secret::SecretBranches;
use trainyard_store::Error as StoreError;

use super::names;
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
    let id = names::repo(&state, &repo).await?;
    Ok(Json(Listing::whole(state.store().list_secrets(id).await?)))
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
    let name = SecretName::new(name).map_err(|fault| ApiError::invalid(fault.to_string()))?;
    if secret.value.is_empty() {
        return Err(ApiError::invalid(format!("the value of {name} is empty")));
    }
    if secret.value.contains('\0') {
        return Err(ApiError::invalid(format!(
            "the value of {name} contains a NUL character, which environment variables cannot hold"
        ))
        .help("encode it, as base64 does, and have the stage decode it"));
    }
    let branches = secret
        .branches
        .map(SecretBranches::new)
        .transpose()
        .map_err(ApiError::invalid)?;
    let id = names::repo(&state, &repo).await?;
    let value = SecretString::from(secret.value);
    state
        .store()
        .set_secret(&act, id, &name, &value, branches.as_ref())
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
    Extension(act): Extension<Act>,
    Path((repo, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let name = SecretName::new(name).map_err(|fault| ApiError::invalid(fault.to_string()))?;
    let id = names::repo(&state, &repo).await?;
    match state.store().remove_secret(&act, id, &name).await {
        Err(error @ StoreError::NotFound { .. }) => {
            let secrets = state.store().list_secrets(id).await?;
            let known = secrets.iter().map(|secret| secret.name.as_str());
            let help = names::meant(name.as_str(), known)
                .unwrap_or_else(|| format!("`trainyard secret list --repo {repo}` lists them"));
            Err(ApiError::from(error).help(help))
        }
        removed => {
            removed?;
            Ok(StatusCode::NO_CONTENT)
        }
    }
}
