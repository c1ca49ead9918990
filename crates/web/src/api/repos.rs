//! Repos.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use trainyard_api::{ErrorBody, Listing, NewRepo, Repo, RepoAdded, RepoDetail};
use trainyard_core::name::RepoName;
use trainyard_forge::{RemoteUrl, SshKey, UrlRules};
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
    let rules = state.git().mirrors().rules();
    let url = RemoteUrl::parse(&new.url, rules)?;
    let given = Given {
        username: new.username,
        password: new.password,
        ssh_key: new.ssh_key,
        known_hosts: new.known_hosts,
    };
    let credentials = given.checked(&url, rules)?;
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

/// The credentials of a request.
struct Given {
    username: Option<String>,
    password: Option<String>,
    ssh_key: Option<String>,
    known_hosts: Option<String>,
}

impl Given {
    /// What the repo at `url` is to be fetched with; a login in the address counts where none is given.
    fn checked(
        self,
        url: &RemoteUrl,
        rules: &UrlRules,
    ) -> Result<Option<RepoCredentials>, ApiError> {
        if self.username.is_some() && self.password.is_none() {
            return Err(ApiError::invalid("a user name needs a password or token"));
        }
        let login = match self.password {
            Some(password) => Some(RepoCredentials::Login {
                username: self.username.unwrap_or_else(|| "git".to_owned()),
                password: SecretString::from(password),
            }),
            None => url.login().map(|login| RepoCredentials::Login {
                username: login.username.clone(),
                password: login.password.clone(),
            }),
        };
        url.refuse_credentials(login.is_some(), self.ssh_key.is_some(), rules)?;
        if !url.is_ssh() {
            return Ok(login);
        }
        let Some(key) = self.ssh_key else {
            return Err(ApiError::invalid("a repo over ssh needs a key").help(
                "`ssh-keygen -t ed25519 -N '' -f deploy_key` makes one; give deploy_key.pub to the forge as a deploy \
                 key that may only read, and add the repo with --ssh-key deploy_key",
            ));
        };
        let Some(known_hosts) = self.known_hosts else {
            let host = url.host().map(|host| host.to_string()).unwrap_or_default();
            let port = url.ssh_port();
            return Err(ApiError::invalid("a repo over ssh needs the keys of its host").help(format!(
                "`ssh-keyscan -p {port} {host} > known_hosts` asks for them; compare them with those that the forge \
                 publishes, and add the repo with --known-hosts known_hosts"
            )));
        };
        let key = SshKey {
            key: SecretString::from(key),
            known_hosts,
        };
        key.check().map_err(ApiError::invalid)?;
        Ok(Some(RepoCredentials::SshKey {
            key: key.key,
            known_hosts: key.known_hosts,
        }))
    }
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
    let held = store.quarantined().await?;
    if let Some(held) = held
        .iter()
        .find(|held| held.kind == "repo" && held.name == repo)
    {
        return Err(ApiError::conflict(format!(
            "`{repo}` is held back, and not synced: {}",
            held.reason
        ))
        .help(format!(
            "`trainyard quarantine release {}` lets it go on",
            held.id
        )));
    }
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
