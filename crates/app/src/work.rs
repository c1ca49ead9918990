//! Work of requests that takes processor time: few at a time, on threads of its own, bounded in time, and ended when
//! the client leaves.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The threads for one kind of work.
#[derive(Debug)]
pub(crate) struct Desk {
    seats: Semaphore,
    at_most: Duration,
}

/// When a piece of work has to end.
#[derive(Debug, Clone)]
pub(crate) struct Until {
    end: Instant,
    is_left: CancellationToken,
}

impl Until {
    /// Its time has passed, or its client has gone: the work should end with what it has.
    pub(crate) fn is_over(&self) -> bool {
        self.is_left.is_cancelled() || Instant::now() >= self.end
    }
}

impl Desk {
    /// `seats` pieces of work at a time; each waits for a seat, and then works, for at most this time.
    pub(crate) const fn new(seats: usize, at_most: Duration) -> Self {
        Self {
            seats: Semaphore::const_new(seats),
            at_most,
        }
    }

    /// Does the work, which asks [`Until`] from time to time. `None`: no seat came free in time, or the work did not
    /// end soon after it was over, or it panicked.
    pub(crate) async fn work<T: Send + 'static>(
        &'static self,
        work: impl FnOnce(&Until) -> T + Send + 'static,
    ) -> Option<T> {
        // The thread keeps its seat to its end, also after the request has timed out.
        let seat = tokio::time::timeout(self.at_most, self.seats.acquire());
        let seat = seat.await.ok()?.ok()?;
        let until = Until {
            end: Instant::now() + self.at_most,
            is_left: CancellationToken::new(),
        };
        let _left = until.is_left.clone().drop_guard();
        let working = tokio::task::spawn_blocking(move || {
            let _seat = seat;
            work(&until)
        });
        let working = tokio::time::timeout(self.at_most * 2, working);
        working.await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_ends_when_its_time_has_passed_and_when_its_client_leaves() {
        static SHORT: Desk = Desk::new(1, Duration::from_millis(20));
        static LONG: Desk = Desk::new(1, Duration::from_secs(600));
        let spin = |until: &Until| {
            while !until.is_over() {
                std::hint::spin_loop();
            }
        };
        assert_eq!(SHORT.work(spin).await, Some(()));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let client = tokio::spawn(LONG.work(move |until| {
            begun.send(()).unwrap();
            spin(until);
        }));
        has_begun.await.unwrap();
        client.abort();
        // The seat comes free: the thread has ended.
        assert_eq!(LONG.work(|_| 7).await, Some(7));
    }
}
