//! [`Git`]: the mirrors for asynchronous callers.
//!
//! libgit2 blocks, on the network for as long as a remote likes. Fetches and reads therefore have a
//! bounded number of blocking threads each, apart from one another: remotes that hang cost the fetches
//! their threads, and never the runs their sources. One fetch per mirror goes on at a time. A future
//! that is dropped cancels its call, so that stopping the daemon does not wait for a remote.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};
use trainyard_core::id::RepoId;

use super::cancel::CancelOnDrop;
use super::{
    Cancel, ChangedPaths, CommitInfo, CommitSha, Credentials, DagFileText, Error, Heads, Mirror,
    Mirrors, TreeSha,
};

/// Fetches at one time: they wait for networks, so a few more than cores do no harm.
const FETCHES: usize = 4;

/// Reads at one time: they unpack objects, which is work for a core.
const READS: usize = 4;

/// How long a fetch may exceed its limit before it is left alone. Within libgit2 there are waits that
/// nothing can interrupt but its own time-outs.
const GRACE: Duration = Duration::from_secs(60);

/// The mirrors, for asynchronous callers. Cheap to clone; clones share the bounds.
#[derive(Debug, Clone)]
pub struct Git {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mirrors: Mirrors,
    fetches: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Whose turn it is at each mirror; entries go when nobody waits.
    turns: Mutex<HashMap<RepoId, Arc<AsyncMutex<()>>>>,
}

impl Git {
    /// Over these mirrors.
    #[must_use]
    pub fn new(mirrors: Mirrors) -> Self {
        Self {
            shared: Arc::new(Shared {
                mirrors,
                fetches: Arc::new(Semaphore::new(FETCHES)),
                reads: Arc::new(Semaphore::new(READS)),
                turns: Mutex::default(),
            }),
        }
    }

    /// The mirrors, for callers that block anyway.
    #[must_use]
    pub fn mirrors(&self) -> &Mirrors {
        &self.shared.mirrors
    }

    /// [`Mirror::fetch`].
    ///
    /// # Errors
    /// As there; [`Error::TimedOut`] also where the remote cannot be interrupted.
    pub async fn fetch(
        &self,
        repo: RepoId,
        url: String,
        credentials: Option<Credentials>,
    ) -> Result<Heads, Error> {
        let mirror = self.shared.mirrors.mirror(repo);
        let patience = self.shared.mirrors.limits().time.saturating_add(GRACE);
        let shown = super::RemoteUrl::parse(&url, &self.shared.mirrors.rules())?.to_string();
        let guard = CancelOnDrop::default();
        let cancel = guard.0.clone();
        let fetch = async {
            // The turn goes to the thread: a fetch that nobody waits for any more still has it.
            let turn = self.turn(repo).await;
            offload(&self.shared.fetches, move || {
                let _turn = turn;
                mirror.fetch(&url, credentials.as_ref(), &cancel)
            })
            .await
        };
        let answer = tokio::time::timeout(patience, fetch).await;
        drop(guard);
        answer.unwrap_or_else(|_| {
            Err(Error::TimedOut {
                url: shown,
                why: format!("no answer within {} s", patience.as_secs()),
            })
        })
    }

    /// [`Mirror::resolve`].
    ///
    /// # Errors
    /// As there.
    pub async fn resolve(&self, repo: RepoId, reference: String) -> Result<CommitSha, Error> {
        self.read(repo, move |mirror| mirror.resolve(&reference))
            .await
    }

    /// [`Mirror::commit`].
    ///
    /// # Errors
    /// As there.
    pub async fn commit(&self, repo: RepoId, commit: CommitSha) -> Result<CommitInfo, Error> {
        self.read(repo, move |mirror| mirror.commit(&commit)).await
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
        self.read(repo, move |mirror| mirror.dag_files(&commit))
            .await
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
        self.read(repo, move |mirror| {
            mirror.changed_paths(before.as_ref(), &after)
        })
        .await
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
        self.read(repo, move |mirror| mirror.is_ancestor(&older, &newer))
            .await
    }

    /// [`Mirror::tree_of`].
    ///
    /// # Errors
    /// As there.
    pub async fn tree_of(&self, repo: RepoId, commit: CommitSha) -> Result<TreeSha, Error> {
        self.read(repo, move |mirror| mirror.tree_of(&commit)).await
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
    ) -> Result<(), Error> {
        let guard = CancelOnDrop::default();
        let cancel: Cancel = guard.0.clone();
        self.read(repo, move |mirror| {
            mirror.write_source_tar(&commit, &to, &cancel)
        })
        .await
    }

    /// [`Mirror::remove`].
    ///
    /// # Errors
    /// As there.
    pub async fn remove(&self, repo: RepoId) -> Result<(), Error> {
        let turn = self.turn(repo).await;
        let mirror = self.shared.mirrors.mirror(repo);
        offload(&self.shared.fetches, move || {
            let _turn = turn;
            mirror.remove()
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        repo: RepoId,
        call: impl FnOnce(Mirror) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mirror = self.shared.mirrors.mirror(repo);
        offload(&self.shared.reads, move || call(mirror)).await
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

/// Runs a blocking call as soon as one of `threads` is free.
async fn offload<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    call: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    // The semaphore is never closed.
    let Ok(thread) = Arc::clone(threads).acquire_owned().await else {
        return Err(Error::Cancelled);
    };
    let running = tokio::task::spawn_blocking(move || {
        let _thread = thread;
        call()
    });
    match running.await {
        Ok(answer) => answer,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down.
        Err(_) => Err(Error::Cancelled),
    }
}
