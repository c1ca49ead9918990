//! Waiting trouble of Docker out, and telling absence from silence.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_executor::{Error, ErrorKind, Executor, Handle, Status};

use super::endings::{ended, ending_of};
use super::stop_signal::asked;
use super::{Attempt, WAIT_AT_FIRST, WAIT_AT_MOST};
use crate::attempt::ledger::Ledger;
use crate::health::retry_log::RetryLog;

/// How long trouble of Docker is waited out before an attempt whose program was not started gives
/// up.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long the making of a container may go on once its attempt is to stop.
pub(super) const MADE: Duration = Duration::from_secs(5);

/// How long a Docker engine that answers others may not tell of a container that has ended, before that counts as all
/// that there is to learn. What comes from a container keeps no attempt from ending.
const ENDED: Duration = Duration::from_secs(5 * 60);

/// How long an absence must last, over at least two looks, before a container counts as gone.
const ABSENCE: Duration = Duration::from_secs(2);

/// Waiting for what a Docker engine has to tell of a container that has ended. Where Docker does not answer at
/// all, that proves nothing about the container, and is waited out.
#[derive(Debug, Default)]
pub(super) struct AfterEnd {
    silent_since: Option<Instant>,
}

impl AfterEnd {
    /// A call about the container failed; whether it is no use to ask again.
    pub(super) async fn is_over(&mut self, executor: &impl Executor, error: &Error) -> bool {
        let answers = error.kind != ErrorKind::Unreachable || executor.ping().await.is_ok();
        if !answers {
            self.silent_since = None;
            return false;
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        since.elapsed() >= ENDED
    }
}

impl<E: Executor, L: Ledger> Attempt<'_, E, L> {
    /// Calls until it succeeds, trouble that may pass is over, or a stop is asked for.
    pub(super) async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, AttemptEnd>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.patiently_ending(Duration::ZERO, call).await
    }

    /// As [`Self::patiently`]; where a stop is asked for, a call that goes on has `finish` to end: what it makes
    /// would be left behind.
    pub(super) async fn patiently_ending<T, F>(
        &self,
        finish: Duration,
        call: impl Fn() -> F,
    ) -> Result<T, AttemptEnd>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let give_up = Instant::now() + PATIENCE;
        let mut stop = self.signal.stop.subscribe();
        let mut wait = WAIT_AT_FIRST;
        let mut trouble = RetryLog::new("Docker failed; trying again", "Docker works again");
        loop {
            if self.stop_requested() {
                return Err(ended(Ending::Withdrawn));
            }
            let called = Instant::now();
            let mut calling = Box::pin(call());
            let result = tokio::select! {
                biased;
                () = asked(&mut stop) => {
                    let last = tokio::time::timeout(finish, calling).await;
                    return last.ok().and_then(Result::ok).ok_or_else(|| ended(Ending::Withdrawn));
                }
                result = &mut calling => result,
            };
            match result {
                Ok(value) => {
                    trouble.over();
                    return Ok(value);
                }
                Err(error)
                    if error.is_transient()
                        && error.kind != ErrorKind::ImagePull
                        && Instant::now() < give_up =>
                {
                    trouble.met(called, &self.masked(&error));
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_AT_MOST);
                }
                Err(error) => return Err(ended(ending_of(&error))),
            }
        }
    }

    /// Looks until Docker answers; absence counts only when it lasts.
    pub(super) async fn look_until_sure(&self, handle: &Handle) -> Option<Status> {
        let mut absent_since = None;
        let mut wait = WAIT_AT_FIRST;
        let mut trouble = RetryLog::new(
            "Docker does not say whether it has a container; asking again",
            "Docker returns a container's state again",
        );
        loop {
            let asked = Instant::now();
            match self.surroundings.executor.inspect(handle).await {
                Ok(Some(status)) => {
                    trouble.over();
                    return Some(status);
                }
                Ok(None) => {
                    trouble.went_well();
                    // From an answer to a question: a slow answer tells of the time when it was asked.
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if asked.saturating_duration_since(since) >= ABSENCE {
                        return None;
                    }
                }
                Err(error) => {
                    trouble.met(asked, &error);
                    absent_since = None;
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(ABSENCE);
        }
    }
}
