//! Commits in this daemon's mirrors. Where another daemon follows the repos, a mirror here was last updated when it
//! was last used: missing commits are fetched.

use std::collections::BTreeMap;

use trainyard_core::id::RepoId;
use trainyard_forge::{CommitInfo, CommitSha, Credentials, Error, Login, SshKey};
use trainyard_store::RepoCredentials;

use crate::sync::{self, LastSeen};
use crate::{App, AppError, Result};

/// The commit of a branch, tag or commit name, fetched into the mirror. A branch or tag is resolved as the remote has
/// it now, or else as it was last seen. A full hash never changes its meaning, and needs no sync.
pub(crate) async fn find(
    app: &App,
    repo: RepoId,
    reference: &str,
) -> Result<(CommitSha, CommitInfo, Option<LastSeen>)> {
    let is_hash = is_hash(reference);
    let mut last_seen = match is_hash {
        true => None,
        false => sync::before_start(app, repo).await?,
    };
    let branches = app.store().refs(repo).await?;
    let head = branch(&branches, reference).map(|(_, head)| head);
    let is_tag = head.is_none() && !is_hash;
    if is_tag && last_seen.is_none() {
        // The sync updated the mirror of the daemon that follows the repo, which may be another one.
        let fetching = tokio::time::timeout(app.settings().refresh_at_most, fetch(app, repo));
        last_seen = match fetching.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(LastSeen::new(app, repo, &error.message).await?),
            Err(_) => Some(LastSeen::overdue(app, repo).await?),
        };
    }
    let read = async || -> Result<CommitInfo, Error> {
        let named = head.unwrap_or(reference).to_owned();
        app.git().describe(repo, named).await
    };
    let info = match (read().await, &last_seen) {
        (Err(Error::NotFetched { .. } | Error::UnknownReference { .. }), None) if !is_tag => {
            fetch(app, repo).await?;
            read().await?
        }
        (Err(error), Some(last_seen)) => {
            let help = format!("{}; the remote may have it by now", last_seen.why);
            return Err(AppError::from(error).help(help));
        }
        (found, _) => found?,
    };
    Ok((info.sha.clone(), info, last_seen))
}

/// The branch that a reference names, by its name or in full (`refs/heads/main`), and its last known commit. A full
/// hash is never treated as a branch name: a branch that is named like a commit would otherwise run in its place, with
/// the branch's secrets.
pub(crate) fn branch<'a>(
    branches: &'a BTreeMap<String, String>,
    reference: &str,
) -> Option<(&'a str, &'a str)> {
    let reference = reference.trim();
    let name = match reference.strip_prefix("refs/heads/") {
        Some(name) => name,
        None if is_hash(reference) || reference.starts_with("refs/tags/") => return None,
        None => reference,
    };
    let (name, head) = branches.get_key_value(name)?;
    Some((name, head))
}

fn is_hash(reference: &str) -> bool {
    CommitSha::new(reference.trim()).is_ok()
}

async fn fetch(app: &App, repo: RepoId) -> Result<()> {
    let store = app.store();
    loop {
        let remote = store.repo_remote(repo).await?;
        let stored = remote.credentials.map(credentials);
        tokio::select! {
            fetched = app.git().fetch(repo, remote.url, stored) => return Ok(fetched.map(drop)?),
            // It would keep the new address waiting.
            () = store.address_changed(repo, remote.address) => {}
        }
    }
}

/// A repo's credentials, in the form that the git client takes.
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
        assert_eq!(branch(&branches, "main"), Some(("main", "good")));
        assert_eq!(branch(&branches, hash), None);
    }

    #[test]
    fn a_branch_is_recognized_by_its_full_name_and_a_tag_is_never_a_branch() {
        let branches = BTreeMap::from([
            ("main".to_owned(), "a".to_owned()),
            ("refs/tags/v1".to_owned(), "b".to_owned()),
        ]);
        assert_eq!(branch(&branches, "refs/heads/main"), Some(("main", "a")));
        assert_eq!(branch(&branches, "refs/heads/v1"), None);
        assert_eq!(branch(&branches, "refs/tags/v1"), None);
    }
}
