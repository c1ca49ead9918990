//! How many more unfinished runs a repo may have.
//!
//! Users who may push to a repo decide how many DAGs, schedules and stages it has, and so how many runs one
//! push or one tick starts. The limit is checked for each run, whatever its cause, and counted once for each
//! repo and transaction. Transactions that start runs of one repo at the same moment do not see each other's
//! runs, and may together exceed the limit.

use std::collections::HashMap;

use sqlx::PgConnection;
use trainyard_core::id::RepoId;
use trainyard_core::measure::counted;

use crate::db::error::Result;
use crate::triggers::dags::PinnedDag;

/// The most unfinished work that a repo may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfinishedLimits {
    /// Runs, including those that wait for their DAG's concurrency rule.
    pub runs: u32,
    pub stages: u32,
}

impl Default for UnfinishedLimits {
    fn default() -> Self {
        Self {
            // The most DAG files that are read of a repo: all of them may tick at one moment.
            runs: 2_000,
            stages: 100_000,
        }
    }
}

/// The unfinished work of repos, as one transaction sees it.
#[derive(Debug)]
pub(crate) struct Room {
    limits: UnfinishedLimits,
    unfinished: HashMap<RepoId, (u64, u64)>,
}

impl Room {
    pub(crate) fn new(limits: UnfinishedLimits) -> Self {
        Self {
            limits,
            unfinished: HashMap::new(),
        }
    }

    /// Why no run of a DAG can be started now; `None` where one can.
    pub(crate) async fn lacks(
        &mut self,
        connection: &mut PgConnection,
        pinned: &PinnedDag,
    ) -> Result<Option<String>> {
        let (runs, stages) = match self.unfinished.get(&pinned.repo) {
            Some(counted) => *counted,
            None => {
                let counted = count(connection, pinned.repo).await?;
                self.unfinished.insert(pinned.repo, counted);
                counted
            }
        };
        let of_it = pinned.dag.stages().len() as u64;
        let most = self.limits;
        if runs < u64::from(most.runs) && stages + of_it <= u64::from(most.stages) {
            return Ok(None);
        }
        Ok(Some(format!(
            "repo `{repo}` has {} with {}, and this run has {of_it}; a \
             repo may have {} (limits.unfinished_runs_of_a_repo) with {} \
             (limits.unfinished_stages_of_a_repo). Wait until runs end, or cancel them with `trainyard run cancel \
             --repo {repo}`",
            counted(runs, "unfinished run"),
            counted(stages, "unfinished stage"),
            counted(most.runs, "unfinished run"),
            counted(most.stages, "stage"),
            repo = pinned.repo_name,
        )))
    }

    /// Counts a run that was started.
    pub(crate) fn take(&mut self, pinned: &PinnedDag) {
        if let Some((runs, stages)) = self.unfinished.get_mut(&pinned.repo) {
            *runs += 1;
            *stages += pinned.dag.stages().len() as u64;
        }
    }
}

/// Unfinished runs of a repo and their unfinished stages: one read of the index of unfinished runs for each DAG.
async fn count(connection: &mut PgConnection, repo: RepoId) -> Result<(u64, u64)> {
    let row = sqlx::query!(
        r#"select coalesce(sum(r.runs), 0)::bigint as "runs!", coalesce(sum(r.stages), 0)::bigint as "stages!"
        from dag d cross join lateral (
            select count(*) as runs, sum(stages_total - stages_finished) as stages
            from run where dag = d.id and phase <> 'finished'
        ) r where d.repo = $1"#,
        repo.0
    )
    .fetch_one(connection)
    .await?;
    Ok((row.runs.unsigned_abs(), row.stages.unsigned_abs()))
}
