//! Converts Docker's state of a container to the contract's [`Status`], and waits for a container's end.

use std::time::{Duration, Instant};

use bollard::Docker as Client;
use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum,
};
use bollard::query_parameters::WaitContainerOptionsBuilder;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use tracing::warn;
use trainyard_core::Timestamp;
use trainyard_failpoint::{AtPoint as _, Point};

use super::errors::{CallError, SHORT, gone, within};
use super::labels::Identity;
use crate::contract::{Handle, Listed, Status};
use crate::error::{Error, ErrorKind};

/// The time between two inspections of a container that is being removed.
const REMOVAL: Duration = Duration::from_millis(100);

/// How much later than the end the report of a kill for memory may come.
const EVIDENCE: Duration = Duration::from_millis(300);

/// How long Docker may fail to report on a container that has ended, while it answers other requests.
const ENDED: Duration = Duration::from_secs(5 * 60);

/// A name that no container has.
pub(super) const NO_CONTAINER: &str = "trainyard-ping";

/// How many inspections a removal may take before the container counts as stuck.
const REMOVAL_LOOKS: u32 = 300;

/// Inspects a container, by id or name; `None` where it does not exist.
pub(super) async fn inspect(
    client: &Client,
    container: &str,
) -> Result<Option<ContainerInspectResponse>, Error> {
    match within(
        SHORT,
        client
            .inspect_container(container, None)
            .at(Point::InspectContainer),
    )
    .await
    {
        Ok(found) => Ok(Some(found)),
        Err(call_error) if call_error.status() == Some(404) => Ok(None),
        Err(call_error) => Err(call_error.into_error("inspect a container")),
    }
}

/// The status of a container; `None` where it does not exist.
pub(super) async fn of(client: &Client, container: &str) -> Result<Option<Status>, Error> {
    let found = inspect(client, container).await?;
    Ok(found.map(|found| found.state.as_ref().map_or(Status::Unknown, status)))
}

/// Waits until a container does not run, and returns its status then.
///
/// With `by_engine`, Docker's report is the only evidence of a kill for memory.
pub(super) async fn wait(
    client: &Client,
    container: &str,
    by_engine: bool,
) -> Result<Status, Error> {
    // `next-exit` would miss a program that ended before the call.
    let options = WaitContainerOptionsBuilder::default()
        .condition("not-running")
        .build();
    let mut wait = client.wait_container(container, Some(options));
    match wait.try_next().at(Point::WaitContainer).await {
        // bollard reports a non-zero exit code as an error.
        Ok(Some(_)) | Err(Bollard::DockerContainerWaitError { .. }) => {}
        Err(error) => {
            let call_error = CallError::from(error);
            return Err(match call_error.status() {
                Some(404) => gone(container),
                _ => call_error.into_error("wait for a container"),
            });
        }
        Ok(None) => {
            return Err(Error::new(
                ErrorKind::Unreachable,
                "the Docker engine closed the connection while a container was waited for",
            ));
        }
    }
    // It has ended. If Docker answers other requests, its report on this container is awaited for a bounded time.
    let give_up = Instant::now() + ENDED;
    let mut looks = 0;
    while looks < REMOVAL_LOOKS {
        let found = match inspect(client, container).await {
            Ok(found) => found,
            Err(error) if inspect(client, NO_CONTAINER).await.is_err() => return Err(error),
            Err(error) if Instant::now() >= give_up => {
                warn!(container, %error, "Docker does not report how a container ended");
                return Ok(Status::Unknown);
            }
            Err(_) => {
                tokio::time::sleep(EVIDENCE).await;
                continue;
            }
        };
        let state = found
            .ok_or_else(|| gone(container))?
            .state
            .unwrap_or_default();
        if state.status != Some(ContainerStateStatusEnum::REMOVING) {
            let status = status(&state);
            if by_engine && may_lack_evidence(&status) {
                return look_again(client, container, status).await;
            }
            return Ok(status);
        }
        // It is about to disappear.
        looks += 1;
        tokio::time::sleep(REMOVAL).await;
    }
    Ok(Status::Unknown)
}

