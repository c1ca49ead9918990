//! Follows a started container to its end: by Docker's `wait`, by inspecting it, under stop requests and the stage's
//! timeout, next to its log.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_executor::{Attempts, Error, ErrorKind, Exit, Handle, PreparedImage, Proof, Status};

use super::endings::{ended, ending_of, lost, proved};
use super::patience::{AfterEnd, PATIENCE};
use super::stop_signal::asked;
use super::{Attempt, FIRST_WAIT};
use crate::attempt::hints;
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_pump::{LogEnd, LogPump};
use crate::clock;
use crate::health::retry_log::{AWAY, RetryLog};

/// How often a stop is repeated: Docker may have confirmed it and done nothing.
const STOP_AGAIN: Duration = Duration::from_secs(30);

/// How often a passed timeout is reported again until a stop is requested: a failover of the database may have
/// lost the report.
const TIMEOUT_AGAIN: Duration = Duration::from_secs(30);

/// How often a container is inspected during a `wait`: a Docker engine that hangs over just this container answers no
/// `wait`, and still lists it. An inspection costs Docker 0.2 ms (measured with 20.10): for a thousand running
/// containers, 3 ms of each second, a sixth of the cost of listing them every five. An inspection without an answer
/// times out after 10 s, so silence about a container is reported every minute or two.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// When it is inspected after a failed `wait`: the repeated `wait` reports nothing until the container ends.
const LOOK_SOON: Duration = AWAY;

/// Waits for one of two.
async fn either(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = one => {}
        () = other => {}
    }
}

/// How long a container ran. In microseconds, as Postgres keeps them.
fn length(since: Timestamp, at: Timestamp) -> Duration {
    let ran_for = (at - since).to_std().unwrap_or_default();
    Duration::from_micros(u64::try_from(ran_for.as_micros()).unwrap_or(u64::MAX))
}

/// How long a Docker engine that answers may take to show a start that it did not confirm.
const UNCONFIRMED: Duration = Duration::from_secs(5);

/// How long the rest of the log may stay silent once the container has ended. A Docker engine on a busy host takes a
/// while to search a large log.
const LOG_DRAIN: Duration = Duration::from_secs(120);

