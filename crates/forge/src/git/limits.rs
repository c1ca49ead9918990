//! Limits what a remote may cost, and stops a running fetch that exceeds them.

use std::pin::pin;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{CancelFlag, Error, RemoteUrl};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// How often the watch checks whether the fetch may go on.
const LOOK: Duration = Duration::from_millis(200);

/// The period over which the least rate is measured: a moment without data is harmless.
const RATE_OVER: Duration = Duration::from_secs(60);

/// The limits of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchLimits {
    /// How long it may take from end to end. A silent server is abandoned much sooner.
    pub time: Duration,
    /// How many bytes the remote may send.
    pub bytes: usize,
    /// How many branches and tags the remote may have.
    pub refs: usize,
    /// How many bytes a second the remote has to send at least, over each minute that it is waited for.
    pub slowest: u64,
}

impl Default for FetchLimits {
    /// Half an hour, 4 GiB, 50,000 branches and tags, 1 KiB a second: room for the first fetch of a large repo.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(30 * 60),
            bytes: 4 << 30,
            refs: 50_000,
            slowest: 1 << 10,
        }
    }
}

/// Why the watch stopped a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    TooLong,
    TooLarge,
    TooSlow,
}

/// The bytes that came in while the fetch waited for the remote.
#[derive(Debug, Default)]
struct Rate {
    waited: Duration,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Watch {
    limits: FetchLimits,
    deadline: Instant,
    cancel: CancelFlag,
    rate: Mutex<Rate>,
    stop: OnceLock<Stop>,
}

impl Watch {
    pub(super) fn start(limits: FetchLimits, cancel: CancelFlag) -> Self {
        let deadline = Instant::now() + limits.time;
        Self {
            limits,
            deadline,
            cancel,
            rate: Mutex::default(),
            stop: OnceLock::new(),
        }
    }

    /// Whether to go on after `received` bytes.
    pub(super) fn goes_on(&self, received: usize) -> bool {
        let stop = if self.cancel.is_cancelled() {
            Stop::Cancelled
        } else if Instant::now() >= self.deadline {
            Stop::TooLong
        } else if received > self.limits.bytes {
            Stop::TooLarge
        } else {
            return self.stop().is_none();
        };
        let _ = self.stop.set(stop);
        false
    }

    /// Records a wait for the remote, and the bytes that it sent meanwhile.
    pub(super) fn waited(&self, time: Duration, bytes: u64) {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.waited += time;
        rate.bytes += bytes;
        if rate.waited >= RATE_OVER {
            if rate.bytes < self.limits.slowest.saturating_mul(RATE_OVER.as_secs()) {
                let _ = self.stop.set(Stop::TooSlow);
            }
            *rate = Rate::default();
        }
    }

    /// Waits for the remote while the fetch may go on.
    pub(super) fn held<T>(
        &self,
        runtime: &tokio::runtime::Runtime,
        url: &RemoteUrl,
        received: impl Fn() -> usize,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        runtime.block_on(async {
            let mut work = pin!(work);
            let begun = Instant::now();
            loop {
                let since = Instant::now();
                let done = tokio::time::timeout(LOOK, work.as_mut()).await;
                self.waited(since.elapsed(), 0);
                if let Ok(done) = done {
                    return Ok(done);
                }
                if !self.goes_on(received()) {
                    return Err(Error::of_watch(url, self).unwrap_or(Error::Cancelled));
                }
                if begun.elapsed() >= SILENCE {
                    return Err(Error::TimedOut {
                        url: url.to_string(),
                        why: format!("it was silent for {} s", SILENCE.as_secs()),
                    });
                }
            }
        })
    }

    /// Why the fetch may not go on.
    pub(super) fn stop(&self) -> Option<Stop> {
        self.stop.get().copied()
    }

    pub(super) fn limits(&self) -> FetchLimits {
        self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> Watch {
        Watch::start(FetchLimits::default(), CancelFlag::default())
    }

    #[test]
    fn a_remote_that_trickles_is_abandoned_after_a_minute() {
        let watch = watch();
        for _ in 0..11 {
            watch.waited(Duration::from_secs(5), 1);
            assert!(watch.goes_on(0));
        }
        watch.waited(Duration::from_secs(5), 1);
        assert!(!watch.goes_on(0));
        assert_eq!(watch.stop(), Some(Stop::TooSlow));
    }

    #[test]
    fn a_burst_does_not_pay_for_the_minutes_after_it() {
        let watch = watch();
        watch.waited(Duration::from_secs(60), 100 << 20);
        assert!(watch.goes_on(0));
        watch.waited(Duration::from_secs(60), 59 << 10);
        assert!(!watch.goes_on(0));
    }

    #[test]
    fn a_slow_line_that_sends_enough_goes_on() {
        let watch = watch();
        for _ in 0..10 {
            watch.waited(Duration::from_secs(60), 60 << 10);
        }
        assert!(watch.goes_on(0));
    }
}
