//! The planner: judges which queued runs may start, and plans runs that are due.
//!
//! Most planning happens elsewhere: in the transaction that records an attempt's end. This loop handles everything
//! that no other transaction plans: new runs, cancel requests, back-offs and timeouts that passed. Times are the
//! database's; if its clock goes back, everything that waits for a time is planned again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use trainyard_core::Timestamp;
use trainyard_store::{Error, NextWake};

use crate::records::Records;

/// How many runs one pass plans at once.
const RUNS_AT_ONCE: u32 = 200;

/// The longest time between two passes, in case every wake is lost.
const TICK: Duration = Duration::from_secs(2);

/// Runs until `shutdown`.
pub async fn run(records: impl Records, shutdown: CancellationToken) {
    let mut wake = records.wakes().plan.subscribe();
    let mut shown = None;
    let mut left = 0;
    loop {
        let wait = match pass(&records).await {
            Ok(next) => {
                report_left(&mut left, next.left);
                heed_clock(&records, &mut shown, next.now).await;
                next.wait.map_or(TICK, |wait| wait.min(TICK))
            }
            Err(error) => {
                error!(%error, "runs could not be planned; will retry");
                TICK
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = wake.woken() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Reports when there begin to be runs of a later format than this daemon reads, and when none are left.
fn report_left(before: &mut u64, now: u64) {
    match (*before, now) {
        (0, 1..) => warn!(
            runs = now,
            "a newer Trainyard wrote unfinished runs in a format that this daemon does not read; it leaves them to newer \
             daemons: upgrade this one"
        ),
        (1.., 0) => info!("no unfinished run is left of a format that this daemon does not read"),
        _ => {}
    }
    *before = now;
}

/// Plans everything that waits again if the database's clock shows less than before, or may: its value before this
/// daemon's start is not known.
async fn heed_clock(records: &impl Records, shown: &mut Option<Timestamp>, now: Timestamp) {
    if shown.is_none_or(|before| now < before) {
        if let Some(before) = shown {
            warn!(%before, %now, "the database's clock went back; planning again all runs that wait for a time");
        }
        if let Err(error) = records.look_again().await {
            error!(%error, "runs that wait for a time could not be planned again; will retry");
            return;
        }
    }
    *shown = Some(now);
}

/// Plans all runs that are due. Returns when the next one is.
///
/// # Errors
/// The database does not answer, or refuses a run; the others are planned. A run that cannot be
/// planned is quarantined.
pub async fn pass(records: &impl Records) -> Result<NextWake, Error> {
    loop {
        let due = records.due_runs(RUNS_AT_ONCE).await?;
        let count = due.len();
        let mut trouble = None;
        for run in due {
            match records.plan(run).await {
                Ok(advanced) => debug!(%run, effects = advanced.effects.len(), "planned"),
                // The store quarantines the run; the others go on.
                Err(problem @ Error::Corrupt { .. }) => {
                    error!(%run, error = %problem, "a run cannot be planned");
                }
                Err(problem) if problem.is_transient() => return Err(problem),
                Err(problem) => trouble = trouble.or(Some(problem)),
            }
        }
        if let Some(problem) = trouble {
            return Err(problem);
        }
        if count < RUNS_AT_ONCE as usize {
            return records.next_wake().await;
        }
    }
}