/// Whether Docker may not yet know that the kernel killed the program for its use of memory: the two
/// reports race.
fn may_lack_evidence(status: &Status) -> bool {
    matches!(
        status,
        Status::Exited {
            code: 137,
            out_of_memory: false,
            ..
        }
    )
}

/// Inspects once more, after the time by which that report must be there.
pub(super) async fn look_again(
    client: &Client,
    container: &str,
    seen: Status,
) -> Result<Status, Error> {
    tokio::time::sleep(EVIDENCE).await;
    let found = inspect(client, container).await?;
    Ok(found.map_or(seen, |found| {
        found.state.as_ref().map_or(Status::Unknown, status)
    }))
}

/// Converts a state of Docker's.
///
/// A container counts as ended only where Docker says so and knows when it started and ended.
/// `dead` and `removing` are Docker's names for containers that it lost control of.
pub(super) fn status(state: &ContainerState) -> Status {
    use ContainerStateStatusEnum as Word;
    let started = moment(state.started_at.as_deref());
    match state.status {
        Some(Word::CREATED) => Status::Created,
        Some(Word::RUNNING | Word::PAUSED | Word::RESTARTING | Word::STOPPING) => {
            started.map_or(Status::Unknown, |since| Status::Running { since })
        }
        Some(Word::EXITED) => {
            let code = state.exit_code.and_then(|code| i32::try_from(code).ok());
            match (started, moment(state.finished_at.as_deref()), code) {
                (Some(since), Some(at), Some(code)) => Status::Exited {
                    code,
                    out_of_memory: state.oom_killed.unwrap_or_default(),
                    since,
                    at,
                },
                _ => Status::Unknown,
            }
        }
        Some(Word::DEAD | Word::REMOVING | Word::EMPTY) | None => Status::Unknown,
    }
}

/// An entry of a listing; `None` for a container that is not one of ours.
pub(super) fn listed(summary: ContainerSummary) -> Option<Listed> {
    use ContainerSummaryStateEnum as Word;
    let identity = Identity::read(summary.labels.as_ref()?)?;
    let since = summary
        .created
        .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let status = match summary.state {
        Some(Word::CREATED) => Status::Created,
        Some(Word::RUNNING | Word::PAUSED | Word::RESTARTING | Word::STOPPING) => {
            since.map_or(Status::Unknown, |since| Status::Running { since })
        }
        Some(Word::EXITED | Word::DEAD | Word::REMOVING | Word::EMPTY) | None => Status::Unknown,
    };
    Some(Listed {
        handle: Handle {
            attempt: identity.attempt,
            container: summary.id?,
        },
        fence: identity.fence,
        spec_hash: identity.spec_hash,
        status,
    })
}

/// Parses a time in Docker's notation; its year 1 stands for "never".
fn moment(text: Option<&str>) -> Option<Timestamp> {
    let moment = DateTime::parse_from_rfc3339(text?)
        .ok()?
        .with_timezone(&Utc);
    (moment.timestamp() > 0).then_some(moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &str = "0001-01-01T00:00:00Z";
    const THEN: &str = "2026-11-23T10:00:00.5Z";

    fn state(word: ContainerStateStatusEnum, started: &str, finished: &str) -> ContainerState {
        ContainerState {
            status: Some(word),
            exit_code: Some(0),
            started_at: Some(started.to_owned()),
            finished_at: Some(finished.to_owned()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn an_end_counts_only_where_its_start_is_known() {
        let proved = status(&state(ContainerStateStatusEnum::EXITED, THEN, THEN));
        assert!(
            matches!(proved, Status::Exited { code: 0, .. }),
            "{proved:?}"
        );
        for (started, finished) in [(NEVER, THEN), (THEN, NEVER)] {
            let state = state(ContainerStateStatusEnum::EXITED, started, finished);
            assert_eq!(status(&state), Status::Unknown);
        }
        let dead = state(ContainerStateStatusEnum::DEAD, THEN, THEN);
        assert_eq!(status(&dead), Status::Unknown);
    }

    #[test]
    fn a_start_that_failed_leaves_a_container_that_was_never_started() {
        let state = state(ContainerStateStatusEnum::CREATED, NEVER, NEVER);
        assert_eq!(status(&state), Status::Created);
    }
}
