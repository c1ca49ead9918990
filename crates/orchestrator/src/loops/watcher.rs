//! The watcher: fetches repos and turns branches that moved into causes.
//!
//! A webhook delivery is only a hint to fetch now. A fetch every poll interval is the guarantee, so a lost delivery
//! costs minutes and no run. The last seen head is a row that is moved by compare-and-set in the transaction that
//! records the causes: two watchers, or a delivery and a poll, never start a run twice.
//!
//! A delivery whose `before` is the recorded head is recorded as a step of its own, so that two pushes between two
//! fetches start a run each. A delivery that does not fit is covered by the step to the head.
//!
//! A branch that cannot be recorded is reported as an error of the repo, and does not keep other branches
//! from being recorded.
//!
//! A sync is of one address. When the repo gets another one, or is removed, the sync's git process ends, and nothing
//! more of it is recorded: each write compares the address in its transaction. The new address is due at once.
//!
//! Each sync is a task of its own, so a slow or broken remote affects no other repo. A repo whose sync panics, or
//! exhausts git's limits, is counted against and quarantined.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use trainyard_core::cause::CauseKind;
use trainyard_core::dag::nearest;
use trainyard_core::id::{RepoId, RunId};
use trainyard_core::name::{DagName, PoolName, RepoName};
use trainyard_dagfile::Entry;
use trainyard_forge::{CommitSha, Git, Heads, LookAt};
use trainyard_store::{
    DagAtCommit, PendingPush, PushRecorded, PushSeen, RepoToSync, Role, RunFilter, Store, Subject,
    SyncOutcome, Weight,
};

use crate::attempt::sources::credentials;
use crate::health::leadership::Leadership;
use crate::health::panics::panic_text;
use crate::loops::branch_trouble::{self, BranchTrouble, BranchTroubles};
use crate::loops::dag_reading::{DagRead, DagReader, Push};

/// The longest time between two checks of which repos are due.
const TICK: Duration = Duration::from_secs(5);

/// The time between two checks during a sync: a repo that becomes due then is delayed at most by this.
const TICK_WHILE_BUSY: Duration = Duration::from_secs(1);

/// How many commits are in memory with all their DAG files at the same time.
const COMMITS_AT_ONCE: usize = 4;

/// How often a head that moved while it was read is read again in one pass.
const STALE_TRIES: usize = 5;

