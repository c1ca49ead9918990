//! A client that keeps asking a daemon for a page, and takes the time of each answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use trainyard_tests::daemon::{Daemon, http_client};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer is waited for; it counts as so long then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks in a thread of its own, from its start on.
#[derive(Debug)]
pub struct Prober {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// How long each took, the shortest first.
    pub times: Vec<Duration>,
    /// How many were no answer, or none that is good.
    pub bad: usize,
}

impl Answers {
    /// The time within which `percent` of all answers came; none without a request.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.times.len() * percent).div_ceil(100);
        self.times.get(rank.saturating_sub(1)).copied()
    }
}

impl Prober {
    /// Requests `path`, with the daemon's token.
    ///
    /// # Panics
    /// When no runtime can be made.
    #[must_use]
    pub fn start(daemon: &Daemon, path: &str) -> Self {
        let (url, token) = (format!("{}{path}", daemon.url()), daemon.token().to_owned());
        let ended = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let client = http_client();
            let mut answers = Answers::default();
            while !heard.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let asked = client.get(&url).bearer_auth(&token).timeout(PATIENCE);
                let good = runtime.block_on(async {
                    let answer = asked.send().await.ok()?;
                    let good = answer.status().is_success();
                    // The whole of it is the answer.
                    answer.bytes().await.ok().filter(|_| good)
                });
                answers.times.push(begun.elapsed());
                answers.bad += usize::from(good.is_none());
                std::thread::sleep(PAUSE);
            }
            answers.times.sort_unstable();
            answers
        });
        Self { ended, thread }
    }

    /// Stops asking.
    ///
    /// # Panics
    /// When asking did.
    #[must_use]
    pub fn stop(self) -> Answers {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_answers_one_may_take_longer() {
        let answers = Answers {
            times: (1..=100).map(Duration::from_millis).collect(),
            bad: 0,
        };
        assert_eq!(answers.percentile(99), Some(Duration::from_millis(99)));
        assert_eq!(Answers::default().percentile(99), None);
    }
}
