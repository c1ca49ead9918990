//! Source trees of commits, as tar archives on disk, made once and shared by all attempts.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use trainyard_core::id::RepoId;
use trainyard_forge::{CommitSha, Git};

/// Archives that nobody asked for during this time are removed.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The archives. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    folder: PathBuf,
    git: Git,
    /// One writer per archive; entries go when nobody waits.
    writing: Arc<Mutex<HashMap<PathBuf, Arc<AsyncMutex<()>>>>>,
}

impl Sources {
    /// Archives in `folder`, written from the mirrors of `git`.
    #[must_use]
    pub fn new(folder: PathBuf, git: Git) -> Self {
        Self {
            folder,
            git,
            writing: Arc::default(),
        }
    }

    /// The archive of a commit, written if it is not there.
    ///
    /// # Errors
    /// The mirror does not have the commit, or the disk fails.
    pub async fn archive(
        &self,
        repo: RepoId,
        commit: &CommitSha,
    ) -> Result<PathBuf, trainyard_forge::Error> {
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
        self.git
            .write_source_tar(repo, commit.clone(), path.clone())
            .await?;
        Ok(path)
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
