//! The watcher: fetches repos and turns branches that moved into causes.
//!
//! Webhook deliveries only say that it is worth looking now; a look every poll interval is the
//! guarantee, so a lost delivery costs minutes and no run. Which head was seen last is a row that is
//! moved by compare-and-set in the transaction that records the causes: two watchers, or a delivery
//! and a poll, never start a run twice.
//!
//! A delivery whose `before` is the recorded head is taken as a step of its own, so that two pushes
//! between two looks start a run each. What does not fit is covered by the step to the head.
//!
//! A branch that cannot be recorded is told as the repo's trouble, and keeps no other from being recorded.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use trainyard_core::dag::Dag;
use trainyard_core::name::{DagName, RepoName};
use trainyard_core::text::without_nul;
use trainyard_forge::{CommitSha, Credentials, Git, Heads};
use trainyard_store::{
    DagAtCommit, PendingPush, PushRecorded, PushSeen, RepoToSync, Role, Store, Subject,
    SyncOutcome, Weight,
};

use crate::branch_trouble::{self, BranchTrouble, BranchTroubles};
use crate::leadership::Leadership;
use crate::panics::panic_text;

/// The longest time between two looks at which repos are due.
const TICK: Duration = Duration::from_secs(5);

/// How many repos are fetched at the same time.
const REPOS_AT_ONCE: usize = 4;

/// How often a head that moved under our hands is looked at again in one pass.
const STALE_TRIES: usize = 5;

/// Follows repos.
#[derive(Debug, Clone)]
pub struct Watcher {
    store: Store,
    git: Git,
}

