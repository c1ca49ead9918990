//! How many runs of one DAG may be active: the core's verdicts, carried out.
//!
//! Under a lock on the DAG's row, so that two daemons cannot both find the last free place. Lock
//! order: dag, then its runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::event::Event;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::overlap::{Verdict, judge};
use trainyard_core::run::CancelledBy;
use trainyard_failpoint::{Effect as _, Point};

use crate::dags::pinned;
use crate::error::{Result, repeated};
use crate::runs::advance::{Facts, Progress, advance_in};
use crate::store::{Core, Store};

impl Store {
    /// Starts, skips or cancels runs of a DAG as its concurrency rule says. Does nothing where
    /// nothing is to be done.
    ///
    /// # Errors
    /// Trouble with the database, or a DAG version that cannot be read.
    pub async fn judge_overlap(&self, dag: DagId) -> Result<()> {
        judge_dag(&self.core, dag).await
    }
}

pub(crate) async fn judge_dag(core: &Arc<Core>, dag: DagId) -> Result<()> {
    let progress = repeated(|| async {
        let mut transaction = core.begin().await?;
        lock_dag(&mut transaction, dag).await?;
        let progress = judge_in(core, &mut transaction, dag).await?;
        transaction.commit().at(Point::JudgeOverlap).await?;
        Ok(progress)
    })
    .await?;
    progress.settle(core).await;
    Ok(())
}

/// Locks a DAG's row: one judge, and one firing of its schedules, at a time.
pub(crate) async fn lock_dag(connection: &mut PgConnection, dag: DagId) -> Result<()> {
    sqlx::query!("select id from dag where id = $1 for no key update", dag.0)
        .fetch_optional(connection)
        .await?;
    Ok(())
}

/// Judges within a transaction that holds the DAG's lock.
pub(crate) async fn judge_in(
    core: &Core,
    connection: &mut PgConnection,
    dag: DagId,
) -> Result<Progress> {
    let rows = sqlx::query!(
        "select id, dag_version, phase, cancel_at is not null as \"cancelling!\"
         from run where dag = $1 and phase <> 'finished' order by id",
        dag.0
    )
    .fetch_all(&mut *connection)
    .await?;
    // The rule of the newest run that waits: it is the latest word of whoever wrote the file.
    let Some(newest) = rows.iter().rev().find(|row| row.phase == "queued") else {
        return Ok(Progress::default());
    };
    let rule = pinned(core, connection, DagVersionId(newest.dag_version))
        .await?
        .dag
        .declared()
        .concurrency;
    let runs = |keep: &dyn Fn(&str, bool) -> bool| -> Vec<RunId> {
        rows.iter()
            .filter(|row| keep(&row.phase, row.cancelling))
            .map(|row| RunId(row.id))
            .collect()
    };
    let active = runs(&|phase, _| phase == "running");
    let cancelling = runs(&|phase, cancelling| phase == "running" && cancelling);
    let waiting = runs(&|phase, cancelling| phase == "queued" && !cancelling);
    let mut work: BTreeMap<RunId, Facts> = BTreeMap::new();
    for verdict in judge(rule, &active, &cancelling, &waiting) {
        let (run, event) = match verdict {
            Verdict::Start(run) => (run, Event::RunStarted),
            Verdict::Skip { run, because_of } => (run, Event::RunSkipped { because_of }),
            Verdict::Cancel { run, newer } => (
                run,
                Event::CancelRequested {
                    by: CancelledBy::Newer(newer),
                },
            ),
        };
        work.entry(run).or_default().events.push(event);
    }
    advance_in(core, connection, work).await
}
