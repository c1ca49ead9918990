//! Following a started container to its end: by its `wait`, by looks, under stop requests and the
//! stage's timeout, beside its log.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending};
use trainyard_executor::{Error, ErrorKind, Executor, Handle, PreparedImage, Status};

use super::endings::{ending_of, lost};
use super::line::asked;
use super::{Attempt, WAIT_AT_FIRST, WAIT_AT_MOST};
use crate::clock;
use crate::ledger::{FencedOff, Ledger};
use crate::log_pump::LogPump;

/// How long the rest of the log may take once the container has ended.
const LOG_DRAIN: Duration = Duration::from_secs(30);

impl<L: Ledger> Attempt<'_, L> {
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
        let end = async {
            let end = self.wait_for_end(handle, since).await;
            gone.send_replace(true);
            end
        };
        let told = async {
            match &image {
                // What was started now; a container found was told of when it was started.
                Some(image) => {
                    self.ledger
                        .started(&self.masker.mask_text(&image.shown))
                        .await
                }
                None => Ok(()),
            }
        };
        let logs = pump.follow(executor, handle, self.ledger, gone.subscribe(), LOG_DRAIN);
        let (end, told, logs) = tokio::join!(end, told, logs);
        told?;
        logs?;
        Ok(end)
    }

    async fn wait_for_end(&self, handle: &Handle, since: Option<Timestamp>) -> AttemptEnd {
        let executor = &self.surroundings.executor;
        let mut stop = self.line.stop.subscribe();
        let mut timeout = std::pin::pin!(self.timeout(since));
        let mut timed_out = false;
        let mut stopping = false;
        let mut wait = WAIT_AT_FIRST;
        let mut waiting = Box::pin(executor.wait(handle));
        loop {
            let ended = tokio::select! {
                biased;
                ended = &mut waiting => ended,
                () = asked(&mut stop), if !stopping => {
                    stopping = true;
                    if let Err(error) = executor.stop(handle, self.surroundings.grace).await {
                        warn!(attempt = %handle.attempt, %error, "the engine did not stop a container; asking again");
                        tokio::time::sleep(wait).await;
                        stopping = false;
                    }
                    continue;
                }
                () = &mut timeout, if !timed_out => {
                    timed_out = true;
                    self.ledger.timeout_passed().await;
                    continue;
                }
                () = self.line.look.notified() => match executor.inspect(handle).await {
                    Ok(Some(status @ Status::Exited { .. })) => Ok(status),
                    Ok(None) => Err(Error::new(ErrorKind::Gone, "its container is gone")),
                    Ok(Some(Status::Created | Status::Running { .. } | Status::Unknown))
                    | Err(_) => continue,
                },
            };
            match ended {
                Ok(Status::Exited {
                    code,
                    out_of_memory,
                    at,
                }) => {
                    let ending = Ending::Exited {
                        code,
                        out_of_memory,
                    };
                    return AttemptEnd {
                        ending,
                        ended_at: at,
                        metrics: Default::default(),
                    };
                }
                Ok(Status::Unknown) => {
                    let message = "the engine cannot tell how its container ended";
                    return lost(message);
                }
                Ok(Status::Created) => {
                    // A start that was never confirmed did not happen; only now it may be repeated.
                    if self.stop_requested() {
                        return AttemptEnd {
                            ending: Ending::Withdrawn,
                            ..lost("")
                        };
                    }
                    if let Err(error) = executor.start(handle).await
                        && !error.is_transient()
                    {
                        return AttemptEnd {
                            ending: ending_of(&error),
                            ..lost("")
                        };
                    }
                }
                Ok(Status::Running { .. }) => {}
                Err(error) if error.kind == ErrorKind::Gone => {
                    if self.look_until_sure(handle).await.is_none() {
                        if self.stop_requested() {
                            // Stopping what was never started removes it.
                            return AttemptEnd {
                                ending: Ending::Withdrawn,
                                ..lost("")
                            };
                        }
                        return lost("its container vanished from the engine while it ran");
                    }
                }
                Err(error) => {
                    debug!(attempt = %handle.attempt, %error, "lost sight of a container; waiting again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_AT_MOST);
                }
            }
            waiting = Box::pin(executor.wait(handle));
        }
    }

    /// Passes when the stage's timeout has; never where there is none.
    async fn timeout(&self, since: Option<Timestamp>) {
        let Some(timeout) = self.assignment.stage().timeout else {
            return std::future::pending().await;
        };
        let passed = since.map_or(Duration::ZERO, |since| {
            (clock::now() - since).to_std().unwrap_or_default()
        });
        // A little late, so that by the database's clock it has passed as well.
        tokio::time::sleep(timeout.saturating_sub(passed) + Duration::from_millis(20)).await;
    }
}
