//! Waits out passing Docker errors, and distinguishes a container that is gone from a Docker engine that
//! does not answer.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::backoff::Backoff;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_executor::{Attempts, Containers, Error, ErrorKind, Handle, Status};

use super::endings::{ended, ending_of};
use super::stop_signal::asked;
use super::{Attempt, FIRST_WAIT, LONGEST_WAIT};
use crate::attempt::ledger::Ledger;
use crate::health::retry_log::RetryLog;

/// How long Docker errors are retried before an attempt whose program was not started is abandoned.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long the creation of a container may take once its attempt is to stop.
pub(super) const MADE: Duration = Duration::from_secs(5);

/// How long to wait for a Docker engine that answers other calls to report on a container that has ended. After that,
/// the attempt ends with what is known, so that no container keeps its attempt from ending.
const ENDED: Duration = Duration::from_secs(5 * 60);

/// How long a container must be absent, over at least two checks, before it counts as gone.
const ABSENCE: Duration = Duration::from_secs(2);

/// Waits for Docker's report on a container that has ended. A Docker engine that does not answer at all proves
/// nothing about the container, and is waited out.
#[derive(Debug, Default)]
pub(super) struct AfterEnd {
    silent_since: Option<Instant>,
}

impl AfterEnd {
    /// Records that a call about the container failed; returns whether further retries are pointless.
    pub(super) async fn is_over(&mut self, executor: &impl Containers, error: &Error) -> bool {
        let answers = error.kind != ErrorKind::Unreachable || executor.ping().await.is_ok();
        if !answers {
            self.silent_since = None;
            return false;
        }
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        since.elapsed() >= ENDED
    }
}

impl<E: Attempts, L: Ledger> Attempt<'_, E, L> {
    /// The waits between calls to Docker that fail.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.assignment.attempt.0)
    }

    /// Calls until it succeeds, fails for good, runs out of patience, or a stop is requested.
    pub(super) async fn patiently<T, F>(&self, call: impl Fn() -> F) -> Result<T, AttemptEnd>
    where
        F: Future<Output = Result<T, Error>>,
    {
        self.patiently_ending(Duration::ZERO, call).await
    }

    /// As [`Self::patiently`], but where a stop is requested, a call in progress has `finish` to complete: the
    /// container that it creates would be left behind otherwise.
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
        let mut backoff = self.backoff();
        let mut trouble = RetryLog::new("Docker failed; will retry", "Docker works again");
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
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(error) => return Err(ended(ending_of(&error))),
            }
        }
    }

    /// Polls until Docker answers. A container counts as gone only if it stays absent.
    pub(super) async fn look_until_sure(&self, handle: &Handle) -> Option<Status> {
        let mut absent_since = None;
        let mut backoff = Backoff::new(FIRST_WAIT, ABSENCE, self.assignment.attempt.0);
        let mut trouble = RetryLog::new(
            "Docker does not report whether it has a container; will retry",
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
                    // Counted from an answer to the next question: a slow answer shows the state at the time
                    // of its question.
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
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }
}
