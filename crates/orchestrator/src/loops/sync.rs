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
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, info, warn};
use trainyard_core::cause::CauseKind;
use trainyard_core::id::RunId;
use trainyard_core::name::{DagName, PoolName};
use trainyard_dagfile::Entry;
use trainyard_forge::{CommitInfo, CommitQuery, CommitSha, Heads, ReadMark};
use trainyard_store::{
    DagAtCommit, PendingPush, PushRecorded, PushSeen, RepoToSync, RunFilter, Store,
};

use crate::attempt::sources::credentials;
use crate::loops::branch_failure::BranchFailure;
use crate::loops::dag_reading::{DagRead, FaultRoom, MovedBranch};
use crate::loops::sync_result::{
    AddressChanged, Moved, SyncFailure, Synced, missing_branch, started, why_no_run,
};
use crate::loops::watcher::{COMMITS_AT_ONCE, Watcher};

/// How often a head that moved while it was read is read again in one sync.
const STALE_TRIES: usize = 5;

/// How many processes in a row may be killed while they read commits of a repo, before it is quarantined.
const DEATHS: u32 = 3;

/// The most pools of one commit that are logged as not defined.
const POOLS_LOGGED: usize = 10;

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
    /// The commit that was read last: branches often are at the same one.
    read: Option<CommitRead>,
}

/// A commit that was read, and what is held while it is in memory.
#[derive(Debug)]
struct CommitRead {
    query: CommitQuery,
    commit: CommitInfo,
    dags: Arc<Vec<DagAtCommit>>,
    changed: Arc<Option<Vec<String>>>,
    _mark: ReadMark,
    _permit: OwnedSemaphorePermit,
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
            read: None,
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
        // Branches at the same commit follow one another, so that it is read once.
        let mut branches: Vec<_> = heads.branches.iter().collect();
        branches.sort_by_key(|(_, head)| *head);
        for (branch, head) in branches {
            let moved = self.move_branch(branch, head, None).await;
            synced.note(branch, moved)?;
        }
        self.read = None;
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
        let (watcher, repo) = (self.watcher, self.repo);
        for _ in 0..STALE_TRIES {
            let before = self.refs.get(branch).cloned();
            let is_followed = self.followed.as_deref() == Some(branch);
            let has_moved = before.as_deref() != Some(after.as_str());
            let becomes_followed = is_followed && repo.current_branch.as_deref() != Some(branch);
            if !has_moved && !becomes_followed {
                return Ok(None);
            }
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
        let mut missing: BTreeMap<&PoolName, &DagName> = BTreeMap::new();
        for dag in dags.iter().filter_map(|file| file.dag.as_ref().ok()) {
            let pools = dag.stages().iter();
            for pool in pools.flat_map(|stage| stage.program().pools.keys()) {
                if !self.watcher.pools.contains(pool) {
                    missing.entry(pool).or_insert(dag.name());
                }
            }
        }
        let count = missing.len();
        for (pool, dag) in missing.into_iter().take(POOLS_LOGGED) {
            warn!(
                repo = %self.repo.name, branch, %dag, %pool, count,
                "stages wait for a pool that is not defined; add it to `[pools]` in the configuration"
            );
        }
    }

    /// Checks DAG files against the tree of their commit, and against each other.
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
            let mut names = BTreeMap::new();
            let mut room = FaultRoom::default();
            let held = read.into_iter().map(|read| {
                let mut file = read.hold_against(entry, &mut names);
                room.take(&mut file);
                file
            });
            held.collect()
        });
        held.await
            .map_err(|_| BranchFailure::Passing("the daemon is stopping".to_owned()))
    }

    /// Reads the DAGs of a commit and decides which of them the push starts.
    async fn read_branch(
        &mut self,
        branch: &str,
        before: Option<String>,
        after: &CommitSha,
        actor: Option<&str>,
        is_followed: bool,
    ) -> Result<PushSeen, BranchFailure> {
        // The first sync of a repo only takes stock: nothing was pushed, and only the followed branch has schedules
        // to set up.
        let first_look = !self.repo.synced_before;
        let has_moved = before.as_deref() != Some(after.as_str());
        let before_sha = before.as_deref().and_then(|sha| CommitSha::new(sha).ok());
        let query = CommitQuery {
            after: after.clone(),
            dag_files: is_followed || !first_look,
            changed_since: (!first_look && has_moved).then_some(before_sha),
        };
        // The room of the last commit is free before this one asks for its own.
        let read = match self.read.take().filter(|read| read.query == query) {
            Some(read) => read,
            None => self.read_commit(branch, query).await?,
        };
        let read = self.read.insert(read);
        let mut matches = Vec::new();
        if !first_look && has_moved {
            let push = MovedBranch {
                branch: branch.to_owned(),
                is_followed,
                changed: Arc::clone(&read.changed),
            };
            let dags = Arc::clone(&read.dags);
            matches = self.watcher.reader.started_by(push, dags).await?;
        }
        Ok(PushSeen {
            branch: branch.to_owned(),
            before,
            after: after.to_string(),
            dags: Arc::clone(&read.dags),
            is_followed,
            matches,
            summary: read.commit.summary.clone(),
            actor: actor.map_or_else(
                || Some(read.commit.author.clone()),
                |actor| Some(actor.to_owned()),
            ),
        })
    }

    /// Reads a commit, when there is room for it in memory.
    async fn read_commit(
        &self,
        branch: &str,
        query: CommitQuery,
    ) -> Result<CommitRead, BranchFailure> {
        let Self { watcher, repo, .. } = self;
        let mirror = watcher.git.mirrors().mirror(repo.id);
        let deaths = mirror.deaths()?;
        if deaths >= DEATHS {
            // Once it is released, it begins at none again.
            drop(mirror.mark_reading()?);
            return Err(BranchFailure::Deadly(format!(
                "the daemon was killed {deaths} times in a row while it read commits of this repo; check its log and \
                 the machine's memory before you release it"
            )));
        }
        // Others that were read when the process died are not to blame: each of them is read alone once.
        let room = if deaths == 0 { 1 } else { COMMITS_AT_ONCE };
        let permit = Arc::clone(&watcher.commits).acquire_many_owned(room).await;
        let permit =
            permit.map_err(|_| BranchFailure::Passing("the daemon is stopping".to_owned()))?;
        let mark = mirror.mark_reading()?;
        let seen = watcher.git.read_commit(repo.id, query.clone()).await?;
        let read = watcher.reader.read(seen.dag_files).await?;
        let dags = self.held_against_commit(&query.after, read).await?;
        self.warn_of_pools(branch, &dags);
        Ok(CommitRead {
            query,
            commit: seen.commit,
            dags: Arc::new(dags),
            changed: Arc::new(seen.changed),
            _mark: mark,
            _permit: permit,
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
