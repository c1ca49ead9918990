//! A sync: fetches one repo and turns branches that moved into causes.
//!
//! 1. The last seen head is a row that is moved by compare-and-set in the transaction that records the causes: two
//!    watchers, or a delivery and a poll, never start a run twice.
//! 2. A delivery whose `before` is the recorded head is recorded as a step of its own, so that two pushes between two
//!    fetches start a run each. A delivery that does not fit is covered by the step to the head.
//! 3. A branch that cannot be recorded is reported as an error of the repo, and does not keep other branches from
//!    being recorded.
//! 4. A sync is of one address. When the repo gets another one, or is removed, the sync's git process ends, and
//!    nothing more of it is recorded: each write compares the address in its transaction. The new address is due at
//!    once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracing::{debug, info, warn};
use trainyard_core::cause::CauseKind;
use trainyard_core::id::RunId;
use trainyard_core::name::PoolName;
use trainyard_dagfile::Entry;
use trainyard_forge::{CommitQuery, CommitSha, Heads};
use trainyard_store::{
    DagAtCommit, PendingPush, PushRecorded, PushSeen, RepoToSync, RunFilter, Store,
};

use crate::attempt::sources::credentials;
use crate::loops::branch_failure::BranchFailure;
use crate::loops::dag_reading::{DagRead, MovedBranch};
use crate::loops::sync_result::{
    AddressChanged, Moved, SyncFailure, Synced, missing_branch, started, why_no_run,
};
use crate::loops::watcher::Watcher;

/// How often a head that moved while it was read is read again in one sync.
const STALE_TRIES: usize = 5;

/// The most paths of one commit that are checked; the others get no diagnostics.
const PATHS_AT_MOST: usize = 5_000;

/// One sync of one repo.
#[derive(Debug)]
pub(super) struct RepoSync<'a> {
    watcher: &'a Watcher,
    repo: &'a RepoToSync,
    /// The branch that schedules come from.
    followed: Option<String>,
    /// The recorded heads, by branch.
    refs: BTreeMap<String, String>,
}

impl<'a> RepoSync<'a> {
    /// Fetches the repo and records the branches that moved.
    pub(super) async fn run(
        watcher: &'a Watcher,
        repo: &'a RepoToSync,
    ) -> Result<Synced, SyncFailure> {
        let store = &watcher.store;
        let deliveries = store.pending_pushes(repo.id).await?;
        let credentials = repo.credentials.clone().map(credentials);
        let fetch = watcher.git.fetch(repo.id, repo.url.clone(), credentials);
        let heads = while_at_address(store, repo, fetch).await??;
        if heads.left_out > 0 {
            warn!(
                repo = %repo.name, count = heads.left_out,
                "branches and tags whose names are not UTF-8, or too long, are left out"
            );
        }
        let followed = followed_branch(repo, &heads);
        if let (Some(current), Some(followed)) = (&repo.current_branch, &followed)
            && current != followed
        {
            info!(repo = %repo.name, current, followed, "the followed branch has changed");
        }
        let refs = store.refs(repo.id).await?;
        let sync = Self {
            watcher,
            repo,
            followed,
            refs,
        };
        sync.record(deliveries, &heads).await
    }

    async fn record(
        mut self,
        deliveries: Vec<PendingPush>,
        heads: &Heads,
    ) -> Result<Synced, SyncFailure> {
        let Self { watcher, repo, .. } = self;
        let store = &watcher.store;
        let mut synced = Synced::default();
        for (branch, why) in &heads.refused {
            synced.note(branch, Err(BranchFailure::Refused(why.clone())))?;
        }
        for delivery in &deliveries {
            let taken = self.record_move(delivery).await;
            synced.note(&delivery.moved.branch, taken)?;
        }
        for (branch, head) in &heads.branches {
            let moved = self.move_branch(branch, head, None).await;
            synced.note(branch, moved)?;
        }
        for (branch, before) in &self.refs {
            if !heads.branches.contains_key(branch) && !heads.refused.contains_key(branch) {
                store
                    .record_branch_gone(repo.id, repo.address, branch, Some(before.clone()))
                    .await?;
            }
        }
        for delivery in deliveries {
            let result = match synced.failures.get(&delivery.moved.branch) {
                None => self.result(&delivery, heads, &synced).await?,
                Some(BranchFailure::Refused(words)) => format!("refused: {words}"),
                Some(_) => continue,
            };
            store
                .finish_delivery(repo.id, repo.address, delivery.delivery, &result)
                .await?;
        }
        synced.missing = missing_branch(repo, heads);
        Ok(synced)
    }

