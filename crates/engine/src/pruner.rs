//! The pruner: retention. Removes what is old by the configured rule, in small batches.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use trainyard_store::{Blobs, Retention, Store};

use crate::sources::Sources;

/// The time between two passes.
const TICK: Duration = Duration::from_secs(3600);

/// The first pass waits for the start of the daemon to be over.
const FIRST: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub async fn run(
    store: Store,
    blobs: Blobs,
    sources: Sources,
    rule: Retention,
    shutdown: CancellationToken,
) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
        wait = TICK;
        match store.prune(&rule, false).await {
            Ok(report) if report.is_empty() => {}
            Ok(report) => info!(?report, "old runs, logs and deliveries were removed"),
            Err(problem) => {
                error!(error = %problem, "old data could not be removed; trying again later")
            }
        }
        match store.sweep_blobs(&blobs, false).await {
            Ok(swept) if swept.files == 0 => {}
            Ok(swept) => info!(
                files = swept.files,
                bytes = swept.bytes,
                "unused artifacts were removed"
            ),
            Err(problem) => error!(error = %problem, "unused artifacts could not be removed"),
        }
        match sources.prune().await {
            Ok((0, _)) => {}
            Ok((files, bytes)) => info!(files, bytes, "source archives were removed"),
            Err(problem) => error!(error = %problem, "source archives could not be removed"),
        }
    }
}
