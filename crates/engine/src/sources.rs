//! Source trees of commits, as tar archives on disk, made once and shared by all attempts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use trainyard_core::id::RepoId;
use trainyard_forge::{CommitSha, Credentials, Error, Git};
use trainyard_store::Store;

/// Archives that nobody asked for during this time are removed.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Git's part.
    #[error(transparent)]
    Git(#[from] Error),
    /// The repo's address could not be read.
    #[error(transparent)]
    Store(#[from] trainyard_store::Error),
}

/// The archives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    folder: PathBuf,
    git: Git,
    store: Store,
    /// One writer per archive; entries go when nobody waits.
    writing: Arc<Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>>,
}

impl Sources {
    /// Archives in `folder`, written from the mirrors of `git`.
    #[must_use]
    pub fn new(folder: PathBuf, git: Git, store: Store) -> Self {
        Self {
            folder,
            git,
            store,
            writing: Arc::default(),
        }
    }

    /// The archive of a commit, written if it is not there. Where another daemon follows the repo, this
    /// one's mirror may not have the commit yet: then it is fetched.
    ///
    /// # Errors
    /// Nor does the remote have the commit, or it cannot be reached; or the disk fails.
    pub async fn archive(&self, repo: RepoId, commit: &CommitSha) -> Result<PathBuf, SourceError> {
        let path = self.folder.join(format!("{repo}-{commit}.tar"));
        let writer = {
            let mut writing = self
                .writing
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            writing.retain(|_, writer| Arc::strong_count(writer) > 1);
            Arc::clone(writing.entry(path.clone()).or_default())
        };
        let _turn = writer.lock().await;
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            // Its age is what keeps it: see `prune`.
            if let Ok(file) = std::fs::File::options().append(true).open(&path) {
                let _ = file.set_modified(crate::clock::now().into());
            }
            return Ok(path);
        }
        let write = || {
            self.git
                .write_source_tar(repo, commit.clone(), path.clone())
        };
        match write().await {
            Err(Error::NotFetched { .. } | Error::UnknownReference { .. }) => {
                self.fetch(repo).await?;
                write().await?;
            }
            written => written?,
        }
        Ok(path)
    }

    async fn fetch(&self, repo: RepoId) -> Result<(), SourceError> {
        let (url, credentials) = self.store.repo_remote(repo).await?;
        let credentials = credentials.map(|credentials| Credentials {
            username: credentials.username,
            password: credentials.password,
        });
        self.git.fetch(repo, url, credentials).await?;
        Ok(())
    }

    /// Removes archives that nobody asked for lately. Returns how many and how many bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn prune(&self) -> std::io::Result<(usize, u64)> {
        let mut removed = (0, 0);
        let mut entries = tokio::fs::read_dir(&self.folder).await?;
        let oldest = std::time::SystemTime::from(crate::clock::now()) - KEPT;
        while let Some(entry) = entries.next_entry().await? {
            let metadata = entry.metadata().await?;
            if metadata.modified()? < oldest && tokio::fs::remove_file(entry.path()).await.is_ok() {
                removed.0 += 1;
                removed.1 += metadata.len();
            }
        }
        Ok(removed)
    }
}