impl<E: Attempts, L: Ledger> Attempt<'_, E, L> {
    /// Follows a started container to its end.
    pub(super) async fn watch(
        &self,
        handle: &Handle,
        since: Option<Timestamp>,
        image: Option<PreparedImage>,
        pump: &mut LogPump,
    ) -> Result<AttemptEnd, FencedOff> {
        let executor = &self.surroundings.executor;
        let gone = watch::Sender::new(false);
        let end = Box::pin(async {
            let end = self.wait_for_end(handle, since).await?;
            gone.send_replace(true);
            Ok(end)
        });
        let recorded = async {
            match &image {
                // Started just now.
                Some(image) => {
                    let image = self.masker.mask_text(&image.shown);
                    self.ledger.started(Some(&image), None).await
                }
                // The daemon that started it may have died before it recorded the start.
                None if !self.start_is_recorded() => self.ledger.started(None, since).await,
                None => Ok(()),
            }
        };
        let logs = pump.follow(executor, handle, self.ledger, gone.subscribe(), LOG_DRAIN);
        let logs = Box::pin(logs);
        let measured = Box::pin(async {
            let mut gone = gone.subscribe();
            tokio::select! {
                biased;
                ending = self.surroundings.layers.until_too_much(executor, handle) => {
                    self.wrote_too_much.send_replace(Some(ending));
                }
                _ = gone.wait_for(|gone| *gone) => {}
            }
            Ok(())
        });
        // A supervisor that is fenced off stops at once, not when the program ends.
        let (end, (), logs, ()) = tokio::try_join!(end, recorded, logs, measured)?;
        if logs == LogEnd::CutShort
            && matches!(end.ending, Ending::Exited { .. } | Ending::Stopped { .. })
        {
            let message = "the rest of the log could not be read from Docker and is left out";
            pump.say(clock::now(), message);
        }
        let mut end = self.prove(handle, end).await;
        if let Some(ending) = self.wrote_too_much.borrow().clone()
            && matches!(end.ending, Ending::Stopped { .. })
        {
            end.ending = ending;
        }
        if let Ending::Exited { code, .. } = end.ending
            && let Some(hint) = hints::hint(code, pump.ends_with_refusal())
        {
            pump.say(clock::now(), hint);
        }
        Ok(end)
    }

    /// Compares Docker's report of an end with the proof of it.
    async fn prove(&self, handle: &Handle, mut end: AttemptEnd) -> AttemptEnd {
        let (seen, stopped) = match &end.ending {
            Ending::Exited {
                code,
                out_of_memory,
            } => {
                let seen = Exit {
                    code: *code,
                    out_of_memory: *out_of_memory,
                };
                (seen, false)
            }
            Ending::Stopped { code } => {
                let seen = Exit {
                    code: *code,
                    out_of_memory: false,
                };
                (seen, true)
            }
            Ending::Rejected(_) | Ending::Errored(_) | Ending::Lost(_) | Ending::Withdrawn => {
                return end;
            }
        };
        let mut backoff = self.backoff();
        let mut after_end = AfterEnd::default();
        let mut trouble = RetryLog::new(
            "the record of how a program ended could not be read; will retry",
            "the record of how a program ended was read",
        );
        let proof = loop {
            let called = Instant::now();
            match self.surroundings.executor.prove(handle, &seen).await {
                Ok(proof) => break proof,
                Err(error) if error.kind == ErrorKind::Gone => break Proof::Unproved,
                Err(error) => {
                    trouble.met(called, &error);
                    if after_end.is_over(&self.surroundings.executor, &error).await {
                        warn!(%error, "the record of how a program ended cannot be read");
                        break Proof::Unproved;
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        };
        trouble.over();
        // The program has ended and was to be stopped; without proof of how, that is still no reason to run it again. If
        // another daemon asked Docker to stop it, Docker killed it for that.
        let stopped = stopped
            || match proof {
                Proof::Unproved => self.was_to_stop(),
                Proof::Killed => self
                    .recorded_stop()
                    .is_some_and(|(asked_at, _)| *asked_at <= end.ended_at),
                Proof::Ended { .. } | Proof::Unfit(_) | Proof::NeverRan(_) => false,
            };
        end.ending = proved(proof, seen, stopped);
        end
    }

    /// Whether the attempt was to be stopped: by this supervisor's signal, or already when it was claimed.
    pub(super) fn was_to_stop(&self) -> bool {
        self.stop_requested() || self.recorded_stop().is_some()
    }

    async fn wait_for_end(
        &self,
        handle: &Handle,
        since: Option<Timestamp>,
    ) -> Result<AttemptEnd, FencedOff> {
        let executor = &self.surroundings.executor;
        let mut stop = self.signal.stop.subscribe();
        let mut wrote_too_much = self.wrote_too_much.subscribe();
        let mut times_out = self.times_out(since);
        let mut stopping = false;
        let mut ask_again = Instant::now();
        let mut said_stopped: Option<Instant> = None;
        let mut ran_when_asked = false;
        let mut backoff = self.backoff();
        let mut unstarted: Option<(Instant, Error)> = None;
        let mut sight = RetryLog::new(
            "Docker does not return a container's state; will retry",
            "Docker returns a container's state again",
        );
        let mut start_trouble = RetryLog::new(
            "Docker did not start a container; will retry",
            "Docker started a container",
        );
        let mut stop_trouble = RetryLog::new(
            "Docker did not stop a container; will retry",
            "a container that was to stop has ended",
        );
        // Concurrently: an inspection that hangs must not delay an end or a stop request.
        let look_in = |pause| {
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                let called = Instant::now();
                (called, executor.inspect(handle).await)
            })
        };
        let mut looking = look_in(LOOK_AGAIN);
        let mut waiting = Box::pin(executor.wait(handle));
        loop {
            let status = tokio::select! {
                biased;
                status = &mut waiting => status,
                () = either(asked(&mut stop), asked(&mut wrote_too_much)), if !stopping => {
                    stopping = true;
                    ran_when_asked |= match executor.inspect(handle).await {
                        Ok(Some(Status::Running { .. })) | Err(_) => true,
                        Ok(Some(Status::Created | Status::Exited { .. } | Status::Unknown) | None) => false,
                    };
                    let called = Instant::now();
                    let stopped = executor.stop(handle, self.surroundings.grace).await;
                    let answered = Instant::now();
                    match stopped {
                        Ok(()) => {
                            said_stopped = Some(answered);
                            ask_again = answered + STOP_AGAIN;
                        }
                        Err(error) => {
                            stop_trouble.met(called, &error);
                            said_stopped = None;
                            ask_again = answered + backoff.next_wait();
                        }
                    }
                    continue;
                }
                () = tokio::time::sleep_until(ask_again), if stopping => {
                    if let Some(since) = said_stopped {
                        stop_trouble.met(since, &"it reported the stop, but no end");
                    }
                    stopping = false;
                    continue;
                }
                () = clock::at(times_out), if !self.stop_requested() => match executor.inspect(handle).await {
                    // It ended while no daemon was watching, and was not stopped: the exit code counts.
                    Ok(Some(status @ Status::Exited { .. })) => Ok(status),
                    Ok(_) | Err(_) => {
                        // If a crash lost the record of the start, the timeout would never pass.
                        self.ledger.started(None, since).await?;
                        self.ledger.timeout_passed().await;
                        times_out = Some(Instant::now() + TIMEOUT_AGAIN);
                        continue;
                    }
                },
                (called, seen) = &mut looking => {
                    looking = look_in(LOOK_AGAIN);
                    match seen {
                        Ok(Some(Status::Running { .. })) => {
                            sight.went_well();
                            continue;
                        }
                        Ok(Some(status)) => Ok(status),
                        Ok(None) => Err(Error::new(ErrorKind::Gone, "its container is gone")),
                        Err(error) => {
                            sight.met(called, &error);
                            continue;
                        }
                    }
                }
                () = self.signal.inspect.notified() => {
                    let called = Instant::now();
                    match executor.inspect(handle).await {
                        Ok(Some(status @ (Status::Exited { .. } | Status::Unknown))) => Ok(status),
                        Ok(None) => Err(Error::new(ErrorKind::Gone, "its container is gone")),
                        Ok(Some(Status::Created | Status::Running { .. })) => continue,
                        Err(error) => {
                            sight.met(called, &error);
                            continue;
                        }
                    }
                }
            };
            if status.is_ok() {
                sight.over();
            }
            match status {
                Ok(Status::Exited {
                    code,
                    out_of_memory,
                    since,
                    at,
                }) => {
                    stop_trouble.over();
                    let ending = if ran_when_asked {
                        Ending::Stopped { code }
                    } else {
                        Ending::Exited {
                            code,
                            out_of_memory,
                        }
                    };
                    return Ok(AttemptEnd {
                        ending,
                        ended_at: at,
                        ran_for: Some(length(since, at)),
                        metrics: Default::default(),
                    });
                }
                Ok(Status::Unknown) => {
                    let message = "Docker cannot report how its container ended";
                    return Ok(lost(message));
                }
                Ok(Status::Created) => {
                    if self.stop_requested() {
                        return Ok(ended(Ending::Withdrawn));
                    }
                    let begun = self.begun.get();
                    // Docker may still be starting it.
                    if begun.is_some_and(|begun| begun.elapsed() < UNCONFIRMED) {
                        tokio::time::sleep(FIRST_WAIT).await;
                        waiting = Box::pin(executor.wait(handle));
                        continue;
                    }
                    // A refused start did not happen and may be repeated. One that may have happened (Docker died
                    // during it and has forgotten) is repeated only where that is harmless.
                    let since = unstarted
                        .as_ref()
                        .map_or_else(Instant::now, |(since, _)| *since);
                    let hopeless = since.elapsed() >= PATIENCE;
                    if begun.is_some() && (hopeless || !executor.starts_once()) {
                        let message = "Docker did not confirm that it started the container, and knows \
                                       of no start; whether the program ran cannot be proved";
                        return Ok(lost(message));
                    }
                    if let Some((_, error)) = &unstarted
                        && hopeless
                    {
                        return Ok(ended(ending_of(error)));
                    }
                    let called = Instant::now();
                    match self.begin(handle).await {
                        Ok(()) => start_trouble.over(),
                        Err(error) if error.is_transient() || error.kind == ErrorKind::Gone => {
                            start_trouble.met(called, &self.masked(&error));
                            unstarted = Some((since, error));
                            tokio::time::sleep(backoff.next_wait()).await;
                        }
                        Err(error) => return Ok(ended(ending_of(&error))),
                    }
                }
                Ok(Status::Running { .. }) => {}
                Err(error) if error.kind == ErrorKind::Gone => {
                    if self.look_until_sure(handle).await.is_none() {
                        if self.stop_requested() {
                            // Stopping a container that was never started removes it.
                            return Ok(ended(Ending::Withdrawn));
                        }
                        return Ok(lost("its container vanished from Docker while it ran"));
                    }
                }
                Err(error) => {
                    sight.met(Instant::now(), &error);
                    looking = look_in(LOOK_SOON);
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
            waiting = Box::pin(executor.wait(handle));
        }
    }

    /// Whether an earlier claim has recorded that the container was started.
    fn start_is_recorded(&self) -> bool {
        let adopted = self.assignment.adopted.as_ref();
        adopted.is_some_and(|adopted| adopted.started_at.is_some())
    }

    /// When the stage's timeout passes; `None` where there is none. It is counted by the monotonic clock, which
    /// cannot be set. The time before the attempt was adopted is known only from wall clocks, the daemon's and the
    /// database's: where they differ, one of them was set, and the shorter time counts.
    fn times_out(&self, since: Option<Timestamp>) -> Option<Instant> {
        let own = self.assignment.stage().program().timeout;
        let timeout = own.or(self.surroundings.ceilings.timeout)?;
        let here = since.map(|since| (clock::now() - since).to_std().unwrap_or_default());
        let there = self
            .assignment
            .adopted
            .as_ref()
            .map(|adopted| adopted.running_for);
        let passed = here.map_or(Duration::ZERO, |here| {
            there.map_or(here, |there| here.min(there))
        });
        Some(Instant::now() + timeout.saturating_sub(passed))
    }
}
