//! Pushes: a branch moved; this and everything that follows from it are recorded in one transaction.
//!
//! The branch's row is moved by compare-and-set, so two daemons that saw the same push record it once. Its generation
//! counts the moves and is part of the causes' keys: a branch that is forced back to an old commit has moved again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::Timestamp;
use trainyard_core::cause::{Cause, CauseKind};
use trainyard_core::dag::Dag;
use trainyard_core::id::{DagId, DagVersionId, RepoId, RunId};
use trainyard_core::name::DagName;
use trainyard_core::param;
use trainyard_failpoint::{AtPoint as _, Point};

use crate::db::error::{Result, repeated};
use crate::runs::draft::Draft;
use crate::runs::start::{NewRun, Recorded, start_run_in};
use crate::store::{Core, Store};
use crate::triggers::dags::{DagAtCommit, dag_row, lock_repo, version_row};
use crate::triggers::repos::AddressNumber;
use crate::triggers::schedules::replace_schedules;

/// A branch that has moved.
#[derive(Debug, Clone)]
pub struct PushSeen {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// The recorded commit before; `None` for a new branch. Equal to `after` where the branch has
    /// become the followed one without moving.
    pub before: Option<String>,
    /// The commit now, as a full hash.
    pub after: String,
    /// All DAG files at that commit: a DAG whose file is missing here counts as gone. No two of them define DAGs of
    /// one name; the second one is an error.
    pub dags: Arc<Vec<DagAtCommit>>,
    /// Whether the repo's schedules come from this branch.
    pub is_followed: bool,
    /// The DAGs whose push trigger matched.
    pub matches: Vec<DagName>,
    pub summary: String,
    /// Who pushed, if known.
    pub actor: Option<String>,
}

/// The result of recording a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushRecorded {
    /// The push is recorded, with everything that follows.
    Recorded {
        /// The runs that it started.
        runs: Vec<RunId>,
        /// How many of its DAG files have errors.
        faults: usize,
    },
    /// The branch was not at `before`. Nothing was changed: read the branch again.
    Stale,
    /// The repo has another address since. Nothing was changed.
    AddressChanged,
}

/// The most runs that one push starts.
const RUNS_OF_A_PUSH: usize = 100;

/// The most DAGs of a repo that pushes to other branches than the followed one add to; the followed one adds up to
/// twice as many. DAGs without a file and without runs are removed by retention.
const DAGS_OF_A_REPO: usize = 2_000;

/// The most files with errors that are kept of a repo, over all of its commits.
const FAULTS_OF_A_REPO: i64 = 4_000;

/// The most stages that these runs have together: some seconds of one transaction.
const STAGES_OF_A_PUSH: usize = 10_000;

impl Store {
    /// Records that a branch moved: its DAG versions and the faults of its files; on the followed branch also the
    /// repo's DAGs and schedules; and a run for each DAG whose trigger matched, except paused ones.
    ///
    /// A DAG whose file has errors now keeps its last good version and its schedules; a DAG
    /// whose file is gone loses its schedules. `address` is the one whose remote was read.
    ///
    /// # Errors
    /// `NotFound` for an unknown repo.
    pub async fn record_push(
        &self,
        repo: RepoId,
        address: AddressNumber,
        seen: PushSeen,
    ) -> Result<PushRecorded> {
        let (recorded, committed) = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let mut draft = Draft::default();
            let recorded = record_push_in(
                &self.core,
                &mut transaction,
                &mut draft,
                repo,
                address,
                &seen,
            )
            .await?;
            Ok((
                recorded,
                draft.commit(transaction, Point::RecordPush).await?,
            ))
        })
        .await?;
        committed.settle(&self.core).await;
        if seen.is_followed {
            self.core.wakes.schedule.wake();
        }
        Ok(recorded)
    }

    /// Records that a branch is gone. Changes nothing where the recorded commit is not `before`, or the repo has
    /// another address than the one whose remote was read.
    pub async fn record_branch_gone(
        &self,
        repo: RepoId,
        address: AddressNumber,
        branch: &str,
        before: Option<String>,
    ) -> Result<()> {
        sqlx::query!(
            "with locked as materialized (select id from repo where id = $1 and address_number = $4 for no key update)
             update repo_ref set sha = null, generation = generation + 1, moved_at = clock_timestamp()
             where repo in (select id from locked) and branch = $2 and sha = $3",
            repo.0,
            branch,
            before,
            address.0
        )
        .execute(&self.core.pool).at(Point::RecordBranchGone)
        .await?;
        Ok(())
    }
}

