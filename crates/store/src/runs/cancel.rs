//! Cancelling all runs of a repo at once.

use std::collections::BTreeMap;

use trainyard_core::event::Event;
use trainyard_core::id::{DagId, RepoId, RunId};
use trainyard_core::principal::Act;
use trainyard_core::run::CancelledBy;
use trainyard_failpoint::Point;

use crate::db::error::{Error, Result, repeated};
use crate::runs::advance::{Input, advance_in};
use crate::runs::draft::Draft;
use crate::store::Store;

/// How many runs are cancelled in one transaction: few enough that other
/// transactions do not wait long for their locks.
const TOGETHER: usize = 20;

/// Which unfinished runs to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelFilter {
    pub repo: RepoId,
    pub dag: Option<DagId>,
    /// Only runs older than this one.
    pub before: Option<RunId>,
    pub limit: u32,
}

/// The runs that a call cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CancelledRuns {
    /// Runs that had not ended, the newest first.
    pub runs: Vec<RunId>,
    /// Whether the filter's limit was reached: there may be more runs that are older than the last of these.
    pub more: bool,
}

impl Store {
    /// Requests cancellation of runs, as [`Event::CancelRequested`] does for one, and ends those in quarantine. The
    /// newest come first, so that no run starts because an older one made room for it.
    ///
    /// # Errors
    /// A database error. Runs that were cancelled before it stay cancelled.
    /// `LaterFormat` where only such runs are left.
    pub async fn cancel_runs(&self, act: &Act, filter: &CancelFilter) -> Result<CancelledRuns> {
        let rows = sqlx::query!(
            r#"select r.id,
                exists (select from quarantine q where q.run = r.id and q.held_at is not null) as "is_held_back!"
            from run r join dag d on d.id = r.dag
            where d.repo = $1 and ($2::uuid is null or d.id = $2) and r.phase <> 'finished' and r.id < $3
            order by r.id desc limit $4"#,
            filter.repo.0,
            filter.dag.map(|dag| dag.0),
            filter.before.map_or(i64::MAX, |run| run.0),
            i64::from(filter.limit)
        )
        .fetch_all(&self.core.pool)
        .await?;
        let mut cancelled = CancelledRuns::default();
        let mut later = None;
        for rows in rows.chunks(TOGETHER) {
            let sound = rows.iter().filter(|row| !row.is_held_back);
            let sound: Vec<RunId> = sound.map(|row| RunId(row.id)).collect();
            let together = self.cancel_together(act, &sound).await?;
            for run in rows.iter().map(|row| RunId(row.id)) {
                let is_cancelled = match together.get(&run) {
                    Some(is_cancelled) => *is_cancelled,
                    None => match self.cancel_run(act, run).await {
                        Err(error @ Error::LaterFormat { .. }) => {
                            later = Some(error);
                            false
                        }
                        is_cancelled => is_cancelled?,
                    },
                };
                if is_cancelled {
                    cancelled.runs.push(run);
                }
            }
        }
        let is_full = rows.len() >= filter.limit as usize;
        cancelled.more = is_full && !cancelled.runs.is_empty();
        match later {
            Some(error) if cancelled.runs.is_empty() => Err(error),
            Some(_) | None => Ok(cancelled),
        }
    }

    /// Requests cancellation of a run, or ends it if it is in quarantine. Returns whether it had not ended.
    ///
    /// # Errors
    /// As [`Store::advance`].
    pub async fn cancel_run(&self, act: &Act, run: RunId) -> Result<bool> {
        if self.end_quarantined(act, run).await? {
            return Ok(true);
        }
        match self.advance_by(run, &requested(act)).await {
            Ok(advanced) => Ok(advanced.refused.is_empty()),
            // A run that this call found unreadable has been quarantined by it.
            Err(error) if error.fault().is_some() => match self.end_quarantined(act, run).await? {
                true => Ok(true),
                false => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Cancels runs in one transaction. Returns for each whether it had not ended. Runs that caused an error are
    /// missing, and are cancelled one by one.
    async fn cancel_together(&self, act: &Act, runs: &[RunId]) -> Result<BTreeMap<RunId, bool>> {
        let input = requested(act);
        let work: BTreeMap<RunId, Input> = runs.iter().map(|run| (*run, input.clone())).collect();
        let committed = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let mut draft = Draft::default();
            advance_in(&self.core, &mut transaction, &mut draft, work.clone()).await?;
            draft.commit(transaction, Point::AdvanceRun).await
        })
        .await;
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) if error.fault().is_some() => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        committed.settle(&self.core).await;
        let known = committed.answers.iter().filter_map(|(run, advanced)| {
            let advanced = advanced.as_ref().ok()?;
            Some((*run, advanced.refused.is_empty()))
        });
        Ok(known.collect())
    }
}

fn requested(act: &Act) -> Input {
    Input {
        events: vec![Event::CancelRequested {
            by: CancelledBy::Actor(act.by.name.clone()),
        }],
        act: Some(act.clone()),
        ..Input::default()
    }
}
