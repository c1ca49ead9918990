//! Cancelling all runs of a repo at once.

use std::collections::BTreeMap;

use trainyard_core::event::Event;
use trainyard_core::id::{DagId, RepoId, RunId};
use trainyard_core::run::CancelledBy;
use trainyard_failpoint::{Effect as _, Point};

use crate::db::error::{Result, repeated};
use crate::runs::advance::{Facts, advance_in};
use crate::store::Store;

/// How many runs are cancelled in one transaction: few enough that nobody waits long for their locks.
const TOGETHER: usize = 20;

/// Which runs to cancel, of those that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelFilter {
    pub repo: RepoId,
    pub dag: Option<DagId>,
    /// Only those older than this run.
    pub before: Option<RunId>,
    pub limit: u32,
}

/// Runs that were cancelled at once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CancelledRuns {
    /// Those that had not ended, the newest first.
    pub runs: Vec<RunId>,
    /// Whether the filter's limit was met: there may be more that are older than the last of these.
    pub more: bool,
}

impl Store {
    /// Asks for runs to be cancelled, as [`Event::CancelRequested`] does for one, and ends those that are held
    /// back in quarantine. The newest come first, so that none starts since an older one made room for it.
    ///
    /// # Errors
    /// Trouble with the database. What was cancelled before it stays so.
    pub async fn cancel_runs(&self, filter: &CancelFilter, by: &str) -> Result<CancelledRuns> {
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
        for rows in rows.chunks(TOGETHER) {
            let sound = rows.iter().filter(|row| !row.is_held_back);
            let sound: Vec<RunId> = sound.map(|row| RunId(row.id)).collect();
            let together = self.cancel_together(&sound, by).await?;
            for run in rows.iter().map(|row| RunId(row.id)) {
                let is_cancelled = match together.get(&run) {
                    Some(is_cancelled) => *is_cancelled,
                    None => self.cancel_run(run, by).await?,
                };
                if is_cancelled {
                    cancelled.runs.push(run);
                }
            }
        }
        let is_full = rows.len() >= filter.limit as usize;
        cancelled.more = is_full && !cancelled.runs.is_empty();
        Ok(cancelled)
    }

    /// Asks for a run to be cancelled, and ends one that is held back in quarantine. Returns whether it had not
    /// ended.
    ///
    /// # Errors
    /// As [`Store::advance`].
    pub async fn cancel_run(&self, run: RunId, by: &str) -> Result<bool> {
        if self.end_quarantined(run, by).await? {
            return Ok(true);
        }
        match self.advance(run, &[requested(by)]).await {
            Ok(advanced) => Ok(advanced.refused.is_empty()),
            // What this call found to be unreadable is held back since.
            Err(error) if error.fault().is_some() => match self.end_quarantined(run, by).await? {
                true => Ok(true),
                false => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// Cancels runs in one transaction. Returns for each whether it had not ended; those that trouble was met
    /// with are missing, and cancelled one by one.
    async fn cancel_together(&self, runs: &[RunId], by: &str) -> Result<BTreeMap<RunId, bool>> {
        let facts = Facts {
            events: vec![requested(by)],
            ..Facts::default()
        };
        let work: BTreeMap<RunId, Facts> = runs.iter().map(|run| (*run, facts.clone())).collect();
        let progress = repeated(|| async {
            let mut transaction = self.core.begin().await?;
            let progress = advance_in(&self.core, &mut transaction, work.clone()).await?;
            transaction.commit().at(Point::AdvanceRun).await?;
            Ok(progress)
        })
        .await;
        let progress = match progress {
            Ok(progress) => progress,
            Err(error) if error.fault().is_some() => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let known = progress.runs.iter().filter_map(|(run, advanced)| {
            let advanced = advanced.as_ref().ok()?;
            Some((*run, advanced.refused.is_empty()))
        });
        let known = known.collect();
        progress.settle(&self.core).await;
        Ok(known)
    }
}

fn requested(by: &str) -> Event {
    Event::CancelRequested {
        by: CancelledBy::Actor(by.to_owned()),
    }
}
