//! [`Git`]: the mirrors for asynchronous callers.
//!
//! A child process does everything that opens an object. Fetches and reads have bounded numbers of children, apart
//! from one another: remotes that hang do not keep runs from their sources. One fetch per mirror runs at a time. A
//! future that is dropped ends its child.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use trainyard_core::id::RepoId;

use super::job::{self, Answer, CommitQuery, Job, Seen, ShownContents};
use super::lanes::Lanes;
use super::{
    ChangedPaths, CommitInfo, CommitSha, Contents, Credentials, DagFileText, Error, Heads, Mirror,
    Mirrors, PathEntry, RemoteUrl, StandIns, TreeSha, Worker, source_tar,
};

/// How many reads run at one time: they unpack objects, which is work for a core.
const READS: usize = 4;

/// Commits that are remembered; each has some hundred bytes.
const KNOWN: usize = 1_000;

/// The mirrors, for asynchronous callers. Cheap to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub struct Git {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mirrors: Mirrors,
    worker: Worker,
    lanes: Lanes,
    reads: Semaphore,
    /// Commits that were read lately: a run by hand need not wait for a process.
    known: Mutex<HashMap<(RepoId, CommitSha), CommitInfo>>,
    /// The queue of each mirror; an entry is removed when its queue is empty.
    turns: Mutex<HashMap<RepoId, Arc<AsyncMutex<()>>>>,
}

impl Git {
    /// Over these mirrors, with children of this worker.
    #[must_use]
    pub fn new(mirrors: Mirrors, worker: Worker) -> Self {
        Self {
            shared: Arc::new(Shared {
                mirrors,
                worker,
                lanes: Lanes::new(),
                reads: Semaphore::new(READS),
                known: Mutex::default(),
                turns: Mutex::default(),
            }),
        }
    }

    /// The mirrors; use only their settings, and read no objects through them.
    #[must_use]
    pub fn mirrors(&self) -> &Mirrors {
        &self.shared.mirrors
    }

