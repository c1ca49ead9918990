//! Removes the containers of attempts that ended. Each removal is a task of its own, since a Docker engine may hang
//! over just one container.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::warn;
use trainyard_core::id::AttemptId;
use trainyard_executor::{AnyExecutor, Containers, Handle, Listed, Status};
use trainyard_store::Store;

use crate::health::guarded::Guarded;

/// How many containers are removed at the same time.
const AT_ONCE: usize = 16;

/// Removes containers, and records that they are gone.
#[derive(Debug)]
pub(crate) struct Removals {
    store: Store,
    executor: Guarded<AnyExecutor>,
    /// How long a program that still runs has between SIGTERM and SIGKILL.
    grace: Duration,
    turns: Arc<Semaphore>,
    tasks: JoinSet<AttemptId>,
    under_way: HashSet<AttemptId>,
}

impl Removals {
    pub(crate) fn new(store: Store, executor: Guarded<AnyExecutor>, grace: Duration) -> Self {
        Self {
            store,
            executor,
            grace,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: JoinSet::new(),
            under_way: HashSet::new(),
        }
    }

    /// Begins to remove a container, unless its removal is in progress. A program that still runs is stopped first.
    pub(crate) fn begin(&mut self, container: Listed) {
        let Listed { handle, status, .. } = container;
        if !self.under_way.insert(handle.attempt) {
            return;
        }
        let (store, executor) = (self.store.clone(), self.executor.clone());
        let (turns, grace) = (Arc::clone(&self.turns), self.grace);
        self.tasks.spawn(async move {
            let attempt = handle.attempt;
            // The semaphore is never closed; if it were, the removal would only come sooner.
            let _turn = turns.acquire().await;
            if let Err(error) = remove(&store, &executor, &handle, &status, grace).await {
                warn!(%attempt, error, "a finished container was not removed; will retry");
            }
            attempt
        });
    }

    /// Waits for the removals in progress, for `at_most`.
    pub(crate) async fn settle(&mut self, at_most: Duration) {
        let settled = async {
            while let Some(done) = self.tasks.join_next().await {
                match done {
                    Ok(attempt) => {
                        self.under_way.remove(&attempt);
                    }
                    // It is not known which task panicked: every removal that is no longer in progress
                    // may begin again.
                    Err(_) => self.under_way.clear(),
                }
            }
        };
        // Slower removals go on.
        let _ = tokio::time::timeout(at_most, settled).await;
    }
}

async fn remove(
    store: &Store,
    executor: &Guarded<AnyExecutor>,
    handle: &Handle,
    status: &Status,
    grace: Duration,
) -> Result<(), String> {
    if matches!(status, Status::Running { .. }) {
        let stopped = executor.stop(handle, grace).await;
        stopped.map_err(|error| error.to_string())?;
    }
    let removed = executor.remove(handle).await;
    removed.map_err(|error| error.to_string())?;
    let noted = store.mark_removed(handle.attempt).await;
    noted.map_err(|error| error.to_string())
}
