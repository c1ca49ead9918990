//! Source trees of commits, as compressed tar archives on disk.
//!
//! An archive is written once for a tree, whichever commits have it, and shared by all attempts that need it. It is
//! kept while one of them is in progress, and for a moment after: the next stage of a run usually starts as one ends.
//! Archives of an earlier process are removed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::Mutex as AsyncMutex;
use tracing::warn;
use trainyard_core::id::RepoId;
use trainyard_core::stage::Checkout;
use trainyard_forge::{CommitSha, Contents, Credentials, Error, Git, Login, SshKey, TreeSha};
use trainyard_store::{RepoCredentials, Store};

/// How long an unused archive is kept.
const LINGERS: Duration = Duration::from_secs(10);

/// The minimum age at which an unknown file is removed, such as one whose writer was killed.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// How many commits' trees are remembered.
const REMEMBERED: usize = 1_000;

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
    trees: Arc<Mutex<HashMap<(RepoId, CommitSha), TreeSha>>>,
    uses: Arc<Mutex<HashMap<PathBuf, Use>>>,
}

/// The use of one archive.
#[derive(Debug, Default)]
struct Use {
    users: usize,
    /// How often it became unused.
    idle: u64,
    /// The parts that the archive leaves out, in words; `None` before it is written.
    notes: Option<Vec<String>>,
    /// Held to write the archive, or to remove it.
    turn: Arc<AsyncMutex<()>>,
}

/// An archive in use: it stays until this is dropped.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    notes: Vec<String>,
    uses: Arc<Mutex<HashMap<PathBuf, Use>>>,
    runtime: Runtime,
}

impl Archive {
    /// Counts as a user of the archive at `path`, whether it exists yet or not.
    fn of(path: PathBuf, uses: &Arc<Mutex<HashMap<PathBuf, Use>>>) -> (Self, Arc<AsyncMutex<()>>) {
        let mut all = lock(uses);
        let this = all.entry(path.clone()).or_default();
        this.users += 1;
        let turn = Arc::clone(&this.turn);
        drop(all);
        let archive = Self {
            path,
            notes: Vec::new(),
            uses: Arc::clone(uses),
            runtime: Runtime::current(),
        };
        (archive, turn)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files of which the tree has only stand-ins, in words.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        let mut uses = lock(&self.uses);
        let Some(this) = uses.get_mut(&self.path) else {
            return;
        };
        this.users -= 1;
        if this.users > 0 {
            return;
        }
        this.idle += 1;
        let (idle, turn) = (this.idle, Arc::clone(&this.turn));
        drop(uses);
        let (path, uses) = (self.path.clone(), Arc::clone(&self.uses));
        self.runtime.spawn(async move {
            tokio::time::sleep(LINGERS).await;
            free(&path, &uses, &turn, idle).await;
        });
    }
}

/// Removes an archive, unless it was used since.
async fn free(path: &Path, uses: &Mutex<HashMap<PathBuf, Use>>, turn: &AsyncMutex<()>, idle: u64) {
    // A new user waits for this lock, and then finds the archive gone.
    let _turn = turn.lock().await;
    let is_idle = |this: &Use| this.users == 0 && this.idle == idle;
    if !lock(uses).get(path).is_some_and(is_idle) {
        return;
    }
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            warn!(%error, path = %path.display(), "a source archive was not removed; will retry later");
        }
        _ => {}
    }
    let mut uses = lock(uses);
    if uses.get(path).is_some_and(is_idle) {
        uses.remove(path);
    }
}

impl Sources {
    /// Archives in `folder`, which only this process uses, written from the mirrors of `git`.
    #[must_use]
    pub fn new(folder: PathBuf, git: Git, store: Store) -> Self {
        Self {
            folder,
            git,
            store,
            trees: Arc::default(),
            uses: Arc::default(),
        }
    }

    /// The archive of a commit's tree, written if it does not exist. If another daemon follows the repo, this
    /// daemon's mirror may not have the commit yet: then it is fetched.
    ///
    /// # Errors
    /// The remote does not have the commit either, or cannot be reached; or the disk fails.
    pub async fn archive(
        &self,
        repo: RepoId,
        commit: &CommitSha,
        checkout: Checkout,
    ) -> Result<Archive, SourceError> {
        let contents = match checkout.lfs || checkout.submodules {
            false => None,
            true => {
                let remote = self.store.repo_remote(repo).await?;
                Some(Contents {
                    url: remote.url,
                    credentials: remote.credentials.map(credentials),
                    lfs: checkout.lfs,
                    submodules: checkout.submodules,
                })
            }
        };
        let contents = contents.as_ref();
        match self.written(repo, commit, contents).await {
            Err(Error::NotFetched { .. } | Error::UnknownReference { .. }) => {
                self.fetch(repo).await?;
                Ok(self.written(repo, commit, contents).await?)
            }
            written => Ok(written?),
        }
    }

