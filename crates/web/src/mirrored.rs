//! Commits in this daemon's mirrors. Where another daemon follows the repos, a mirror here is as old as
//! its last use: what it does not have is fetched.

use trainyard_core::id::RepoId;
use trainyard_forge::{CommitInfo, CommitSha, Credentials, Error, Login, SshKey};
use trainyard_store::RepoCredentials;

use crate::error::ApiError;
use crate::state::WebState;

/// The commit that a branch, tag or commit names, in the mirror with all that belongs to it. A branch is
/// where the repo was last seen.
pub(crate) async fn find(
    state: &WebState,
    repo: RepoId,
    reference: &str,
) -> Result<(CommitSha, CommitInfo), ApiError> {
    let branches = state.store().refs(repo).await?;
    let head = branches.get(reference).map(String::as_str);
    let look = async || -> Result<(CommitSha, CommitInfo), Error> {
        let named = head.unwrap_or(reference).to_owned();
        let info = state.git().describe(repo, named).await?;
        Ok((info.sha.clone(), info))
    };
    match look().await {
        Err(Error::NotFetched { .. } | Error::UnknownReference { .. }) => {
            fetch(state, repo).await?;
            Ok(look().await?)
        }
        found => Ok(found?),
    }
}

async fn fetch(state: &WebState, repo: RepoId) -> Result<(), ApiError> {
    let (url, stored) = state.store().repo_remote(repo).await?;
    state
        .git()
        .fetch(repo, url, stored.map(credentials))
        .await?;
    Ok(())
}

/// What a repo is fetched with, as git takes it.
fn credentials(stored: RepoCredentials) -> Credentials {
    match stored {
        RepoCredentials::Login { username, password } => {
            Credentials::Login(Login { username, password })
        }
        RepoCredentials::SshKey { key, known_hosts } => {
            Credentials::SshKey(SshKey { key, known_hosts })
        }
    }
}
