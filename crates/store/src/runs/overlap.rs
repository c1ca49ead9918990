//! How many runs of one DAG, or of one group of its runs, may be active: carries out the core's decisions.
//!
//! This happens under a lock on the DAG's row, so that two daemons cannot both find the last
//! free place. Lock order: DAG, then its runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::id::{DagId, DagVersionId, RunId};
use trainyard_core::overlap::judge;
use trainyard_failpoint::Point;

use crate::db::encoding;
use crate::db::error::{Result, repeated};
use crate::runs::advance::{Input, advance_in};
use crate::runs::draft::Draft;
use crate::store::{Core, Store};
use crate::triggers::dags::pinned;

impl Store {
    /// Starts, skips or cancels runs of a DAG as its concurrency rule requires.
    ///
    /// # Errors
    /// A database error, or a DAG version that cannot be read.
    pub async fn judge_overlap(&self, dag: DagId) -> Result<()> {
        judge_dag(&self.core, dag).await
    }
}

pub(crate) async fn judge_dag(core: &Arc<Core>, dag: DagId) -> Result<()> {
    let committed = repeated(|| async {
        let mut transaction = core.begin().await?;
        let mut draft = Draft::default();
        lock_dag(&mut transaction, dag).await?;
        judge_in(core, &mut transaction, &mut draft, dag).await?;
        draft.commit(transaction, Point::JudgeOverlap).await
    })
    .await?;
    committed.settle(core).await;
    Ok(())
}

/// Locks a DAG's row: only one transaction at a time applies its concurrency rule or fires its schedules.
pub(crate) async fn lock_dag(connection: &mut PgConnection, dag: DagId) -> Result<()> {
    sqlx::query!("select id from dag where id = $1 for no key update", dag.0)
        .fetch_optional(connection)
        .await?;
    Ok(())
}

/// A run that has not ended.
struct Unfinished {
    id: RunId,
    version: DagVersionId,
    format: i32,
    waits: bool,
    is_cancelling: bool,
}

/// Applies the rule within a transaction that holds the DAG's lock.
pub(crate) async fn judge_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    dag: DagId,
) -> Result<()> {
    let rows = sqlx::query!(
        "select id, dag_version, format, phase, cancel_at is not null as \"cancelling!\", concurrency_group
         from run where dag = $1 and phase <> 'finished' order by id",
        dag.0
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut groups: BTreeMap<Option<String>, Vec<Unfinished>> = BTreeMap::new();
    for row in rows {
        let run = Unfinished {
            id: RunId(row.id),
            version: DagVersionId(row.dag_version),
            format: row.format,
            waits: row.phase == "queued",
            is_cancelling: row.cancelling,
        };
        groups.entry(row.concurrency_group).or_default().push(run);
    }
    let mut work: BTreeMap<RunId, Input> = BTreeMap::new();
    for runs in groups.values() {
        // The rule of the newest waiting run applies: it is the latest that the authors of the file wrote.
        let Some(newest) = runs.iter().rev().find(|run| run.waits) else {
            continue;
        };
        // A newer daemon applies it, within the minute after which a run that waits is planned again.
        if newest.format > encoding::latest_format() {
            continue;
        }
        let pinned = pinned(core, connection, newest.version).await?;
        let rule = &pinned.dag.declared().concurrency;
        let those = |keep: fn(&&Unfinished) -> bool| -> Vec<RunId> {
            runs.iter().filter(keep).map(|run| run.id).collect()
        };
        let active = those(|run| !run.waits);
        let cancelling = those(|run| !run.waits && run.is_cancelling);
        let waiting = those(|run| run.waits && !run.is_cancelling);
        for verdict in judge(rule, &active, &cancelling, &waiting) {
            let (run, event) = verdict.event();
            work.entry(run).or_default().events.push(event);
        }
    }
    advance_in(core, connection, draft, work).await
}
