//! The watcher: syncs repos that are due, each in a task of its own.
//!
//! A webhook delivery is only a hint to sync now. A sync every poll interval is the guarantee, so a lost delivery
//! costs minutes and no run.
//!
//! A slow or broken remote affects no other repo. A repo whose sync panics, or exhausts git's limits, is counted
//! against and quarantined.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_core::id::RepoId;
use trainyard_core::name::PoolName;
use trainyard_forge::Git;
use trainyard_store::{RepoToSync, Role, Store, Subject, SyncOutcome, Weight};

use crate::health::leadership::Leadership;
use crate::health::panics::panic_text;
use crate::loops::dag_reading::DagReader;
use crate::loops::sync::RepoSync;
use crate::loops::sync_result::SyncFailure;

/// The longest time between two checks of which repos are due.
const TICK: Duration = Duration::from_secs(5);

/// The time between two checks during a sync: a repo that becomes due then is delayed at most by this.
const TICK_WHILE_BUSY: Duration = Duration::from_secs(1);

/// How many commits are in memory with all their DAG files at the same time.
pub(super) const COMMITS_AT_ONCE: u32 = 4;

/// Follows repos. Clones share their bounds.
#[derive(Debug, Clone)]
pub struct Watcher {
    pub(super) store: Store,
    pub(super) git: Git,
    pub(super) reader: DagReader,
    pub(super) commits: Arc<Semaphore>,
    /// The defined pools.
    pub(super) pools: Arc<BTreeSet<PoolName>>,
    /// The logged problem with branches of each repo that has one.
    logged: Arc<Mutex<HashMap<RepoId, String>>>,
}

/// The syncs in progress.
#[derive(Debug, Default)]
struct Syncs {
    tasks: JoinSet<()>,
    repos: HashMap<Id, RepoId>,
}

impl Syncs {
    fn begin(&mut self, repo: RepoId, sync: impl Future<Output = ()> + Send + 'static) {
        let task = self.tasks.spawn(sync);
        self.repos.insert(task.id(), repo);
    }

    fn is_going_on(&self, repo: RepoId) -> bool {
        self.repos.values().any(|other| *other == repo)
    }

    /// Waits until one ends; for ever if there is none.
    async fn over(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(problem)) => problem.id(),
            None => return std::future::pending().await,
        };
        self.repos.remove(&id);
    }
}

impl Watcher {
    /// A watcher over the mirrors of `git`, of a daemon that defines these pools.
    #[must_use]
    pub fn new(store: Store, git: Git, pools: impl IntoIterator<Item = PoolName>) -> Self {
        Self {
            store,
            git,
            reader: DagReader::new(),
            commits: Arc::new(Semaphore::new(COMMITS_AT_ONCE as usize)),
            pools: Arc::new(pools.into_iter().collect()),
            logged: Arc::default(),
        }
    }

    /// Runs until `shutdown`, which cancels the syncs in progress.
    pub async fn run(self, leadership: Leadership, shutdown: CancellationToken) {
        let mut wake = self.store.wakes().sync.subscribe();
        let mut syncs = Syncs::default();
        loop {
            tokio::select! {
                () = leadership.leading(Role::Watcher) => {}
                () = shutdown.cancelled() => return,
            }
            let wait = match self.begin_due(&mut syncs).await {
                Ok(wait) => wait.map_or(TICK, |wait| wait.min(TICK)),
                Err(error) => {
                    error!(%error, "could not read the repos; will retry");
                    TICK
                }
            };
            tokio::select! {
                () = wake.woken() => {}
                () = syncs.over() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Begins to sync every repo that is due. Returns how long until the next one is.
    async fn begin_due(
        &self,
        syncs: &mut Syncs,
    ) -> Result<Option<Duration>, trainyard_store::Error> {
        for repo in self.store.repos_to_sync().await? {
            if !syncs.is_going_on(repo.id) {
                let watcher = self.clone();
                syncs.begin(repo.id, async move { watcher.sync_and_record(repo).await });
            }
        }
        if syncs.repos.is_empty() {
            self.store.next_sync().await
        } else {
            // A repo whose sync is in progress counts as due until it ends.
            Ok(Some(TICK_WHILE_BUSY))
        }
    }

    async fn sync_and_record(&self, repo: RepoToSync) {
        let synced = AssertUnwindSafe(RepoSync::run(self, &repo))
            .catch_unwind()
            .await;
        let outcome = match synced {
            Ok(Ok(synced)) => {
                if synced.moved > 0 {
                    info!(repo = %repo.name, branches = synced.moved, "branches moved");
                }
                let outcome = synced.outcome();
                match (synced.costly(), outcome) {
                    (Some(reason), SyncOutcome::Failed(problem)) => SyncOutcome::Failed(
                        problem + self.count(&repo, &reason, Weight::Suspect).await,
                    ),
                    (_, outcome) => outcome,
                }
            }
            Ok(Err(SyncFailure::AddressChanged)) => {
                info!(repo = %repo.name, "the sync ended early: the repo has another address, or was removed");
                return;
            }
            Ok(Err(SyncFailure::Failed { words, fault })) => {
                let counted = match fault {
                    Some(weight) => self.count(&repo, &words, weight).await,
                    None => "",
                };
                SyncOutcome::Failed(words + counted)
            }
            Err(panic) => {
                let reason = format!("its sync panicked: {}", panic_text(&*panic));
                let counted = self.count(&repo, &reason, Weight::Suspect).await;
                SyncOutcome::Failed(reason + counted)
            }
        };
        match &outcome {
            SyncOutcome::Good => self.forget(repo.id),
            SyncOutcome::AllBut(problem) if self.is_new(repo.id, problem) => {
                warn!(repo = %repo.name, problem, "not all branches of a repo could be recorded");
            }
            SyncOutcome::AllBut(_) => {}
            SyncOutcome::Failed(problem) => {
                warn!(repo = %repo.name, error = %problem, "a repo could not be synced");
            }
        }
        let recorded = self
            .store
            .record_sync(repo.id, repo.address, repo.asked, outcome);
        if let Err(error) = recorded.await {
            error!(repo = %repo.name, %error, "the result of a sync could not be recorded");
        }
    }

    /// Whether a problem with branches is another one than that of the last sync: it lasts until a push, and each poll
    /// would log it again.
    fn is_new(&self, repo: RepoId, problem: &str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.insert(repo, problem.to_owned()).as_deref() != Some(problem)
    }

    fn forget(&self, repo: RepoId) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.remove(&repo);
    }

    /// Counts a failure of a repo. Returns the text to add if that quarantines it.
    async fn count(&self, repo: &RepoToSync, reason: &str, weight: Weight) -> &'static str {
        // Another address has done nothing yet.
        if let Ok(false) = self.store.is_at(repo.id, repo.address).await {
            return "";
        }
        let subject = Subject::Repo(repo.id);
        let recorded = self
            .store
            .record_trouble(subject, "sync", reason, weight)
            .await;
        match recorded {
            Ok(true) => "; the repo is quarantined until `trainyard quarantine release`",
            Ok(false) => "",
            Err(error) => {
                error!(repo = %repo.name, %error, "could not record a failure of a repo");
                ""
            }
        }
    }
}
