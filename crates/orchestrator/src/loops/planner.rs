//! The planner: judges which queued runs may start, and plans runs that are due.
//!
//! Most planning happens elsewhere: in the transaction that records an attempt's end. This loop takes
//! what nothing else brings on: new runs, requests to cancel, back-offs and timeouts that passed. Moments are
//! the database's; where its clock goes back, what waits for one is planned anew.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use trainyard_core::Timestamp;
use trainyard_store::{Error, NextWake, Store};

/// How many runs one pass takes at once.
const RUNS_AT_ONCE: u32 = 200;

/// The longest time between two looks, should every wake be lost.
const TICK: Duration = Duration::from_secs(2);

/// Runs until `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    let mut wake = store.wakes().plan.subscribe();
    let mut shown = None;
    loop {
        let wait = match pass(&store).await {
            Ok(next) => {
                heed_clock(&store, &mut shown, next.now).await;
                next.wait.map_or(TICK, |wait| wait.min(TICK))
            }
            Err(error) => {
                error!(%error, "runs could not be planned; trying again");
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

/// Has all that waits planned anew where the database's clock shows less than it did, or may: nobody knows
/// what it showed before this daemon.
async fn heed_clock(store: &Store, shown: &mut Option<Timestamp>, now: Timestamp) {
    if shown.is_none_or(|before| now < before) {
        if let Some(before) = shown {
            warn!(%before, %now, "the database's clock went back; planning again all that waits for a time");
        }
        if let Err(error) = store.look_again().await {
            error!(%error, "what waits for a moment could not be made due; trying again");
            return;
        }
    }
    *shown = Some(now);
}

/// Plans all runs that are due. Returns when the next one is.
///
/// # Errors
/// The database does not answer, or refuses a run; the others are planned. One that cannot be planned is held
/// back.
pub async fn pass(store: &Store) -> Result<NextWake, Error> {
    loop {
        let due = store.due_runs(RUNS_AT_ONCE).await?;
        let count = due.len();
        let mut trouble = None;
        for run in due {
            match store.plan(run).await {
                Ok(advanced) => debug!(%run, effects = advanced.effects.len(), "planned"),
                // The store holds it back; the others go on.
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
            return store.next_wake().await;
        }
    }
}