    /// [`Mirror::fetch`].
    ///
    /// # Errors
    /// As there; [`Error::Exhausted`] and [`Error::Crashed`].
    pub async fn fetch(
        &self,
        repo: RepoId,
        url: String,
        credentials: Option<Credentials>,
    ) -> Result<Heads, Error> {
        let remote = RemoteUrl::parse(&url, self.shared.mirrors.rules())?;
        let job = Job::fetch(url, credentials.as_ref());
        let _turn = self.turn(repo).await;
        let mirror = self.shared.mirrors.mirror(repo);
        let work = self.call(&mirror, remote.as_str(), job);
        let server = remote.server();
        let answer = self.shared.lanes.hold(repo, server.as_deref(), work).await;
        if answer.as_ref().is_err_and(Error::is_costly) {
            // An unfinished pack may fill the disk.
            let _ = tokio::task::spawn_blocking(move || mirror.tidy()).await;
        }
        match answer? {
            (Answer::Heads(heads), _) => Ok(heads),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::resolve`].
    ///
    /// # Errors
    /// As there.
    pub async fn resolve(&self, repo: RepoId, reference: String) -> Result<CommitSha, Error> {
        match self.read(repo, Job::Resolve(reference)).await? {
            (Answer::Sha(commit), _) => Ok(commit),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::resolve`] and [`Mirror::commit`] in one.
    ///
    /// # Errors
    /// As there.
    pub async fn describe(&self, repo: RepoId, reference: String) -> Result<CommitInfo, Error> {
        match self.read(repo, Job::Describe(reference)).await? {
            (Answer::Commit(commit), _) => {
                self.remember(repo, &commit);
                Ok(commit)
            }
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::commit`].
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&self, repo: RepoId, commit: CommitSha) -> Result<CommitInfo, Error> {
        let known = self.known().get(&(repo, commit.clone())).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.describe(repo, commit.to_string()).await,
        }
    }

    /// Reads everything about a commit that a branch points to now.
    ///
    /// # Errors
    /// Those of [`Mirror::commit`], [`Mirror::dag_files`] and [`Mirror::changed_paths`].
    pub async fn read_commit(&self, repo: RepoId, query: CommitQuery) -> Result<Seen, Error> {
        match self.read(repo, Job::Commit(query)).await? {
            (Answer::Seen(commit, lengths, changed), texts) => {
                self.remember(repo, &commit);
                Ok(Seen {
                    commit,
                    dag_files: job::dag_files(lengths, &texts).ok_or_else(cut)?,
                    changed,
                })
            }
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::dag_files`].
    ///
    /// # Errors
    /// As there.
    pub async fn dag_files(
        &self,
        repo: RepoId,
        commit: CommitSha,
    ) -> Result<Vec<DagFileText>, Error> {
        match self.read(repo, Job::DagFiles(commit)).await? {
            (Answer::DagFiles(lengths), texts) => job::dag_files(lengths, &texts).ok_or_else(cut),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::entries`].
    ///
    /// # Errors
    /// As there.
    pub async fn entries(
        &self,
        repo: RepoId,
        commit: CommitSha,
        paths: Vec<String>,
    ) -> Result<Vec<PathEntry>, Error> {
        match self.read(repo, Job::Entries(commit, paths)).await? {
            (Answer::Entries(entries), _) => Ok(entries),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::changed_paths`].
    ///
    /// # Errors
    /// As there.
    pub async fn changed_paths(
        &self,
        repo: RepoId,
        before: Option<CommitSha>,
        after: CommitSha,
    ) -> Result<ChangedPaths, Error> {
        match self.read(repo, Job::Changed(before, after)).await? {
            (Answer::Changed(paths), _) => Ok(paths),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::is_ancestor`].
    ///
    /// # Errors
    /// As there.
    pub async fn is_ancestor(
        &self,
        repo: RepoId,
        older: CommitSha,
        newer: CommitSha,
    ) -> Result<bool, Error> {
        match self.read(repo, Job::IsAncestor(older, newer)).await? {
            (Answer::Yes(is), _) => Ok(is),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::tree_of`].
    ///
    /// # Errors
    /// As there.
    pub async fn tree_of(&self, repo: RepoId, commit: CommitSha) -> Result<TreeSha, Error> {
        match self.read(repo, Job::TreeOf(commit)).await? {
            (Answer::Tree(tree), _) => Ok(tree),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirror::write_source_tar`].
    ///
    /// # Errors
    /// As there.
    pub async fn write_source_tar(
        &self,
        repo: RepoId,
        commit: CommitSha,
        to: PathBuf,
        contents: Option<&Contents>,
    ) -> Result<StandIns, Error> {
        // A child that is ended leaves its files.
        let _leftover = Leftover(&to);
        let shown = contents.map(ShownContents::from);
        let job = Job::SourceTar(commit, to.clone(), shown);
        let answer = match contents {
            None => self.read(repo, job).await?,
            // Waiting for a remote must not block reads.
            Some(contents) => {
                let remote = RemoteUrl::parse(&contents.url, self.shared.mirrors.rules())?;
                let _turn = self.turn(repo).await;
                let mirror = self.shared.mirrors.mirror(repo);
                let work = self.call(&mirror, remote.as_str(), job);
                let server = remote.server();
                self.shared
                    .lanes
                    .hold(repo, server.as_deref(), work)
                    .await?
            }
        };
        match answer {
            (Answer::Archived(stand_ins), _) => Ok(stand_ins),
            other => Err(odd(&other.0)),
        }
    }

    /// [`Mirrors::repos`].
    ///
    /// # Errors
    /// As there.
    pub async fn mirrored_repos(&self) -> Result<BTreeSet<RepoId>, Error> {
        let mirrors = self.shared.mirrors.clone();
        let listing = tokio::task::spawn_blocking(move || mirrors.repos());
        // Else the runtime is going down.
        listing.await.unwrap_or(Err(Error::Cancelled))
    }

    /// [`Mirror::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, repo: RepoId) -> Result<(), Error> {
        let turn = self.turn(repo).await;
        self.shared.lanes.forget(repo);
        self.known().retain(|(other, _), _| *other != repo);
        let mirror = self.shared.mirrors.mirror(repo);
        let removal = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            mirror.remove()
        });
        // Otherwise the runtime is shutting down.
        removal.await.unwrap_or(Err(Error::Cancelled))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(RepoId, CommitSha), CommitInfo>> {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, repo: RepoId, commit: &CommitInfo) {
        let mut known = self.known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert((repo, commit.sha.clone()), commit.clone());
    }

    async fn read(&self, repo: RepoId, job: Job) -> Result<(Answer, Vec<u8>), Error> {
        let mirror = self.shared.mirrors.mirror(repo);
        if !mirror.path().exists() {
            return Err(Error::NotFetched {
                repo: repo.to_string(),
            });
        }
        // Never closed.
        let _place = self.shared.reads.acquire().await;
        self.call(&mirror, "the content of the repo", job).await
    }

    async fn call(
        &self,
        mirror: &Mirror,
        what: &str,
        job: Job,
    ) -> Result<(Answer, Vec<u8>), Error> {
        self.shared.worker.call(mirror, what, job).await
    }

    async fn turn(&self, repo: RepoId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self
                .shared
                .turns
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(repo).or_default())
        };
        turn.lock_owned().await
    }
}

/// An archive that may be incomplete.
struct Leftover<'a>(&'a Path);

impl Drop for Leftover<'_> {
    fn drop(&mut self) {
        source_tar::remove_unfinished(self.0);
    }
}

fn odd(answer: &Answer) -> Error {
    Error::Crashed {
        what: "a repo".to_owned(),
        why: format!("its process answered something else: {answer:?}"),
    }
}

fn cut() -> Error {
    Error::Crashed {
        what: "a repo".to_owned(),
        why: "its process's answer is cut".to_owned(),
    }
}