    async fn written(
        &self,
        repo: RepoId,
        commit: &CommitSha,
        contents: Option<&Contents>,
    ) -> Result<Archive, Error> {
        let tree = self.tree_of(repo, commit).await?;
        let with = match contents.map(|it| (it.lfs, it.submodules)) {
            Some((true, true)) => "-lfs-submodules",
            Some((true, false)) => "-lfs",
            Some((false, true)) => "-submodules",
            Some((false, false)) | None => "",
        };
        let path = self.folder.join(format!("{repo}-{tree}{with}.tar.zst"));
        let (mut archive, turn) = Archive::of(path.clone(), &self.uses);
        let _turn = turn.lock().await;
        let written = lock(&self.uses).get(&path).and_then(|it| it.notes.clone());
        archive.notes = match written {
            Some(notes) if tokio::fs::try_exists(&path).await.unwrap_or(false) => notes,
            _ => {
                let commit = commit.clone();
                let to = path.clone();
                let stand_ins = self.git.write_source_tar(repo, commit, to, contents);
                let notes = stand_ins.await?.notes();
                if let Some(this) = lock(&self.uses).get_mut(&path) {
                    this.notes = Some(notes.clone());
                }
                notes
            }
        };
        Ok(archive)
    }

    async fn tree_of(&self, repo: RepoId, commit: &CommitSha) -> Result<TreeSha, Error> {
        let key = (repo, commit.clone());
        if let Some(tree) = lock(&self.trees).get(&key) {
            return Ok(tree.clone());
        }
        let tree = self.git.tree_of(repo, commit.clone()).await?;
        let mut trees = lock(&self.trees);
        if trees.len() >= REMEMBERED {
            trees.clear();
        }
        trees.insert(key, tree.clone());
        Ok(tree)
    }

    async fn fetch(&self, repo: RepoId) -> Result<(), SourceError> {
        loop {
            let remote = self.store.repo_remote(repo).await?;
            let stored = remote.credentials.map(credentials);
            tokio::select! {
                fetched = self.git.fetch(repo, remote.url, stored) => return Ok(fetched.map(drop)?),
                // It would keep the new address waiting.
                () = self.store.address_changed(repo, remote.address) => {}
            }
        }
    }

    /// Removes all files, which an earlier process left: call it before the first archive is requested. Returns how
    /// many files and how many bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn clear(&self) -> std::io::Result<(usize, u64)> {
        self.remove(None).await
    }

    /// Removes files that are not in use and not about to be. Returns how many files and how many bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub async fn prune(&self) -> std::io::Result<(usize, u64)> {
        self.remove(Some(LEFT_OVER)).await
    }

    async fn remove(&self, older_than: Option<Duration>) -> std::io::Result<(usize, u64)> {
        let mut removed = (0, 0);
        let mut entries = match tokio::fs::read_dir(&self.folder).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(removed),
            entries => entries?,
        };
        let now = std::time::SystemTime::from(crate::clock::now());
        let oldest = older_than.map(|age| now - age);
        while let Some(entry) = entries.next_entry().await? {
            let metadata = entry.metadata().await?;
            let modified = metadata.modified()?;
            let is_used = lock(&self.uses).contains_key(&entry.path());
            if !is_used
                && oldest.is_none_or(|oldest| modified <= oldest)
                && tokio::fs::remove_file(entry.path()).await.is_ok()
            {
                removed.0 += 1;
                removed.1 += metadata.len();
            }
        }
        Ok(removed)
    }
}

/// The remote of a repo, in git's terms.
pub(crate) fn credentials(stored: RepoCredentials) -> Credentials {
    match stored {
        RepoCredentials::Login { username, password } => {
            Credentials::Login(Login { username, password })
        }
        RepoCredentials::SshKey { key, known_hosts } => {
            Credentials::SshKey(SshKey { key, known_hosts })
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
