//! Logs retries without flooding the log: the first report when an error has lasted 5 s, then one a minute, and
//! one on recovery.
//!
//! Each try reports its result here, and [`ReportPace`] decides which results are logged at a level that operators
//! see. The first retries heal most errors, so these are logged at `debug`. An error that lasts has to be seen, but
//! not at each retry: a thousand stages may wait for the same Docker engine. The span of the attempt carries the ids.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};
use trainyard_store::ReportPace;

/// An error that is over within this time is not reported.
const HICCUP: Duration = Duration::from_secs(5);

/// How long an error must stay away where one success proves little: a log that breaks off after each frame would
/// otherwise be reported as recovered and failed in turn.
pub(crate) const AWAY: Duration = Duration::from_secs(10);

/// One kind of error of one attempt.
#[derive(Debug)]
pub(crate) struct RetryLog {
    what: &'static str,
    over: &'static str,
    pace: ReportPace,
    last: Option<Instant>,
    tries: u32,
}

impl RetryLog {
    /// Without an error so far. `what` says what is wrong and that it is retried, `over` that it works again.
    pub(crate) const fn new(what: &'static str, over: &'static str) -> Self {
        Self {
            what,
            over,
            pace: ReportPace::new(HICCUP),
            last: None,
            tries: 0,
        }
    }

    /// A try failed. `since` is the start of the failure: the time of the call if an answer should have come soon,
    /// now if something failed that had worked for a while. Returns whether the failure was reported.
    pub(crate) fn met(&mut self, since: Instant, error: &dyn Display) -> bool {
        let now = Instant::now();
        self.last = Some(now);
        self.tries += 1;
        let (tries, what) = (self.tries, self.what);
        let reported = self.pace.failed_since(since.into_std(), now.into_std());
        match reported {
            Some(lasting) => warn!(%error, lasting_s = lasting.as_secs(), tries, "{what}"),
            None => debug!(%error, tries, "{what}"),
        }
        reported.is_some()
    }

    /// A try succeeded, which ends the error unless it occurred just now.
    pub(crate) fn went_well(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= AWAY) {
            self.over();
        }
    }

    /// A try succeeded, which ends the error.
    pub(crate) fn over(&mut self) {
        let tries = std::mem::take(&mut self.tries);
        self.last = None;
        if let Some(lasted) = self.pace.succeeded(Instant::now().into_std()) {
            info!(lasted_s = lasted.as_secs(), tries, "{}", self.over);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_error_once_in_a_while_is_not_reported() {
        let mut trouble = RetryLog::new("down", "up");
        for _ in 0..10 {
            assert!(!trouble.met(Instant::now(), &"cut"));
            advance(Duration::from_secs(600)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_comes_and_goes_is_reported() {
        let mut trouble = RetryLog::new("down", "up");
        let mut was_told = false;
        for _ in 0..=HICCUP.as_secs() {
            was_told |= trouble.met(Instant::now(), &"cut");
            advance(Duration::from_secs(1)).await;
            trouble.went_well();
        }
        assert!(was_told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_for_long_is_logged_at_its_first_failure() {
        let mut trouble = RetryLog::new("down", "up");
        let called = Instant::now();
        advance(Duration::from_secs(10)).await;
        assert!(trouble.met(called, &"no answer within 10 s"));
    }
}
