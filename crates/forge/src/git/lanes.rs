//! Queues fetches.
//!
//! One fetch at a time runs per host and port. Beyond that there are two lanes: a short one for fetches that end
//! soon, as nearly all do, and a long one. A fetch that takes longer than usual moves to the long lane, and its repo
//! starts there the next time; so slow remotes, slow on purpose or not, wait only for one another.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use trainyard_core::id::RepoId;

/// How many fetches run at one time in each lane.
const EACH: usize = 4;

/// A fetch that ends within this time stays in the short lane.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Lanes {
    short: Arc<Semaphore>,
    long: Arc<Semaphore>,
    /// An entry is removed when nothing waits for it.
    hosts: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
    slow: Mutex<HashSet<RepoId>>,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self {
            short: Arc::new(Semaphore::new(EACH)),
            long: Arc::new(Semaphore::new(EACH)),
            hosts: Mutex::default(),
            slow: Mutex::default(),
        }
    }

    /// Runs `work` when it is its turn.
    pub(super) async fn hold<T>(
        &self,
        repo: RepoId,
        host: Option<&str>,
        work: impl Future<Output = T>,
    ) -> T {
        let _host = match host {
            Some(host) => Some(self.host(host).lock_owned().await),
            None => None,
        };
        let was_slow = locked(&self.slow).contains(&repo);
        let lane = if was_slow { &self.long } else { &self.short };
        let permit = acquire(lane).await;
        let begun = Instant::now();
        let mut work = pin!(work);
        if !was_slow {
            if let Ok(done) = tokio::time::timeout(SOON, work.as_mut()).await {
                return done;
            }
            locked(&self.slow).insert(repo);
            tokio::select! {
                done = work.as_mut() => return done,
                // Held until the end; its place in the short lane is free from now on.
                _long = acquire(&self.long) => {
                    drop(permit);
                    return work.await;
                }
            }
        }
        let done = work.await;
        if begun.elapsed() < SOON {
            self.forget(repo);
        }
        done
    }

    /// Forgets that a repo was slow.
    pub(super) fn forget(&self, repo: RepoId) {
        locked(&self.slow).remove(&repo);
    }

    fn host(&self, host: &str) -> Arc<AsyncMutex<()>> {
        let mut hosts = locked(&self.hosts);
        hosts.retain(|_, host| Arc::strong_count(host) > 1);
        Arc::clone(hosts.entry(host.to_owned()).or_default())
    }
}

/// A place in a lane; lanes are never closed.
async fn acquire(lane: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(lane).acquire_owned().await.ok()
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use uuid::Uuid;

    use super::*;

    fn repo(n: usize) -> RepoId {
        RepoId(Uuid::from_u128(n as u128))
    }

    fn hang(lanes: &Arc<Lanes>, n: usize, host: Option<String>) -> tokio::task::JoinHandle<()> {
        let lanes = Arc::clone(lanes);
        tokio::spawn(async move { lanes.hold(repo(n), host.as_deref(), pending()).await })
    }

    #[tokio::test(start_paused = true)]
    async fn remotes_that_never_end_leave_the_others_their_turn_within_moments() {
        let lanes = Arc::new(Lanes::new());
        let hung: Vec<_> = (0..EACH)
            .map(|n| hang(&lanes, n, Some(format!("slow-{n}"))))
            .collect();
        tokio::task::yield_now().await;
        let begun = Instant::now();
        lanes.hold(repo(99), Some("good"), async {}).await;
        assert!(begun.elapsed() <= SOON + Duration::from_secs(1));
        let begun = Instant::now();
        lanes.hold(repo(99), Some("good"), async {}).await;
        assert_eq!(
            begun.elapsed(),
            Duration::ZERO,
            "the lane is free from then on"
        );
        hung.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_slow_does_not_begin_before_the_others_again() {
        let lanes = Arc::new(Lanes::new());
        for n in 0..EACH {
            lanes
                .hold(repo(n), None, tokio::time::sleep(SOON * 2))
                .await;
        }
        for n in 0..EACH {
            hang(&lanes, n, None);
        }
        tokio::task::yield_now().await;
        let begun = Instant::now();
        lanes.hold(repo(99), None, async {}).await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn one_host_is_asked_once_at_a_time() {
        let lanes = Arc::new(Lanes::new());
        hang(&lanes, 1, Some("slow".to_owned()));
        tokio::task::yield_now().await;
        let waits = lanes.hold(repo(2), Some("slow"), async {});
        assert!(tokio::time::timeout(SOON * 9, waits).await.is_err());
        lanes.hold(repo(3), Some("other"), async {}).await;
    }
}