async fn record_push_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    repo: RepoId,
    address: AddressNumber,
    seen: &PushSeen,
) -> Result<PushRecorded> {
    let now = lock_repo(connection, repo).await?;
    // A statement of its own: it sees what was committed while the lock was waited for.
    let is_at = sqlx::query!(
        r#"select address_number = $2 as "is_at!" from repo where id = $1"#,
        repo.0,
        address.0
    )
    .fetch_one(&mut *connection)
    .await?
    .is_at;
    if !is_at {
        return Ok(PushRecorded::AddressChanged);
    }
    let Some(generation) = move_ref(connection, repo, seen, now).await? else {
        return Ok(PushRecorded::Stale);
    };
    if seen.is_followed {
        sqlx::query!(
            "update repo set current_branch = $2 where id = $1",
            repo.0,
            seen.branch
        )
        .execute(&mut *connection)
        .await?;
    }
    // Locks all of the repo's DAGs in one order before it changes any of them.
    let known = sqlx::query_scalar!(
        "select name from dag where repo = $1 order by id for no key update",
        repo.0
    )
    .fetch_all(&mut *connection)
    .await?;
    let known: BTreeSet<String> = known.into_iter().collect();
    // Names of other branches leave room for those of the followed one.
    let most = if seen.is_followed {
        2 * DAGS_OF_A_REPO
    } else {
        DAGS_OF_A_REPO
    };
    let mut new_dags = most.saturating_sub(known.len());
    let mut good: Vec<(&DagAtCommit, &Dag)> = Vec::new();
    let mut faults: Vec<Fault> = Vec::new();
    for file in seen.dags.iter() {
        match &file.dag {
            Ok(dag) => good.push((file, dag)),
            Err(diagnostics) => faults.push((file.path.clone(), diagnostics.clone())),
        }
    }
    let mut versions = BTreeMap::new();
    for (file, dag) in &good {
        if seen.is_followed || seen.matches.contains(dag.name()) {
            if !known.contains(dag.name().as_str()) {
                let Some(left) = new_dags.checked_sub(1) else {
                    let message = format!(
                        "the repo has {} DAGs, those of all branches together, and can have no more; `trainyard dag \
                         remove` removes those that the followed branch does not have",
                        known.len().max(most)
                    );
                    faults.push((file.path.clone(), diagnostic(&file.path, &message)));
                    continue;
                };
                new_dags = left;
            }
            let id = dag_row(connection, repo, dag.name(), &file.path, now).await?;
            let version = version_row(
                connection,
                id,
                &seen.after,
                &file.path,
                &file.source,
                dag,
                now,
            )
            .await?;
            versions.insert(dag.name().clone(), (id, version, *dag));
            if seen.is_followed {
                make_current(connection, id, version, &file.path).await?;
                replace_schedules(connection, id, version, dag, now).await?;
            }
        }
    }
    if seen.is_followed {
        let present: Vec<String> = seen.dags.iter().map(|file| file.path.clone()).collect();
        let current: Vec<_> = versions.values().map(|(id, ..)| id.0).collect();
        drop_gone(connection, repo, &current, &present).await?;
    }
    let mut runs = Vec::new();
    let mut started = Started::default();
    let mut room = core.room();
    for name in seen.matches.iter().collect::<BTreeSet<_>>() {
        let Some((id, version, dag)) = versions.get(name) else {
            continue;
        };
        let params = param::resolve(&dag.declared().params, &BTreeMap::new()).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
            problems.join("; ")
        });
        let params = match params.and_then(|params| started.take(dag).map(|()| params)) {
            Ok(params) => params,
            Err(why) => {
                faults.extend(not_started(&good, name, &why));
                continue;
            }
        };
        let new = NewRun {
            dag: *id,
            version: *version,
            cause: cause(seen, generation),
            params,
            logical_time: None,
        };
        match start_run_in(core, connection, draft, &new, true, &mut room).await? {
            Recorded::Started(run) => runs.push(run),
            Recorded::Full(why) => faults.extend(not_started(&good, name, &why)),
            Recorded::Duplicate(_) | Recorded::Paused => {}
        }
    }
    record_faults(connection, repo, &seen.after, &seen.branch, &faults, now).await?;
    Ok(PushRecorded::Recorded {
        runs,
        faults: faults.len(),
    })
}

/// The runs that one push has started. All of them are one transaction, which must stay short.
#[derive(Debug, Default)]
struct Started {
    runs: usize,
    stages: usize,
}

impl Started {
    fn take(&mut self, dag: &Dag) -> Result<(), String> {
        let stages = self.stages + dag.stages().len();
        if self.runs == RUNS_OF_A_PUSH || stages > STAGES_OF_A_PUSH {
            return Err(format!(
                "one push starts at most {RUNS_OF_A_PUSH} runs with {STAGES_OF_A_PUSH} stages together; narrow the \
                 `paths` or `branches` of push triggers, or start this DAG with `trainyard dag trigger`"
            ));
        }
        self.runs += 1;
        self.stages = stages;
        Ok(())
    }
}

