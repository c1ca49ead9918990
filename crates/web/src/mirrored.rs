//! Commits in this daemon's mirrors. Where another daemon follows the repos, a mirror here is as old as
//! its last use: what it does not have is fetched.

use trainyard_core::id::RepoId;
use trainyard_forge::{CommitInfo, CommitSha, Credentials, Error};

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
    let (url, credentials) = state.store().repo_remote(repo).await?;
    let credentials = credentials.map(|credentials| Credentials {
        username: credentials.username,
        password: credentials.password,
    });
    state.git().fetch(repo, url, credentials).await?;
    Ok(())
}
