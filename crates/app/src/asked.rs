//! The version of a DAG that a request for a run is about: at the head of the followed branch, or at another commit.

use std::sync::Arc;
use std::time::Duration;

use trainyard_core::dag::Dag;
use trainyard_core::id::{DagId, DagVersionId};
use trainyard_core::measure::counted;
use trainyard_core::text::short_commit;
use trainyard_dagfile::Diagnostic;
use trainyard_forge::{CommitSha, DagFileText};
use trainyard_store::PinnedDag;

use crate::work::Desk;
use crate::{App, AppError, Result};
use crate::{mirrored, sync};

/// How long reading the DAG files of a commit may take.
const READ_AT_MOST: Duration = Duration::from_secs(30);

/// The version of a DAG that a request is about.
pub(crate) struct AskedVersion {
    pub(crate) version: DagVersionId,
    pub(crate) dag: Arc<Dag>,
    pub(crate) commit: String,
    pub(crate) summary: String,
    pub(crate) branch: Option<String>,
    /// A note for the caller about the commit.
    pub(crate) notes: Vec<String>,
}

impl AskedVersion {
    /// The version at the head of the followed branch, as the remote has it now. A branch that the remote no longer has
    /// has no newest commit: a run of its last one would be of code that was renamed or removed.
    pub(crate) async fn of_current(app: &App, dag: DagId) -> Result<Self> {
        let store = app.store();
        let repo = store.dag_place(dag).await?.repo;
        let last_seen = sync::before_start(app, repo).await?;
        let pinned = store.current_version(dag).await?;
        let followed = store.repo_summary(repo).await?;
        if let (true, None, Some(problem)) = (
            followed.shown.branch_missing,
            &last_seen,
            &followed.shown.last_error,
        ) {
            let name = &followed.shown.name;
            let error = AppError::conflict(format!("{name} has no branch to follow: {problem}"));
            return Err(error.help(format!(
                "`trainyard repo set {name} --branch BRANCH` follows another branch; `--ref REF` starts a run of another \
                 branch, a tag or a commit"
            )));
        }
        let branch = followed.current_branch;
        let head = match &branch {
            Some(branch) => store.refs(repo).await?.remove(branch),
            None => None,
        };
        let commit = short_commit(&pinned.commit);
        let last_seen = last_seen.map(|seen| seen.note(commit, branch.as_deref()));
        let newer = head.filter(|head| *head != pinned.commit).map(|head| {
            format!(
                "the DAG has faults at commit {}, the newest of its branch: commit {commit} is the last one without; \
                 `trainyard dag show` shows them",
                short_commit(&head)
            )
        });
        let summary = summary_of(app, &pinned).await;
        Ok(Self {
            notes: last_seen.into_iter().chain(newer).collect(),
            version: pinned.version,
            dag: pinned.dag.clone(),
            commit: pinned.commit.clone(),
            summary,
            branch,
        })
    }

    /// The version at a branch, tag or commit.
    pub(crate) async fn at(app: &App, dag: DagId, reference: &str) -> Result<Self> {
        let place = app.store().dag_place(dag).await?;
        let git = app.git();
        let repo = place.repo;
        let (commit, info, last_seen) = mirrored::find(app, repo, reference).await?;
        let files = git.dag_files(repo, commit.clone()).await?;
        let found = find_among(files, place.name.clone(), place.path.clone()).await?;
        let faults = match found {
            Found::Dag { path, text, dag } => {
                let (_, version) = app
                    .store()
                    .record_dag_version(repo, commit.as_str(), &path, &text, &dag)
                    .await?;
                let branches = app.store().refs(repo).await?;
                // A branch of this name that was recorded meanwhile points to another commit. This commit must not
                // get its secrets.
                let branch = mirrored::branch(&branches, reference)
                    .filter(|(_, head)| *head == commit.as_str())
                    .map(|(name, _)| name.to_owned());
                let notes = last_seen
                    .map(|seen| seen.note(short_commit(commit.as_str()), branch.as_deref()));
                return Ok(Self {
                    notes: notes.into_iter().collect(),
                    version,
                    dag: Arc::new(*dag),
                    commit: commit.to_string(),
                    summary: info.summary,
                    branch,
                });
            }
            Found::Faults(faults) => faults,
        };
        if faults.is_empty() {
            Err(AppError::not_found(format!(
                "commit {commit} has no DAG `{}`",
                place.name
            )))
        } else {
            let first = &faults[0];
            Err(AppError::invalid(format!(
                "{}:{}:{} at commit {commit}: {} ({} in all)",
                place.path,
                first.line,
                first.column,
                first.message,
                counted(faults.len() as u64, "fault")
            )))
        }
    }
}

/// One DAG as the files of a commit define it.
enum Found {
    Dag {
        path: String,
        text: String,
        dag: Box<Dag>,
    },
    /// The diagnostics of its last known file; none where that file is gone.
    Faults(Vec<Diagnostic>),
}

/// Searches the files of a commit for a DAG: a hostile commit can make reading slow.
async fn find_among(files: Vec<DagFileText>, name: String, was_at: String) -> Result<Found> {
    static DESK: Desk = Desk::new(2, READ_AT_MOST);
    let reading = DESK.work(move |until| {
        let mut faults = Vec::new();
        for file in files {
            if until.is_over() {
                return None;
            }
            let Ok(text) = file.text else { continue };
            let parsed = trainyard_dagfile::parse(&file.path, &text);
            match parsed.dag {
                Some(dag) if dag.name().as_str() == name => {
                    return Some(Found::Dag {
                        path: file.path,
                        text,
                        dag: Box::new(dag),
                    });
                }
                None if file.path == was_at => faults = parsed.diagnostics,
                _ => {}
            }
        }
        Some(Found::Faults(faults))
    });
    let found = reading.await.flatten();
    found.ok_or_else(|| AppError::invalid("its DAG files take too long to read"))
}

/// The first line of a commit; empty where the mirror does not have it (yet).
async fn summary_of(app: &App, pinned: &PinnedDag) -> String {
    let Ok(commit) = CommitSha::new(&pinned.commit) else {
        return String::new();
    };
    let info = app.git().commit(pinned.repo, commit).await;
    info.map(|info| info.summary).unwrap_or_default()
}
