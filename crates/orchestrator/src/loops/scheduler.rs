//! The scheduler: turns due ticks into causes and their runs.
//!
//! Tick, run and the next tick are one transaction of the store. This loop only wakes up in time, and only on the
//! daemon that leads the schedules: all daemons would fire the same.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use trainyard_store::{Role, Store};

use crate::health::leadership::Leadership;

/// The longest time between two passes, in case every wake is lost.
const TICK: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub async fn run(store: Store, leadership: Leadership, shutdown: CancellationToken) {
    let mut wake = store.wakes().schedule.subscribe();
    loop {
        tokio::select! {
            () = leadership.leading(Role::Scheduler) => {}
            () = shutdown.cancelled() => return,
        }
        let wait = match pass(&store).await {
            Ok(wait) => wait.map_or(TICK, |wait| wait.min(TICK)),
            Err(error) => {
                error!(%error, "could not read schedules; will retry");
                Duration::from_secs(1)
            }
        };
        tokio::select! {
            () = wake.woken() => {}
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Fires due ticks. Returns how long until the next tick.
///
/// # Errors
/// The database does not answer.
pub async fn pass(store: &Store) -> Result<Option<Duration>, trainyard_store::Error> {
    let report = store.fire_due_schedules().await?;
    if report.fired > 0 || report.passed_over > 0 {
        info!(
            fired = report.fired,
            passed_over = report.passed_over,
            "schedules ticked"
        );
    }
    if report.refused > 0 {
        warn!(
            ticks = report.refused,
            "ticks were skipped because their repos have too many unfinished runs; `trainyard repo show REPO` \
             says which"
        );
    }
    Ok(report.next_in)
}