    /// The result of a delivery whose branch is recorded.
    async fn result(
        &self,
        delivery: &PendingPush,
        heads: &Heads,
        synced: &Synced,
    ) -> Result<String, trainyard_store::Error> {
        let Some(after) = &delivery.moved.after else {
            return Ok("branch deleted".to_owned());
        };
        let branch = &delivery.moved.branch;
        let of = |commit: &str| synced.moves.get(&(branch.clone(), commit.to_owned()));
        if let Some(result) = of(after) {
            return Ok(result.clone());
        }
        // A fetch without it may have come first.
        let runs = RunFilter {
            repo: Some(self.repo.id),
            branch: Some(branch.clone()),
            commit: Some(after.clone()),
            ..RunFilter::default()
        };
        let runs = self.watcher.store.list_runs(&runs).await?;
        let runs = runs.iter().filter(|run| run.cause.kind == CauseKind::PUSH);
        let mut runs: Vec<RunId> = runs.map(|run| RunId(run.id)).collect();
        runs.sort();
        let head = heads.branches.get(branch).map(CommitSha::as_str);
        Ok(match (started(&runs), head) {
            (Some(started), _) => started,
            (None, None) => "branch deleted since".to_owned(),
            (None, Some(head)) if head == after => {
                "nothing changed: the commit was known".to_owned()
            }
            (None, Some(head)) => {
                let result = of(head).map_or(String::new(), |result| format!(": {result}"));
                format!("part of the push of {}{result}", &head[..10])
            }
        })
    }

    /// Records a delivery as a step of its own where it fits.
    async fn record_move(
        &mut self,
        delivery: &PendingPush,
    ) -> Result<Option<Moved>, BranchFailure> {
        let recorded = self.refs.get(&delivery.moved.branch);
        let fits = recorded.map(String::as_str) == delivery.moved.before.as_deref();
        let Some(after) = delivery
            .moved
            .after
            .as_ref()
            .filter(|_| fits && self.repo.synced_before)
        else {
            return Ok(None);
        };
        let Ok(after) = CommitSha::new(after) else {
            return Ok(None);
        };
        // A commit that a later forced push has dropped can no longer be fetched.
        let git = &self.watcher.git;
        if git.resolve(self.repo.id, after.to_string()).await.is_err() {
            return Ok(None);
        }
        let actor = delivery.moved.actor.as_deref();
        self.move_branch(&delivery.moved.branch, &after, actor)
            .await
    }

    /// Records that a branch points to `after` now, with the runs that this starts. A branch that has just become the
    /// followed one is recorded as it is, and starts nothing.
    async fn move_branch(
        &mut self,
        branch: &str,
        after: &CommitSha,
        actor: Option<&str>,
    ) -> Result<Option<Moved>, BranchFailure> {
        let Self { watcher, repo, .. } = *self;
        for _ in 0..STALE_TRIES {
            let before = self.refs.get(branch).cloned();
            let is_followed = self.followed.as_deref() == Some(branch);
            let has_moved = before.as_deref() != Some(after.as_str());
            let becomes_followed = is_followed && repo.current_branch.as_deref() != Some(branch);
            if !has_moved && !becomes_followed {
                return Ok(None);
            }
            // Held until the branch is recorded. The semaphore is never closed.
            let _commit = watcher.commits.acquire().await;
            let reading = self.read_branch(branch, before, after, actor, is_followed);
            let seen = while_at_address(&watcher.store, repo, reading).await??;
            let matches = seen.matches.clone();
            let recorded = watcher.store.record_push(repo.id, repo.address, seen);
            match recorded.await? {
                PushRecorded::Recorded { runs, faults } => {
                    debug!(repo = %repo.name, branch, commit = %after, runs = runs.len(), faults, "a branch moved");
                    self.refs.insert(branch.to_owned(), after.to_string());
                    let result = started(&runs).unwrap_or_else(|| {
                        let why = why_no_run(repo.synced_before, is_followed, &matches, faults);
                        format!("no run: {why}")
                    });
                    return Ok(has_moved.then(|| Moved {
                        to: after.to_string(),
                        result,
                    }));
                }
                PushRecorded::AddressChanged => return Err(BranchFailure::AddressChanged),
                PushRecorded::Stale => {
                    self.refs = watcher.store.refs(repo.id).await?;
                }
            }
        }
        Err(BranchFailure::Passing(
            "it moved too often while it was read".to_owned(),
        ))
    }

