//! Logs retries without flooding the log: the first report when the trouble has lasted 5 s, then one a minute, and one
//! when it is over.
//!
//! Each try says here how it went, and [`ReportPace`] decides what is reported. The first tries heal most errors, so they
//! are logged at `debug`. An error that lasts has to be seen, but not at each try: a thousand stages may wait for the same
//! Docker engine. The span of the attempt carries the ids.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};
use trainyard_store::ReportPace;

/// What is over within this time was a hiccup.
const HICCUP: Duration = Duration::from_secs(5);

/// How long trouble has to stay away where what goes well once proves little: a log that breaks off after each
/// frame would be told as well and in trouble in turn.
pub(crate) const AWAY: Duration = Duration::from_secs(10);

/// One kind of trouble of one attempt.
#[derive(Debug)]
pub(crate) struct RetryLog {
    what: &'static str,
    over: &'static str,
    pace: ReportPace,
    last: Option<Instant>,
    tries: u32,
}

impl RetryLog {
    /// None yet. `what` says what is wrong and that it is tried again, `over` that it is well again.
    pub(crate) const fn new(what: &'static str, over: &'static str) -> Self {
        Self {
            what,
            over,
            pace: ReportPace::new(HICCUP),
            last: None,
            tries: 0,
        }
    }

    /// A try failed. `since` is from when on it went wrong: when a call was made that should be answered soon, the
    /// present moment where something failed that had gone well for a while. Returns whether people were told.
    pub(crate) fn met(&mut self, since: Instant, error: &dyn Display) -> bool {
        let now = Instant::now();
        self.last = Some(now);
        self.tries += 1;
        let (tries, what) = (self.tries, self.what);
        let told = self.pace.failed_since(since.into_std(), now.into_std());
        match told {
            Some(lasting) => warn!(%error, lasting_s = lasting.as_secs(), tries, "{what}"),
            None => debug!(%error, tries, "{what}"),
        }
        told.is_some()
    }

    /// A try went well, which ends the trouble unless it was met just now.
    pub(crate) fn went_well(&mut self) {
        if self.last.is_some_and(|last| last.elapsed() >= AWAY) {
            self.over();
        }
    }

    /// It went well, which ends the trouble.
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
    async fn what_fails_once_in_a_while_is_not_told() {
        let mut trouble = RetryLog::new("down", "up");
        for _ in 0..10 {
            assert!(!trouble.met(Instant::now(), &"cut"));
            advance(Duration::from_secs(600)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_well_and_fails_again_in_turn_is_told() {
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
    async fn a_call_that_is_not_answered_for_long_is_told_at_its_first_failure() {
        let mut trouble = RetryLog::new("down", "up");
        let called = Instant::now();
        advance(Duration::from_secs(10)).await;
        assert!(trouble.met(called, &"no answer within 10 s"));
    }
}
