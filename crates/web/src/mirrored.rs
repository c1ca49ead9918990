//! Commits in this daemon's mirrors. Where another daemon follows the repos, a mirror here is as old as
//! its last use: what it does not have is fetched.

use std::collections::BTreeMap;

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
    let head = branch_head(&branches, reference);
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

/// Where a branch of this name was last seen. A full hash is never a name: a branch that is called like a commit would
/// run in its place, with the branch's secrets.
pub(crate) fn branch_head<'a>(
    branches: &'a BTreeMap<String, String>,
    reference: &str,
) -> Option<&'a str> {
    let is_hash = CommitSha::new(reference.trim()).is_ok();
    let head = branches.get(reference).filter(|_| !is_hash);
    head.map(String::as_str)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_09_a_branch_called_like_a_commit_is_not_taken_for_one() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let branches = BTreeMap::from([
            (hash.to_owned(), "evil".to_owned()),
            ("main".to_owned(), "good".to_owned()),
        ]);
        assert_eq!(branch_head(&branches, "main"), Some("good"));
        assert_eq!(branch_head(&branches, hash), None);
    }
}
