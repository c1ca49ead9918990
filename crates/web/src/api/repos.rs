//! Repos.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use trainyard_api::{ErrorBody, Listing, NewRepo, Repo, RepoAdded, RepoDetail};
use trainyard_core::name::RepoName;
use trainyard_forge::RemoteUrl;
use trainyard_store::{NewRepo as StoredRepo, RepoCredentials};

use super::convert;
use crate::error::ApiError;
use crate::extract::{Object, Path};
use crate::state::WebState;

/// How long a sync is waited for.
const SYNC_AT_MOST: Duration = Duration::from_secs(100);

/// The shortest webhook secret that is taken, in characters.
const SECRET_SHORTEST: usize = 16;

#[utoipa::path(get, path = "/repos", responses((status = 200, body = Listing<Repo>)))]
pub(crate) async fn list(State(state): State<WebState>) -> Result<Json<Listing<Repo>>, ApiError> {
    let repos = state.store().list_repos().await?;
    Ok(Json(Listing::whole(
        repos.into_iter().map(convert::repo).collect(),
    )))
}

#[utoipa::path(
    post, path = "/repos", request_body = NewRepo,
    responses((status = 201, body = RepoAdded), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn add(
    State(state): State<WebState>,
    Object(new): Object<NewRepo>,
) -> Result<(StatusCode, Json<RepoAdded>), ApiError> {
    let name = RepoName::new(new.name).map_err(|fault| ApiError::invalid(fault.to_string()))?;
    let url = RemoteUrl::parse(&new.url, &state.git().mirrors().rules())?;
    let in_url = url.credentials().map(|credentials| RepoCredentials {
        username: credentials.username.clone(),
        password: credentials.password.clone(),
    });
    let credentials = match (new.username, new.password) {
        (username, Some(password)) => Some(RepoCredentials {
            username: username.unwrap_or_else(|| "git".to_owned()),
            password: SecretString::from(password),
        }),
        (Some(_), None) => return Err(ApiError::invalid("a user name needs a password or token")),
        (None, None) => in_url,
    };
    let (secret, made) = match new.webhook_secret {
        Some(secret) if secret.chars().count() < SECRET_SHORTEST => {
            return Err(ApiError::invalid(format!(
                "the webhook secret is shorter than {SECRET_SHORTEST} characters"
            ))
            .help("leave it out, and one is made"));
        }
        Some(secret) => (secret, None),
        None => {
            let made = make_secret();
            (made.clone(), Some(made))
        }
    };
    let poll_every = new
        .poll_every_seconds
        .map_or(state.settings().poll_every, Duration::from_secs);
    let stored = StoredRepo {
        name: name.clone(),
        url: url.as_str().to_owned(),
        followed_branch: new.branch,
        poll_every,
        webhook_secret: Some(SecretString::from(secret)),
        credentials,
    };
    let id = state.store().add_repo(&stored).await?;
    let detail = state.store().repo_detail(id).await?;
    let added = RepoAdded {
        repo: convert::repo(detail.summary),
        webhook_url: webhook_url(&state, name.as_str()),
        webhook_secret: made,
    };
    Ok((StatusCode::CREATED, Json(added)))
}

#[utoipa::path(
    get, path = "/repos/{repo}", params(("repo" = String, Path)),
    responses((status = 200, body = RepoDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<RepoDetail>, ApiError> {
    let store = state.store();
    let id = store.resolve_repo(&repo).await?;
    let detail = store.repo_detail(id).await?;
    Ok(Json(RepoDetail {
        webhook_url: webhook_url(&state, &detail.summary.name),
        repo: convert::repo(detail.summary),
        branches: detail.branches.into_iter().map(convert::branch).collect(),
        dag_list: store
            .list_dags(Some(id))
            .await?
            .into_iter()
            .map(convert::dag)
            .collect(),
        fault_list: store
            .list_faults(Some(id))
            .await?
            .into_iter()
            .map(convert::fault)
            .collect(),
    }))
}

#[utoipa::path(
    delete, path = "/repos/{repo}", params(("repo" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = state.store().resolve_repo(&repo).await?;
    state.store().remove_repo(id).await?;
    state.git().remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks for a sync and waits until one that began after this call is over.
#[utoipa::path(
    post, path = "/repos/{repo}/sync", params(("repo" = String, Path)),
    responses((status = 200, body = Repo), (status = 404, body = ErrorBody))
)]
pub(crate) async fn sync(
    State(state): State<WebState>,
    Path(repo): Path<String>,
) -> Result<Json<Repo>, ApiError> {
    let store = state.store();
    let id = store.resolve_repo(&repo).await?;
    let mut wake = store.wakes().runs.subscribe();
    let request = store.request_sync(id).await?;
    let begun = tokio::time::Instant::now();
    loop {
        if store.is_sync_answered(id, request).await? {
            let summary = store.repo_detail(id).await?.summary;
            return Ok(Json(convert::repo(summary)));
        }
        if begun.elapsed() >= SYNC_AT_MOST {
            return Err(ApiError::conflict(format!(
                "the sync of `{repo}` takes longer than expected"
            ))
            .help("`trainyard repo show` tells when it is done"));
        }
        tokio::select! {
            () = wake.woken() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn webhook_url(state: &WebState, repo: &str) -> String {
    format!("{}/hooks/github/{repo}", state.settings().public_url)
}

/// 256 bits, as two random UUIDs hold 244 and their text is easy to paste.
fn make_secret() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{}", a.simple(), b.simple())
}