/// Follows repos. Clones share their bounds.
#[derive(Debug, Clone)]
pub struct Watcher {
    store: Store,
    git: Git,
    reader: DagReader,
    commits: Arc<Semaphore>,
    /// The defined pools.
    pools: Arc<BTreeSet<PoolName>>,
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
            commits: Arc::new(Semaphore::new(COMMITS_AT_ONCE)),
            pools: Arc::new(pools.into_iter().collect()),
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
        let synced = AssertUnwindSafe(self.sync(&repo)).catch_unwind().await;
        let outcome = match synced {
            Ok(Ok(synced)) => {
                if synced.moved > 0 {
                    info!(repo = %repo.name, branches = synced.moved, "branches moved");
                }
                let outcome = synced.outcome(&repo.name);
                match (synced.costly(), outcome) {
                    (Some(reason), SyncOutcome::Failed(problem)) => {
                        SyncOutcome::Failed(problem + self.count(&repo, &reason).await)
                    }
                    (_, outcome) => outcome,
                }
            }
            Ok(Err(SyncFailure::AddressChanged)) => {
                info!(repo = %repo.name, "the sync ended early: the repo has another address, or was removed");
                return;
            }
            Ok(Err(SyncFailure::Failed { words, is_costly })) => {
                let counted = match is_costly {
                    true => self.count(&repo, &words).await,
                    false => "",
                };
                SyncOutcome::Failed(words + counted)
            }
            Err(panic) => {
                let reason = format!("its sync panicked: {}", panic_text(&*panic));
                let counted = self.count(&repo, &reason).await;
                SyncOutcome::Failed(reason + counted)
            }
        };
        if let SyncOutcome::Failed(problem) = &outcome {
            warn!(repo = %repo.name, error = %problem, "a repo could not be synced");
        }
        let recorded = self
            .store
            .record_sync(repo.id, repo.address, repo.asked, outcome);
        if let Err(error) = recorded.await {
            error!(repo = %repo.name, %error, "the result of a sync could not be recorded");
        }
    }

    /// Counts a failure of a repo. Returns the text to add if that quarantines it.
    async fn count(&self, repo: &RepoToSync, reason: &str) -> &'static str {
        // Another address has done nothing yet.
        if let Ok(false) = self.store.is_at(repo.id, repo.address).await {
            return "";
        }
        let subject = Subject::Repo(repo.id);
        let recorded = self
            .store
            .record_trouble(subject, "sync", reason, Weight::Suspect)
            .await;
        match recorded {
            Ok(true) => {
                "; after repeated failures the repo is quarantined until `trainyard quarantine release`"
            }
            Ok(false) => "",
            Err(error) => {
                error!(repo = %repo.name, %error, "could not record a failure of a repo");
                ""
            }
        }
    }

    /// Does git's work for a sync, until the repo gets another address or is removed: a future of [`Git`] that is
    /// dropped ends its process.
    async fn while_at_address<T>(
        &self,
        repo: &RepoToSync,
        work: impl Future<Output = T>,
    ) -> Result<T, AddressChanged> {
        tokio::select! {
            done = work => Ok(done),
            () = self.store.address_changed(repo.id, repo.address) => Err(AddressChanged),
        }
    }

    /// Fetches one repo and records the branches that moved.
    async fn sync(&self, repo: &RepoToSync) -> Result<Synced, SyncFailure> {
        let deliveries = self.store.pending_pushes(repo.id).await?;
        let credentials = repo.credentials.clone().map(credentials);
        let fetch = self.git.fetch(repo.id, repo.url.clone(), credentials);
        let heads = self.while_at_address(repo, fetch).await??;
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
        let mut refs = self.store.refs(repo.id).await?;
        let mut synced = Synced::default();
        for (branch, why) in &heads.refused {
            synced.note(branch, Err(BranchTrouble::Refused(why.clone())))?;
        }
        for delivery in &deliveries {
            let taken = self
                .take_delivery(repo, followed.as_deref(), delivery, &mut refs)
                .await;
            synced.note(&delivery.moved.branch, taken)?;
        }
        for (branch, head) in &heads.branches {
            let moved = self
                .move_branch(repo, followed.as_deref(), branch, head, None, &mut refs)
                .await;
            synced.note(branch, moved)?;
        }
        let gone: Vec<String> = refs
            .keys()
            .filter(|branch| {
                !heads.branches.contains_key(*branch) && !heads.refused.contains_key(*branch)
            })
            .cloned()
            .collect();
        for branch in gone {
            let before = refs.remove(&branch);
            self.store
                .record_branch_gone(repo.id, repo.address, &branch, before)
                .await?;
        }
        for delivery in deliveries {
            let result = match synced.troubles.get(&delivery.moved.branch) {
                None => self.result(repo.id, &delivery, &heads, &synced).await?,
                Some(BranchTrouble::Refused(words)) => format!("refused: {words}"),
                Some(_) => continue,
            };
            self.store
                .finish_delivery(repo.id, repo.address, delivery.delivery, &result)
                .await?;
        }
        synced.missing = missing_branch(repo, &heads);
        Ok(synced)
    }

    /// The result of a delivery whose branch is recorded.
    async fn result(
        &self,
        repo: RepoId,
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
            repo: Some(repo),
            branch: Some(branch.clone()),
            commit: Some(after.clone()),
            ..RunFilter::default()
        };
        let runs = self.store.list_runs(&runs).await?;
        let runs = runs
            .iter()
            .filter(|run| matches!(run.cause, CauseKind::Push { .. }));
        let mut runs: Vec<RunId> = runs.map(|run| run.id).collect();
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
    async fn take_delivery(
        &self,
        repo: &RepoToSync,
        followed: Option<&str>,
        delivery: &PendingPush,
        refs: &mut BTreeMap<String, String>,
    ) -> Result<Option<Moved>, BranchTrouble> {
        let fits = refs.get(&delivery.moved.branch).map(String::as_str)
            == delivery.moved.before.as_deref();
        let Some(after) = delivery
            .moved
            .after
            .as_ref()
            .filter(|_| fits && repo.synced_before)
        else {
            return Ok(None);
        };
        let Ok(after) = CommitSha::new(after) else {
            return Ok(None);
        };
        // A commit that a later forced push has dropped can no longer be fetched.
        if self.git.resolve(repo.id, after.to_string()).await.is_err() {
            return Ok(None);
        }
        let actor = delivery.moved.actor.as_deref();
        self.move_branch(repo, followed, &delivery.moved.branch, &after, actor, refs)
            .await
    }

    /// Records that a branch points to `after` now, with the runs that this starts. A branch that has just become the
    /// followed one is recorded as it is, and starts nothing.
    async fn move_branch(
        &self,
        repo: &RepoToSync,
        followed: Option<&str>,
        branch: &str,
        after: &CommitSha,
        actor: Option<&str>,
        refs: &mut BTreeMap<String, String>,
    ) -> Result<Option<Moved>, BranchTrouble> {
        for _ in 0..STALE_TRIES {
            let before = refs.get(branch).cloned();
            let is_followed = followed == Some(branch);
            let has_moved = before.as_deref() != Some(after.as_str());
            let becomes_followed = is_followed && repo.current_branch.as_deref() != Some(branch);
            if !has_moved && !becomes_followed {
                return Ok(None);
            }
            // Held until the branch is recorded. The semaphore is never closed.
            let _commit = self.commits.acquire().await;
            let reading = self.look_at(repo, branch, before, after, actor, is_followed);
            let seen = self.while_at_address(repo, reading).await??;
            let matches = seen.matches.clone();
            match self.store.record_push(repo.id, repo.address, seen).await? {
                PushRecorded::Recorded { runs, faults } => {
                    debug!(repo = %repo.name, branch, commit = %after, runs = runs.len(), faults, "a branch moved");
                    refs.insert(branch.to_owned(), after.to_string());
                    let result = started(&runs).unwrap_or_else(|| {
                        let why = why_no_run(repo.synced_before, is_followed, &matches, faults);
                        format!("no run: {why}")
                    });
                    return Ok(has_moved.then(|| Moved {
                        to: after.to_string(),
                        result,
                    }));
                }
                PushRecorded::AddressChanged => return Err(BranchTrouble::AddressChanged),
                PushRecorded::Stale => {
                    *refs = self.store.refs(repo.id).await?;
                }
            }
        }
        Err(BranchTrouble::Passing(
            "it moved too often while it was read".to_owned(),
        ))
    }

    /// Logs pools that DAGs use and no daemon defines. `dag show` reports them until they are defined.
    fn warn_of_pools(&self, repo: &RepoToSync, branch: &str, dags: &[DagAtCommit]) {
        for dag in dags.iter().filter_map(|file| file.dag.as_ref().ok()) {
            let taken: BTreeSet<&PoolName> = dag
                .stages()
                .iter()
                .flat_map(|stage| stage.pools.keys())
                .filter(|pool| !self.pools.contains(*pool))
                .collect();
            for pool in taken {
                warn!(
                    repo = %repo.name, branch, dag = %dag.name(), %pool,
                    "stages wait for a pool that is not defined; add it to `[pools]` in the configuration"
                );
            }
        }
    }

    /// Checks DAG files against the tree of their commit.
    async fn held_against_commit(
        &self,
        repo: &RepoToSync,
        commit: &CommitSha,
        read: Vec<DagRead>,
    ) -> Result<Vec<DagAtCommit>, BranchTrouble> {
        let all: BTreeSet<&str> = read.iter().flat_map(|read| read.outside.paths()).collect();
        let paths: Vec<String> = all
            .into_iter()
            .take(PATHS_AT_MOST)
            .map(ToOwned::to_owned)
            .collect();
        let mut known: HashMap<String, Entry> = HashMap::new();
        if !paths.is_empty() {
            let found = self.git.entries(repo.id, commit.clone(), paths.clone());
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
            .map_err(|_| BranchTrouble::Passing("the daemon is stopping".to_owned()))
    }

    /// Reads the DAGs of a commit and decides which of them the push starts.
    async fn look_at(
        &self,
        repo: &RepoToSync,
        branch: &str,
        before: Option<String>,
        after: &CommitSha,
        actor: Option<&str>,
        is_followed: bool,
    ) -> Result<PushSeen, BranchTrouble> {
        // The first sync of a repo only takes stock: nothing was pushed, and only the followed branch has schedules
        // to set up.
        let first_look = !repo.synced_before;
        let has_moved = before.as_deref() != Some(after.as_str());
        let before_sha = before.as_deref().and_then(|sha| CommitSha::new(sha).ok());
        let look = LookAt {
            after: after.clone(),
            dag_files: is_followed || !first_look,
            changed_since: (!first_look && has_moved).then_some(before_sha),
        };
        let seen = self.git.look(repo.id, look).await?;
        let read = self.reader.read(seen.dag_files).await?;
        let mut dags = self.held_against_commit(repo, after, read).await?;
        self.warn_of_pools(repo, branch, &dags);
        let mut matches = Vec::new();
        if !first_look && has_moved {
            let push = Push {
                branch: branch.to_owned(),
                is_followed,
                changed: seen.changed,
            };
            (dags, matches) = self.reader.started_by(push, dags).await?;
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

/// The most paths of one commit that are checked; the others get no diagnostics.
const PATHS_AT_MOST: usize = 5_000;

/// The repo has another address since a sync began, or is gone.
#[derive(Debug)]
struct AddressChanged;

/// Why a sync ended without a whole result.
#[derive(Debug)]
enum SyncFailure {
    /// Nothing of it counts: another one follows.
    AddressChanged,
    Failed {
        words: String,
        /// Whether the repo causes it, and it costs a lot each time.
        is_costly: bool,
    },
}

impl From<AddressChanged> for SyncFailure {
    fn from(AddressChanged: AddressChanged) -> Self {
        Self::AddressChanged
    }
}

impl From<AddressChanged> for BranchTrouble {
    fn from(AddressChanged: AddressChanged) -> Self {
        Self::AddressChanged
    }
}

impl From<trainyard_store::Error> for SyncFailure {
    fn from(error: trainyard_store::Error) -> Self {
        Self::Failed {
            words: error.to_string(),
            is_costly: false,
        }
    }
}

impl From<trainyard_forge::Error> for SyncFailure {
    fn from(error: trainyard_forge::Error) -> Self {
        Self::Failed {
            words: error.to_string(),
            is_costly: error.is_costly(),
        }
    }
}

/// A branch that moved.
#[derive(Debug)]
struct Moved {
    to: String,
    /// The result, in words.
    result: String,
}

/// The results for the branches of one repo.
#[derive(Debug, Default)]
struct Synced {
    moved: usize,
    /// The results by branch and commit.
    moves: HashMap<(String, String), String>,
    /// The errors of the branches that are not recorded.
    troubles: BranchTroubles,
    /// The error of the followed branch, where the remote does not have it.
    missing: Option<String>,
}

impl Synced {
    /// Adds the result for a branch; an error that concerns all branches ends the sync.
    fn note(
        &mut self,
        branch: &str,
        moved: Result<Option<Moved>, BranchTrouble>,
    ) -> Result<(), SyncFailure> {
        match moved {
            Ok(moved) => {
                if let Some(Moved { to, result }) = moved {
                    self.moved += 1;
                    self.moves.insert((branch.to_owned(), to), result);
                }
                self.troubles.remove(branch);
            }
            Err(BranchTrouble::AddressChanged) => return Err(SyncFailure::AddressChanged),
            Err(BranchTrouble::Everywhere(words)) => {
                return Err(SyncFailure::Failed {
                    words,
                    is_costly: false,
                });
            }
            Err(trouble) => {
                self.troubles.insert(branch.to_owned(), trouble);
            }
        }
        Ok(())
    }

    /// The errors to count against the repo.
    fn costly(&self) -> Option<String> {
        self.troubles
            .iter()
            .find(|(_, trouble)| matches!(trouble, BranchTrouble::Costly(_)))
            .map(|(branch, trouble)| format!("branch {branch}: {}", trouble.words()))
    }

    /// The result of the sync to record. An incomplete first sync takes stock once more: branches that it has not
    /// seen were not pushed since.
    fn outcome(&self, repo: &RepoName) -> SyncOutcome {
        let troubles = branch_trouble::in_words(&self.troubles);
        let words: Vec<String> = self.missing.clone().into_iter().chain(troubles).collect();
        if words.is_empty() {
            return SyncOutcome::Good;
        }
        let words = words.join("; ");
        let mut troubles = self.troubles.values();
        if troubles.all(|trouble| matches!(trouble, BranchTrouble::Refused(_))) {
            warn!(%repo, problem = words, "not all branches of a repo could be recorded");
            SyncOutcome::AllBut(words)
        } else {
            SyncOutcome::Failed(words)
        }
    }
}

/// The runs that a push started; `None` without any.
fn started(runs: &[RunId]) -> Option<String> {
    let numbers: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let runs = if runs.len() == 1 { "run" } else { "runs" };
    (!numbers.is_empty()).then(|| format!("started {runs} {}", numbers.join(", ")))
}

/// Why a branch that moved started no run.
fn why_no_run(
    synced_before: bool,
    is_followed: bool,
    matches: &[DagName],
    faults: usize,
) -> String {
    let names: Vec<&str> = matches.iter().map(DagName::as_str).collect();
    let one = names.len() == 1;
    match faults {
        _ if !synced_before => "the first sync starts nothing".to_owned(),
        0 if one => format!("DAG {} is paused", names[0]),
        0 if !names.is_empty() => format!("DAGs {} are paused", names.join(", ")),
        0 if is_followed => "no push trigger matches".to_owned(),
        0 => "branch not followed, no push trigger matches".to_owned(),
        1 => "a DAG file has faults".to_owned(),
        _ => format!("{faults} DAG files have faults"),
    }
}

/// The error where the remote does not have the branch that is to be followed.
fn missing_branch(repo: &RepoToSync, heads: &Heads) -> Option<String> {
    let followed = repo.followed_branch.as_ref()?;
    if heads.branches.contains_key(followed) || heads.refused.contains_key(followed) {
        return None;
    }
    let known = heads.branches.keys().map(String::as_str);
    let meant = nearest(followed, known).map(|name| format!("; did you mean `{name}`?"));
    Some(format!(
        "the remote has no branch `{followed}`{}",
        meant.unwrap_or_default()
    ))
}

fn entry(found: trainyard_forge::Entry) -> Entry {
    match found {
        trainyard_forge::Entry::Missing => Entry::Missing,
        trainyard_forge::Entry::Folder => Entry::Folder,
        trainyard_forge::Entry::File => Entry::File,
        trainyard_forge::Entry::Unknown => Entry::Unknown,
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
