//! The planner: judges which queued runs may start, and plans runs that are due.
//!
//! Most planning happens elsewhere: in the transaction that records an attempt's end. This loop takes
//! what nothing else brings on: new runs, requests to cancel, back-offs and timeouts that passed. Moments are
//! the database's; where its clock goes back, what waits for one is planned anew.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use trainyard_core::Timestamp;
use trainyard_store::{Error, Store};

/// How many runs one pass takes at once.
const RUNS_AT_ONCE: u32 = 200;

/// The longest time between two looks, should every wake be lost.
const TICK: Duration = Duration::from_secs(2);

/// Runs until `shutdown`.
pub async fn run(store: Store, shutdown: CancellationToken) {
    let mut wake = store.wakes().plan.subscribe();
    let mut shown = None;
    loop {
        if let Err(error) = heed_clock(&store, &mut shown).await {
            error!(%error, "the database's clock could not be read; trying again");
        }
        let wait = match pass(&store).await {
            Ok(wait) => wait.map_or(TICK, |wait| wait.min(TICK)),
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
async fn heed_clock(store: &Store, shown: &mut Option<Timestamp>) -> Result<(), Error> {
    let now = store.now().await?;
    if shown.is_none_or(|before| now < before) {
        if let Some(before) = shown {
            warn!(%before, %now, "the database's clock went back; what waits for a moment is looked at");
        }
        store.look_again().await?;
    }
    *shown = Some(now);
    Ok(())
}

/// Plans all runs that are due. Returns how long until the next one is.
///
/// # Errors
/// The database does not answer. A run that cannot be planned is held back.
pub async fn pass(store: &Store) -> Result<Option<Duration>, Error> {
    loop {
        let due = store.due_runs(RUNS_AT_ONCE).await?;
        let count = due.len();
        for run in due {
            match store.plan(run).await {
                Ok(advanced) => debug!(%run, effects = advanced.effects.len(), "planned"),
                // The store holds it back; the others go on.
                Err(problem @ Error::Corrupt { .. }) => {
                    error!(%run, error = %problem, "a run cannot be planned");
                }
                Err(problem) => return Err(problem),
            }
        }
        if count < RUNS_AT_ONCE as usize {
            return store.next_wake().await;
        }
    }
}