impl Watcher {
    /// A watcher over the mirrors of `git`.
    #[must_use]
    pub fn new(store: Store, git: Git) -> Self {
        Self { store, git }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, leadership: Leadership, shutdown: CancellationToken) {
        let mut wake = self.store.wakes().sync.subscribe();
        loop {
            tokio::select! {
                () = leadership.leading(Role::Watcher) => {}
                () = shutdown.cancelled() => return,
            }
            let wait = match self.pass().await {
                Ok(wait) => wait.map_or(TICK, |wait| wait.min(TICK)),
                Err(error) => {
                    error!(%error, "repos could not be looked at; trying again");
                    TICK
                }
            };
            tokio::select! {
                () = wake.woken() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// Syncs every repo that is due. Returns how long until the next one is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pass(&self) -> Result<Option<Duration>, trainyard_store::Error> {
        let due = self.store.repos_to_sync().await?;
        futures_util::stream::iter(due)
            .for_each_concurrent(REPOS_AT_ONCE, |repo| async move {
                let synced = AssertUnwindSafe(self.sync(&repo)).catch_unwind().await;
                let synced = match synced.map_err(|panic| panic_text(&*panic).to_owned()) {
                    Ok(synced) => synced,
                    Err(text) => Err(self.panicked(&repo, &text).await),
                };
                let outcome = match synced {
                    Ok(synced) => {
                        if synced.moved > 0 {
                            info!(repo = %repo.name, branches = synced.moved, "branches moved");
                        }
                        synced.outcome(&repo.name)
                    }
                    Err(problem) => {
                        warn!(repo = %repo.name, error = %problem, "a repo could not be synced");
                        SyncOutcome::Failed(problem)
                    }
                };
                if let Err(error) = self.store.record_sync(repo.id, repo.asked, outcome).await {
                    error!(repo = %repo.name, %error, "the result of a sync could not be recorded");
                }
            })
            .await;
        self.store.next_sync().await
    }

    /// A sync panicked: what that says.
    async fn panicked(&self, repo: &RepoToSync, text: &str) -> String {
        let reason = format!("its sync panicked: {text}");
        let subject = Subject::Repo(repo.id);
        let recorded = self
            .store
            .record_trouble(subject, "sync", &reason, Weight::Suspect)
            .await;
        if let Err(error) = recorded {
            error!(repo = %repo.name, %error, "trouble with a repo could not be recorded");
        }
        reason
    }

    /// Fetches one repo and records what moved.
    async fn sync(&self, repo: &RepoToSync) -> Result<Synced, String> {
        let deliveries = self.store.pending_pushes(repo.id).await.map_err(in_words)?;
        let credentials = repo.credentials.as_ref().map(|credentials| Credentials {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        });
        let heads = self
            .git
            .fetch(repo.id, repo.url.clone(), credentials)
            .await
            .map_err(in_words)?;
        let followed = followed_branch(repo, &heads);
        let mut refs = self.store.refs(repo.id).await.map_err(in_words)?;
        let mut synced = Synced::default();
        for delivery in &deliveries {
            let taken = self
                .take_delivery(repo, followed.as_deref(), delivery, &mut refs)
                .await;
            synced.note(&delivery.branch, taken)?;
        }
        for (branch, head) in &heads.branches {
            let moved = self
                .move_branch(repo, followed.as_deref(), branch, head, None, &mut refs)
                .await;
            synced.note(branch, moved)?;
        }
        let gone: Vec<String> = refs
            .keys()
            .filter(|branch| !heads.branches.contains_key(*branch))
            .cloned()
            .collect();
        for branch in gone {
            let before = refs.remove(&branch);
            self.store
                .record_branch_gone(repo.id, &branch, before)
                .await
                .map_err(in_words)?;
        }
        for delivery in deliveries {
            let result = match synced.troubles.get(&delivery.branch) {
                None => "the branch heads it told of are recorded",
                Some(BranchTrouble::Refused(words)) => words,
                Some(BranchTrouble::Passing(_) | BranchTrouble::Everywhere(_)) => continue,
            };
            self.store
                .finish_delivery(delivery.delivery, result)
                .await
                .map_err(in_words)?;
        }
        Ok(synced)
    }

    /// Takes a delivery as a step of its own where it fits.
    async fn take_delivery(
        &self,
        repo: &RepoToSync,
        followed: Option<&str>,
        delivery: &PendingPush,
        refs: &mut BTreeMap<String, String>,
    ) -> Result<usize, BranchTrouble> {
        let fits = refs.get(&delivery.branch).map(String::as_str) == delivery.before.as_deref();
        let Some(after) = delivery
            .after
            .as_ref()
            .filter(|_| fits && repo.synced_before)
        else {
            return Ok(0);
        };
        let Ok(after) = CommitSha::new(after) else {
            return Ok(0);
        };
        // A commit that a later forced push has dropped cannot be had any more.
        if self.git.resolve(repo.id, after.to_string()).await.is_err() {
            return Ok(0);
        }
        let actor = delivery.actor.as_deref();
        self.move_branch(repo, followed, &delivery.branch, &after, actor, refs)
            .await
    }

    /// Records that a branch points to `after` now, with the runs that this starts.
    async fn move_branch(
        &self,
        repo: &RepoToSync,
        followed: Option<&str>,
        branch: &str,
        after: &CommitSha,
        actor: Option<&str>,
        refs: &mut BTreeMap<String, String>,
    ) -> Result<usize, BranchTrouble> {
        for _ in 0..STALE_TRIES {
            let before = refs.get(branch).cloned();
            if before.as_deref() == Some(after.as_str()) {
                return Ok(0);
            }
            let is_followed = followed == Some(branch);
            let seen = self
                .look_at(repo, branch, before, after, actor, is_followed)
                .await?;
            match self.store.record_push(repo.id, seen).await? {
                PushRecorded::Recorded { runs, faults } => {
                    debug!(repo = %repo.name, branch, commit = %after, runs = runs.len(), faults, "a branch moved");
                    refs.insert(branch.to_owned(), after.to_string());
                    return Ok(1);
                }
                PushRecorded::Stale => {
                    *refs = self.store.refs(repo.id).await?;
                }
            }
        }
        Err(BranchTrouble::Passing(
            "it moved too often while it was looked at".to_owned(),
        ))
    }

    /// Reads what a commit holds and which of its DAGs the push starts.
    async fn look_at(
        &self,
        repo: &RepoToSync,
        branch: &str,
        before: Option<String>,
        after: &CommitSha,
        actor: Option<&str>,
        is_followed: bool,
    ) -> Result<PushSeen, BranchTrouble> {
        // The first look at a repo only takes stock: nothing was pushed, and only the followed
        // branch has schedules to set up.
        let first_look = !repo.synced_before;
        let mut dags = Vec::new();
        if is_followed || !first_look {
            for file in self.git.dag_files(repo.id, after.clone()).await? {
                dags.push(read_file(&file.path, file.text));
            }
        }
        let mut matches = Vec::new();
        if !first_look {
            let before_sha = before.as_deref().and_then(|sha| CommitSha::new(sha).ok());
            let changed = self
                .git
                .changed_paths(repo.id, before_sha, after.clone())
                .await?;
            matches = dags
                .iter()
                .filter_map(|file| file.dag.as_ref().ok())
                .filter(|dag| starts(dag, branch, is_followed, changed.as_deref()))
                .map(|dag| dag.name().clone())
                .collect::<Vec<DagName>>();
        }
        let commit = self.git.commit(repo.id, after.clone()).await?;
        Ok(PushSeen {
            branch: branch.to_owned(),
            before,
            after: after.to_string(),
            dags,
            is_followed,
            matches,
            summary: commit.summary,
            actor: actor.map(ToOwned::to_owned).or(Some(commit.author)),
        })
    }
}

/// What became of the branches of one repo.
#[derive(Debug, Default)]
struct Synced {
    /// How many moved.
    moved: usize,
    /// What is wrong with those that are not recorded.
    troubles: BranchTroubles,
}

impl Synced {
    /// Notes what became of a branch; what is wrong everywhere ends the sync.
    fn note(&mut self, branch: &str, moved: Result<usize, BranchTrouble>) -> Result<(), String> {
        match moved {
            Ok(moved) => {
                self.moved += moved;
                self.troubles.remove(branch);
            }
            Err(BranchTrouble::Everywhere(words)) => return Err(words),
            Err(trouble) => {
                self.troubles.insert(branch.to_owned(), trouble);
            }
        }
        Ok(())
    }

    /// What is to be recorded of the sync. A first look that is not over takes stock once more: what it
    /// has not seen was not pushed since.
    fn outcome(&self, repo: &RepoName) -> SyncOutcome {
        let Some(words) = branch_trouble::in_words(&self.troubles) else {
            return SyncOutcome::Good;
        };
        warn!(%repo, problem = words, "not all branches of a repo could be recorded");
        let mut troubles = self.troubles.values();
        if troubles.all(|trouble| matches!(trouble, BranchTrouble::Refused(_))) {
            SyncOutcome::AllBut(words)
        } else {
            SyncOutcome::Failed(words)
        }
    }
}

fn starts(dag: &Dag, branch: &str, is_followed: bool, changed: Option<&[String]>) -> bool {
    let followed = if is_followed { branch } else { "" };
    dag.declared()
        .triggers
        .push
        .as_ref()
        .is_some_and(|push| push.matches(branch, followed, changed))
}

/// The branch that schedules come from.
fn followed_branch(repo: &RepoToSync, heads: &Heads) -> Option<String> {
    repo.followed_branch
        .clone()
        .or_else(|| heads.default_branch.clone())
}

/// Parses one DAG file of a commit.
#[must_use]
pub fn read_file(path: &str, text: Result<String, String>) -> DagAtCommit {
    let (source, dag) = match text {
        Ok(text) => {
            let dag = catch_unwind(AssertUnwindSafe(|| {
                let parsed = trainyard_dagfile::parse(path, &text);
                let faults = trainyard_dagfile::to_json(path, &parsed.diagnostics);
                parsed.dag.ok_or(faults)
            }))
            // A fault of ours; the other files go on.
            .unwrap_or_else(|panic| {
                let why = format!(
                    "reading it panicked, which is a bug: {}",
                    panic_text(&*panic)
                );
                error!(path, "{why}");
                Err(unreadable(path, &why))
            });
            (text, dag)
        }
        Err(why) => (String::new(), Err(unreadable(path, &why))),
    };
    DagAtCommit {
        path: path.to_owned(),
        source,
        dag,
    }
}

/// A diagnostic about a whole file, in the form of those that parsing makes.
fn unreadable(path: &str, why: &str) -> serde_json::Value {
    // A panic may quote anything, and no row takes a NUL.
    let why = without_nul(why);
    serde_json::json!([{
        "file": path, "severity": "error", "code": "unreadable", "message": why,
        "line": 1, "column": 1, "end_line": 1, "end_column": 1,
    }])
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
