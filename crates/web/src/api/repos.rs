//! Repos.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use tracing::warn;
use trainyard_api::{
    ChangeRepo, Delivery, ErrorBody, History, Listing, NewRepo, Repo, RepoDetail, RepoSaved,
};
use trainyard_core::id::RepoId;
use trainyard_core::measure::in_words;
use trainyard_core::name::RepoName;
use trainyard_core::principal::Act;
use trainyard_forge::RemoteUrl;
use trainyard_store::{
    AddressNumber, NewRepo as StoredRepo, RepoChange, RepoChanged, SHORTEST_POLL,
};
use utoipa::IntoParams;

use super::credentials::{self, Given};
use super::{convert, names};
use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::state::WebState;
use crate::sync::{self, SyncWait};

/// How long a request waits for a sync.
const SYNC_AT_MOST: Duration = Duration::from_secs(100);

/// How often a change is decided for whose repo gets another address meanwhile.
const DECIDED_AT_MOST: usize = 5;

/// The most deliveries in one answer.
const DELIVERIES_AT_MOST: u32 = 1_000;

/// The shortest allowed webhook secret, in characters.
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
    responses((status = 201, body = RepoSaved), (status = 409, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn add(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Object(new): Object<NewRepo>,
) -> Result<(StatusCode, Json<RepoSaved>), ApiError> {
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
        Some(secret) => (checked_secret(secret)?, None),
        None => {
            let made = make_secret();
            (made.clone(), Some(made))
        }
    };
    let poll_every = new
        .poll_every_seconds
        .map_or(Ok(state.settings().poll_every), poll_every)?;
    let stored = StoredRepo {
        name: name.clone(),
        url: url.as_str().to_owned(),
        followed_branch: match new.branch {
            Some(branch) => Some(branch),
            None => checked_out_branch(&url).await,
        },
        poll_every,
        webhook_secret: Some(SecretString::from(secret)),
        credentials,
    };
    let id = state.store().add_repo(&act, &stored).await?;
    Ok((StatusCode::CREATED, Json(saved(&state, id, made).await?)))
}

fn poll_every(seconds: u64) -> Result<Duration, ApiError> {
    let every = Duration::from_secs(seconds);
    if every < SHORTEST_POLL {
        let least = in_words(SHORTEST_POLL);
        return Err(
            ApiError::invalid(format!("repos are polled at most every {least}"))
                .help(format!("set the poll interval to {least} or more")),
        );
    }
    Ok(every)
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
    let id = names::repo(&state, &repo).await?;
    let made = asked.new_webhook_secret.then(make_secret);
    for _ in 0..DECIDED_AT_MOST {
        let (decided_for, change, notes) = decide(&state, id, &asked, made.as_deref()).await?;
        let changed = state.store().change_repo(&act, id, decided_for, &change);
        match changed.await? {
            RepoChanged::Recorded => {
                let mut saved = saved(&state, id, made).await?;
                saved.notes = notes;
                return Ok(Json(saved));
            }
            RepoChanged::Stale => {}
        }
    }
    Err(ApiError::conflict(format!(
        "the address or the credentials of `{repo}` were changed by others at the same time, again and again"
    ))
    .help("`trainyard repo show` shows what they are now; try again"))
}

/// What a request changes of a repo as it is now, the address that this holds for, and what to say of it.
async fn decide(
    state: &WebState,
    id: RepoId,
    asked: &ChangeRepo,
    made: Option<&str>,
) -> Result<(AddressNumber, RepoChange, Vec<String>), ApiError> {
    let now = state.store().repo_remote(id).await?;
    let rules = state.git().mirrors().rules();
    let url = match &asked.url {
        Some(url) => Some(RemoteUrl::parse(url, rules)?),
        None => None,
    };
    let mut notes = Vec::new();
    let followed_branch = match (asked.branch.clone(), asked.default_branch) {
        (Some(_), true) => return Err(either("branch", "default_branch")),
        (Some(branch), false) => {
            // At a new address, the first sync reports a missing branch.
            if url.is_none() {
                notes.extend(has_branch(state, id, &branch).await?);
            }
            Some(Some(branch))
        }
        (None, true) => {
            let at = match &url {
                Some(url) => url.clone(),
                None => RemoteUrl::parse(&now.url, rules)?,
            };
            Some(checked_out_branch(&at).await)
        }
        (None, false) => None,
    };
    let change = RepoChange {
        followed_branch,
        poll_every: asked.poll_every_seconds.map(poll_every).transpose()?,
        webhook_secret: match (asked.webhook_secret.clone(), made) {
            (Some(_), Some(_)) => return Err(either("webhook_secret", "new_webhook_secret")),
            (Some(secret), None) => Some(checked_secret(secret)?.into()),
            (None, made) => made.map(SecretString::from),
        },
        credentials: credentials::changed(asked, url.as_ref(), &now.url, now.credentials, rules)?,
        url: url.map(|url| url.as_str().to_owned()),
    };
    let is_nothing = matches!(
        change,
        RepoChange {
            url: None,
            followed_branch: None,
            poll_every: None,
            webhook_secret: None,
            credentials: None,
        }
    );
    if is_nothing {
        return Err(ApiError::invalid("there is nothing to change")
            .help("give a new url, branch, poll interval, webhook secret or credentials"));
    }
    Ok((now.address, change, notes))
}

/// The branch that is checked out at an address on this machine's disk. The repo follows this branch for good:
/// otherwise, checking out another branch would give that branch the secrets of the followed one.
async fn checked_out_branch(url: &RemoteUrl) -> Option<String> {
    let url = url.clone();
    let reading = tokio::task::spawn_blocking(move || url.checked_out_branch());
    reading.await.ok().flatten()
}

/// Refuses a branch that the remote does not have. Returns a note for the caller where the remote cannot be asked.
async fn has_branch(
    state: &WebState,
    repo: RepoId,
    branch: &str,
) -> Result<Option<String>, ApiError> {
    if let Some(last_seen) = sync::refresh(state, repo).await? {
        return Ok(Some(format!(
            "{}: could not check that it has branch `{branch}`",
            last_seen.why
        )));
    }
    let detail = state.store().repo_detail(repo).await?;
    let name = detail.summary.name;
    let mut known = detail.branches.iter().map(|branch| branch.name.as_str());
    if known.clone().any(|known| known == branch) {
        return Ok(None);
    }
    let more = detail.summary.last_error.map(|more| format!("; {more}"));
    let help = names::meant(branch, known.by_ref())
        .unwrap_or_else(|| format!("`trainyard repo show {name}` lists its branches"));
    Err(ApiError::not_found(format!(
        "the remote of `{name}` has no branch `{branch}`{}",
        more.unwrap_or_default()
    ))
    .help(help))
}

pub(super) fn either(one: &str, other: &str) -> ApiError {
    ApiError::invalid(format!("`{one}` and `{other}` exclude each other"))
}

async fn saved(
    state: &WebState,
    id: RepoId,
    webhook_secret: Option<String>,
) -> Result<RepoSaved, ApiError> {
    let summary = state.store().repo_detail(id).await?.summary;
    Ok(RepoSaved {
        webhook_url: webhook_url(state, &summary.name),
        repo: convert::repo(summary),
        webhook_secret,
        notes: Vec::new(),
    })
}

fn checked_secret(secret: String) -> Result<String, ApiError> {
    if secret.chars().count() < SECRET_SHORTEST {
        return Err(ApiError::invalid(format!(
            "the webhook secret is shorter than {SECRET_SHORTEST} characters"
        ))
        .help("`--webhook-secret generate` makes one"));
    }
    Ok(secret)
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
    let id = names::repo(&state, &repo).await?;
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
    Extension(act): Extension<Act>,
    Path(repo): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = names::repo(&state, &repo).await?;
    state.store().remove_repo(&act, id).await?;
    // In a task of the daemon: the mirror is removed also if the client hangs up. If the daemon ends first, the pruner
    // removes it.
    let git = state.git().clone();
    tokio::spawn(async move {
        if let Err(error) = git.remove(id).await {
            warn!(repo = %id, %error, "the mirror of a removed repo was not removed; the pruner tries again");
        }
    });
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
    let id = names::repo(&state, &repo).await?;
    Ok(Json(convert::history(
        state.store().repo_history(id).await?,
    )))
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
    let id = names::repo(&state, &repo).await?;
    let limit = query.limit.unwrap_or(50).clamp(1, DELIVERIES_AT_MOST);
    let mut deliveries = state.store().list_deliveries(id, limit + 1).await?;
    let more = deliveries.len() > limit as usize;
    deliveries.truncate(limit as usize);
    Ok(Json(Listing {
        items: deliveries.into_iter().map(convert::delivery).collect(),
        more,
    }))
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
    let id = names::repo(&state, &repo).await?;
    match sync::sync(&state, id, SYNC_AT_MOST).await? {
        SyncWait::Over(summary) => Ok(Json(convert::repo(summary))),
        SyncWait::Quarantined(held) => Err(ApiError::conflict(format!(
            "`{repo}` is quarantined and not synced: {}",
            held.reason
        ))
        .help(format!(
            "`trainyard quarantine release {}` releases it",
            held.id
        ))),
        SyncWait::Overdue => Err(ApiError::conflict(format!(
            "the sync of `{repo}` has not ended in time; it continues"
        ))
        .help("`trainyard repo show` shows when it has ended")),
    }
}

fn webhook_url(state: &WebState, repo: &str) -> String {
    format!("{}/hooks/github/{repo}", state.settings().public_url)
}

/// Two random UUIDs: 244 random bits, in a text that is easy to paste.
fn make_secret() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("{}{}", a.simple(), b.simple())
}
