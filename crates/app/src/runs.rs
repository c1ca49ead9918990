//! Runs: list, show, cancel and abandon them; and their metrics.

use std::time::Duration;

use chrono::DateTime;
use trainyard_api::{
    CancelRuns, Listing, Metric, MetricSelection, Run, RunDetail, RunSelection, RunsCancelled,
};
use trainyard_core::id::RunId;
use trainyard_core::outcome::RunState;
use trainyard_core::principal::Act;
use trainyard_core::transition::TOLD_WITHIN;
use trainyard_store::{Abandoned, CancelFilter, GivingUp, MetricFilter, RunFilter};

use crate::{App, AppError, Result};
use crate::{names, quarantine};

/// The most runs in one answer.
const RUNS_AT_MOST: u32 = 1_000;

/// The most runs that one request cancels: these take a second or two.
const CANCELLED_AT_MOST: u32 = 500;

/// How long a live daemon takes at most to renew its lease once the database answers: twice the usual time.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

impl App {
    pub async fn list_runs(&self, selection: RunSelection) -> Result<Listing<Run>> {
        let dag = match &selection.dag {
            Some(dag) => Some(names::dag(self, dag).await?),
            None => None,
        };
        let repo = match &selection.repo {
            Some(repo) => Some(names::repo(self, repo).await?),
            None => None,
        };
        let states = selection.states.iter().map(|word| {
            RunState::from_word(word).ok_or_else(|| {
                let states = RunState::ALL.map(RunState::as_str).join(", ");
                AppError::invalid(format!("`{word}` is not a state of runs"))
                    .help(format!("the states are {states}"))
            })
        });
        let states = states.collect::<Result<Vec<RunState>>>()?;
        let limit = selection.limit.unwrap_or(50).clamp(1, RUNS_AT_MOST);
        let filter = RunFilter {
            dag,
            repo,
            branch: selection.branch,
            // Hashes are recorded in lower case.
            commit: selection.commit.map(|hash| hash.to_ascii_lowercase()),
            states,
            // Postgres knows no moments before some thousand years ago.
            since: selection.since.map(|at| at.max(DateTime::UNIX_EPOCH)),
            before: selection.before.map(RunId),
            limit: limit + 1,
        };
        let mut runs = self.store().list_runs(&filter).await?;
        let more = runs.len() > limit as usize;
        runs.truncate(limit as usize);
        Ok(Listing { items: runs, more })
    }

    pub async fn run(&self, run: i64) -> Result<RunDetail> {
        let id = RunId(run);
        let capacity = &self.settings().capacity;
        let mut shown = match self.store().run_detail(id, capacity).await {
            Ok(detail) => detail,
            Err(error) => return Err(quarantine::explain(self, id, error).await),
        };
        let held = self.store().quarantine_of(id).await?;
        if let Some(held) = held {
            for stage in &mut shown.stages {
                if stage.finished_at.is_none() {
                    stage.why = quarantine::in_words(&held);
                }
            }
        }
        Ok(shown)
    }

    pub async fn cancel_run(&self, act: &Act, run: i64) -> Result<Run> {
        let id = RunId(run);
        let cancelled = self.store().cancel_run(act, id).await;
        let summary = self.store().run_summary(id).await?;
        let is_cancelled = match cancelled {
            Ok(is_cancelled) => is_cancelled,
            // An unreadable run that was abandoned has ended nevertheless.
            Err(_) if summary.finished_at.is_some() => false,
            Err(error) => return Err(quarantine::explain(self, id, error).await),
        };
        if !is_cancelled {
            return Err(has_ended(&summary));
        }
        Ok(summary)
    }

    /// Cancels the newest runs of a repo that have not ended; `more` reports whether others are left.
    pub async fn cancel_runs(
        &self,
        act: &Act,
        repo: &str,
        asked: CancelRuns,
    ) -> Result<RunsCancelled> {
        let store = self.store();
        let filter = CancelFilter {
            repo: names::repo(self, repo).await?,
            dag: match &asked.dag {
                Some(dag) => Some(names::dag(self, &format!("{repo}/{dag}")).await?),
                None => None,
            },
            before: asked.before.map(RunId),
            limit: CANCELLED_AT_MOST,
        };
        let cancelled = store.cancel_runs(act, &filter).await?;
        Ok(RunsCancelled {
            runs: cancelled.runs.into_iter().map(|run| run.0).collect(),
            more: cancelled.more,
        })
    }

    pub async fn abandon_run(&self, act: &Act, run: i64) -> Result<Run> {
        let id = RunId(run);
        let before = self.store().run_summary(id).await?;
        if before.finished_at.is_some() {
            return Err(has_ended(&before));
        }
        let gone = self.store().seen_gone(id).await?;
        if !gone.is_empty() {
            tokio::time::sleep(RENEWED_WITHIN).await;
        }
        let giving_up = GivingUp {
            by: act.clone(),
            patience: self.settings().grace + TOLD_WITHIN,
            gone,
        };
        let abandoned = match self.store().abandon(id, giving_up).await {
            Ok(abandoned) => abandoned,
            Err(error) => return Err(quarantine::explain(self, id, error).await),
        };
        if !abandoned.any {
            return Err(nothing_abandoned(run, &abandoned));
        }
        Ok(self.store().run_summary(id).await?)
    }

    pub async fn list_metrics(&self, selection: MetricSelection) -> Result<Listing<Metric>> {
        let dag = match &selection.dag {
            Some(dag) => Some(names::dag(self, dag).await?),
            None => None,
        };
        if let Some(run) = selection.run {
            // An unknown run is an error, not an empty list.
            self.store().run_summary(RunId(run)).await?;
        }
        let filter = MetricFilter {
            run: selection.run.map(RunId),
            dag,
            stage: selection.stage,
            name: selection.name,
            limit: selection.limit.unwrap_or(200).clamp(1, 10_000),
        };
        Ok(Listing::whole(self.store().list_metrics(&filter).await?))
    }
}

fn nothing_abandoned(run: i64, abandoned: &Abandoned) -> AppError {
    if abandoned.refused.is_empty() {
        let message = format!("run {run} has no stage that is being prepared or is running");
        return AppError::conflict(message);
    }
    let refused = abandoned.refused.iter().map(ToString::to_string);
    let refused = refused.collect::<Vec<_>>().join("; ");
    AppError::conflict(format!("nothing of run {run} can be abandoned: {refused}")).help(format!(
        "`trainyard run cancel {run}` asks stages to stop; called again, it stops those with `run_on: [always]` as \
         well. A stage that is still running one minute after its grace period can be abandoned"
    ))
}

fn has_ended(run: &Run) -> AppError {
    AppError::conflict(format!("run {} has ended already: {}", run.id, run.state))
}