    /// Logs pools that DAGs use and no daemon defines. `dag show` reports them until they are defined.
    fn warn_of_pools(&self, branch: &str, dags: &[DagAtCommit]) {
        for dag in dags.iter().filter_map(|file| file.dag.as_ref().ok()) {
            let taken: BTreeSet<&PoolName> = dag
                .stages()
                .iter()
                .flat_map(|stage| stage.program().pools.keys())
                .filter(|pool| !self.watcher.pools.contains(*pool))
                .collect();
            for pool in taken {
                warn!(
                    repo = %self.repo.name, branch, dag = %dag.name(), %pool,
                    "stages wait for a pool that is not defined; add it to `[pools]` in the configuration"
                );
            }
        }
    }

    /// Checks DAG files against the tree of their commit.
    async fn held_against_commit(
        &self,
        commit: &CommitSha,
        read: Vec<DagRead>,
    ) -> Result<Vec<DagAtCommit>, BranchFailure> {
        let all: BTreeSet<&str> = read.iter().flat_map(|read| read.outside.paths()).collect();
        let paths: Vec<String> = all
            .into_iter()
            .take(PATHS_AT_MOST)
            .map(ToOwned::to_owned)
            .collect();
        let mut known: HashMap<String, Entry> = HashMap::new();
        if !paths.is_empty() {
            let git = &self.watcher.git;
            let found = git.entries(self.repo.id, commit.clone(), paths.clone());
            known.extend(paths.into_iter().zip(found.await?.into_iter().map(entry)));
        }
        // The files are untrusted: off the runtime's threads.
        let held = tokio::task::spawn_blocking(move || {
            let entry = |path: &str| known.get(path).copied().unwrap_or(Entry::Unknown);
            read.into_iter()
                .map(|read| read.hold_against(entry))
                .collect()
        });
        held.await
            .map_err(|_| BranchFailure::Passing("the daemon is stopping".to_owned()))
    }

    /// Reads the DAGs of a commit and decides which of them the push starts.
    async fn read_branch(
        &self,
        branch: &str,
        before: Option<String>,
        after: &CommitSha,
        actor: Option<&str>,
        is_followed: bool,
    ) -> Result<PushSeen, BranchFailure> {
        // The first sync of a repo only takes stock: nothing was pushed, and only the followed branch has schedules
        // to set up.
        let Self { watcher, repo, .. } = self;
        let first_look = !repo.synced_before;
        let has_moved = before.as_deref() != Some(after.as_str());
        let before_sha = before.as_deref().and_then(|sha| CommitSha::new(sha).ok());
        let query = CommitQuery {
            after: after.clone(),
            dag_files: is_followed || !first_look,
            changed_since: (!first_look && has_moved).then_some(before_sha),
        };
        let seen = watcher.git.read_commit(repo.id, query).await?;
        let read = watcher.reader.read(seen.dag_files).await?;
        let mut dags = self.held_against_commit(after, read).await?;
        self.warn_of_pools(branch, &dags);
        let mut matches = Vec::new();
        if !first_look && has_moved {
            let push = MovedBranch {
                branch: branch.to_owned(),
                is_followed,
                changed: seen.changed,
            };
            (dags, matches) = watcher.reader.started_by(push, dags).await?;
        }
        Ok(PushSeen {
            branch: branch.to_owned(),
            before,
            after: after.to_string(),
            dags,
            is_followed,
            matches,
            summary: seen.commit.summary,
            actor: actor.map(ToOwned::to_owned).or(Some(seen.commit.author)),
        })
    }
}

/// Does git's work for a sync, until the repo gets another address or is removed: a future of [`Git`] that is dropped
/// ends its process.
///
/// [`Git`]: trainyard_forge::Git
async fn while_at_address<T>(
    store: &Store,
    repo: &RepoToSync,
    work: impl Future<Output = T>,
) -> Result<T, AddressChanged> {
    tokio::select! {
        done = work => Ok(done),
        () = store.address_changed(repo.id, repo.address) => Err(AddressChanged),
    }
}

fn entry(found: trainyard_forge::PathEntry) -> Entry {
    match found {
        trainyard_forge::PathEntry::Missing => Entry::Missing,
        trainyard_forge::PathEntry::Folder => Entry::Folder,
        trainyard_forge::PathEntry::File => Entry::File,
        trainyard_forge::PathEntry::Unknown => Entry::Unknown,
    }
}

/// The branch that schedules come from. A remote that names no default branch, such as a work tree in the middle of a
/// rebase, does not change it.
fn followed_branch(repo: &RepoToSync, heads: &Heads) -> Option<String> {
    let current = || {
        let current = repo.current_branch.as_ref()?;
        (!heads.names_default && heads.branches.contains_key(current)).then_some(current)
    };
    repo.followed_branch
        .as_ref()
        .or_else(current)
        .or(heads.default_branch.as_ref())
        .cloned()
}
