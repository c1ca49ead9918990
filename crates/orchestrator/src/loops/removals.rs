//! Removes the containers of attempts that ended. Each removal is a task of its own, since a Docker engine may hang
//! over just one container.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::warn;
use trainyard_core::id::AttemptId;
use trainyard_executor::{Attempts, Containers as _, Handle, Listed, Status};

use crate::health::guarded::Guarded;
use crate::records::Records;
use crate::tasks;

/// How many containers are removed at the same time.
const AT_ONCE: usize = 16;

/// Removes containers, and records that they are gone.
#[derive(Debug)]
pub(crate) struct Removals<R, E> {
    records: R,
    executor: Guarded<E>,
    /// How long a program that still runs has between SIGTERM and SIGKILL.
    grace: Duration,
    turns: Arc<Semaphore>,
    tasks: JoinSet<()>,
    under_way: Arc<Mutex<HashSet<AttemptId>>>,
}

impl<R: Records, E: Attempts + Clone + 'static> Removals<R, E> {
    pub(crate) fn new(records: R, executor: Guarded<E>, grace: Duration) -> Self {
        Self {
            records,
            executor,
            grace,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: JoinSet::new(),
            under_way: Arc::default(),
        }
    }

    /// Begins to remove a container, unless its removal is in progress. A program that still runs is stopped first.
    pub(crate) fn begin(&mut self, container: Listed) {
        let Listed { handle, status, .. } = container;
        let Some(under_way) = Removing::begin(&self.under_way, handle.attempt) else {
            return;
        };
        let (records, executor) = (self.records.clone(), self.executor.clone());
        let (turns, grace) = (Arc::clone(&self.turns), self.grace);
        self.tasks.spawn(tasks::task(async move {
            let attempt = handle.attempt;
            // The semaphore is never closed; if it were, the removal would only come sooner.
            let _turn = turns.acquire().await;
            if let Err(error) = remove(&records, &executor, &handle, &status, grace).await {
                warn!(%attempt, error, "a finished container was not removed; will retry");
            }
            drop(under_way);
        }));
    }

    /// Waits for the removals in progress, for `at_most`. Slower removals go on.
    pub(crate) async fn settle(&mut self, at_most: Duration) {
        let settled = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(at_most, settled).await;
    }
}

/// A removal in progress. It may begin again once this is dropped, also by a panic.
struct Removing {
    attempt: AttemptId,
    all: Arc<Mutex<HashSet<AttemptId>>>,
}

impl Removing {
    fn begin(all: &Arc<Mutex<HashSet<AttemptId>>>, attempt: AttemptId) -> Option<Self> {
        let all = Arc::clone(all);
        let is_new = lock(&all).insert(attempt);
        is_new.then_some(Self { attempt, all })
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        lock(&self.all).remove(&self.attempt);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn remove(
    records: &impl Records,
    executor: &Guarded<impl Attempts>,
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
    let noted = records.mark_removed(handle.attempt).await;
    noted.map_err(|error| error.to_string())
}