fn cause(seen: &PushSeen, generation: i64) -> Cause {
    Cause {
        kind: CauseKind::Push {
            branch: seen.branch.clone(),
            before: seen.before.clone(),
            generation,
        },
        actor: seen.actor.clone(),
        commit: seen.after.clone(),
        summary: seen.summary.clone(),
        branch: Some(seen.branch.clone()),
    }
}

/// Moves the branch's row; `None` where it is not at the commit that the push starts from.
async fn move_ref(
    connection: &mut PgConnection,
    repo: RepoId,
    seen: &PushSeen,
    now: Timestamp,
) -> Result<Option<i64>> {
    let row = sqlx::query!(
        "insert into repo_ref (repo, branch, sha, generation, moved_at)
         select $1, $2, $3, 1, $5 where $4::text is null
            or exists (select from repo_ref where repo = $1 and branch = $2)
         on conflict (repo, branch) do update
         set sha = excluded.sha,
             generation = repo_ref.generation + (repo_ref.sha is distinct from excluded.sha)::int,
             moved_at = case when repo_ref.sha is distinct from excluded.sha
                 then excluded.moved_at else repo_ref.moved_at end
         where repo_ref.sha is not distinct from $4
         returning generation",
        repo.0,
        seen.branch,
        seen.after,
        seen.before,
        now
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| row.generation))
}

/// The fault of a DAG that this push should have started.
fn not_started(good: &[(&DagAtCommit, &Dag)], name: &DagName, why: &str) -> Option<Fault> {
    let (file, _) = good.iter().find(|(_, dag)| dag.name() == name)?;
    let message = format!("a push cannot start it: {why}");
    Some((file.path.clone(), diagnostic(&file.path, &message)))
}

/// A file, and its diagnostics.
type Fault = (String, serde_json::Value);

/// A diagnostic about a whole file, in the form that the diagnostics of files are stored in.
pub(crate) fn diagnostic(path: &str, message: &str) -> serde_json::Value {
    serde_json::json!([{
        "file": path, "severity": "error", "code": "refused", "message": message,
        "line": 1, "column": 1, "end_line": 1, "end_column": 1,
    }])
}

async fn make_current(
    connection: &mut PgConnection,
    dag: DagId,
    version: DagVersionId,
    path: &str,
) -> Result<()> {
    sqlx::query!(
        // The commit may have fixed the DAG; if not, the DAG is quarantined again.
        "with released as (delete from quarantine where dag = $1)
        update dag set current_version = $2, path = $3 where id = $1",
        dag.0,
        version.0,
        path
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes DAGs off the followed branch whose file is gone or defines another DAG now.
async fn drop_gone(
    connection: &mut PgConnection,
    repo: RepoId,
    current: &[uuid::Uuid],
    present: &[String],
) -> Result<()> {
    sqlx::query!(
        "with gone as (
            update dag set current_version = null
            where repo = $1 and current_version is not null and id <> all($2)
                and (path <> all($3) or path in (select path from dag where id = any($2)))
            returning id
        )
        delete from schedule where dag in (select id from gone)",
        repo.0,
        current,
        present
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn record_faults(
    connection: &mut PgConnection,
    repo: RepoId,
    commit: &str,
    branch: &str,
    faults: &[Fault],
    now: Timestamp,
) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    let paths: Vec<&str> = faults.iter().map(|(path, _)| path.as_str()).collect();
    let diagnostics: Vec<&serde_json::Value> = faults.iter().map(|(_, faults)| faults).collect();
    sqlx::query!(
        "insert into dag_fault (repo, commit, path, branch, diagnostics, found_at)
         select distinct on (path) $1, $2, path, $3, diagnostics, $4
         from unnest($5::text[], $6::jsonb[]) with ordinality as found (path, diagnostics, position)
         order by path, position desc
         on conflict (repo, commit, path) do update
         set branch = excluded.branch, diagnostics = excluded.diagnostics, found_at = excluded.found_at
         where dag_fault.diagnostics <> excluded.diagnostics",
        repo.0,
        commit,
        branch,
        now,
        &paths as &[&str],
        &diagnostics as &[&serde_json::Value]
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "delete from dag_fault f using (
            select commit, path from dag_fault g where repo = $1
            order by commit = (
                select h.sha from repo p join repo_ref h on h.repo = p.id and h.branch = p.current_branch where p.id = $1
            ) desc nulls last, found_at desc offset $2
        ) old
        where f.repo = $1 and f.commit = old.commit and f.path = old.path",
        repo.0,
        FAULTS_OF_A_REPO
    )
    .execute(connection)
    .await?;
    Ok(())
}
