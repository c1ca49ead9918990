//! Converts Docker's errors for the caller, and sets how long to wait for an answer.

use std::future::Future;
use std::time::Duration;

use bollard::errors::Error as Bollard;

use super::init::FOLDER as INIT_FOLDER;
use crate::error::{Error, ErrorKind};

/// For calls that only read or change a row in Docker.
pub(super) const SHORT: Duration = Duration::from_secs(10);

/// For create and start, which touch disks and networks.
pub(super) const LONG: Duration = Duration::from_secs(60);

/// For uploads and downloads of archives, without any progress.
pub(super) const IDLE: Duration = Duration::from_secs(60);

/// A failed call, before its meaning is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// Docker answered with an error status.
    Answered { status: u16, message: String },
    /// Docker reported an error in the middle of a stream.
    InStream(String),
    /// There was no answer, or none in time.
    Silent(String),
    /// The answer is invalid.
    Odd(String),
}

/// Why a path in a container leads to nothing that can be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfContent {
    /// The path does not exist.
    Missing,
    /// Its links lead in a circle, or its names are too long.
    Odd,
}

impl From<Bollard> for CallError {
    fn from(error: Bollard) -> Self {
        match error {
            Bollard::DockerResponseServerError {
                status_code,
                message,
            } => Self::Answered {
                status: status_code,
                message,
            },
            Bollard::DockerStreamError { error } => Self::InStream(error),
            Bollard::RequestTimeoutError => Self::Silent("no answer in time".to_owned()),
            Bollard::SocketNotFoundError(path) => {
                Self::Silent(format!("there is no socket {path}"))
            }
            Bollard::IOError { .. }
            | Bollard::HyperResponseError { .. }
            | Bollard::HyperLegacyError { .. } => Self::Silent(chain(&error)),
            other => Self::Odd(chain(&other)),
        }
    }
}

impl CallError {
    /// The status of Docker's answer, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::InStream(_) | Self::Silent(_) | Self::Odd(_) => None,
        }
    }

    /// Docker's message, or a text of our own where there is none.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Answered { message, .. } => message,
            Self::InStream(text) | Self::Silent(text) | Self::Odd(text) => text,
        }
    }

    /// What is wrong with the path that was asked for in a container; `None` where this is an error of Docker.
    /// The status does not distinguish them: Docker answers 500 for a container's own links and folders, too.
    pub(super) fn of_content(&self) -> Option<OfContent> {
        let text = self.text();
        if text.contains("No such container") {
            return None;
        }
        if self.status() == Some(404) || text.contains("not a directory") {
            return Some(OfContent::Missing);
        }
        let odd = [
            "too many links",
            "too many levels of symbolic links",
            "file name too long",
        ];
        let is_odd = odd.iter().any(|words| text.contains(words));
        is_odd.then_some(OfContent::Odd)
    }

    /// Whether a container's own files, volumes or user are the cause. The status does not distinguish them, either.
    pub(super) fn is_of_container(&self) -> bool {
        let text = self.text();
        let words = [
            "not a directory",
            "is not directory",
            "too many links",
            "too many levels of symbolic links",
            "file name too long",
            "unable to find user",
            "unable to find group",
        ];
        // Our one volume is at the init's folder, where nothing can be made.
        let mounts_elsewhere = text
            .split_once("to rootfs at \"")
            .is_some_and(|(_, path)| !path.starts_with(&format!("{INIT_FOLDER}\"")));
        let is_within_init =
            text.contains("read-only file system") && text.contains(&format!("{INIT_FOLDER}/"));
        !text.contains("No such container")
            && !is_disk_full(text)
            && (words.iter().any(|words| text.contains(words))
                || mounts_elsewhere
                || is_within_init)
    }

    /// The error for a failed create or start of a container, which the content of its image may cause.
    pub(super) fn into_error_of_container(self, doing: &str) -> Error {
        if self.is_of_container() {
            let message = format!(
                "the image's own files, volumes or user keep its container from starting: {}",
                self.text().trim()
            );
            return Error::new(ErrorKind::Start, message);
        }
        self.into_error(doing)
    }

    /// The error for callers; `doing` completes "could not …".
    pub(super) fn into_error(self, doing: &str) -> Error {
        let text = self.text().trim();
        if is_disk_full(text) {
            let message = format!("the Docker engine could not {doing}, its disk is full: {text}");
            return Error::new(ErrorKind::Storage, message);
        }
        match &self {
            Self::Silent(_) => Error::new(
                ErrorKind::Unreachable,
                format!("the Docker engine did not answer when asked to {doing}: {text}"),
            ),
            Self::Answered { .. } | Self::InStream(_) | Self::Odd(_) => Error::new(
                ErrorKind::Engine,
                format!("the Docker engine could not {doing}: {text}"),
            ),
        }
    }
}

/// Whether a message says that a disk is full.
pub(super) fn is_disk_full(text: &str) -> bool {
    text.contains("no space left on device") || text.contains("disk quota exceeded")
}

/// The error for a container that does not exist.
pub(super) fn gone(container: &str) -> Error {
    let short = container.get(..12).unwrap_or(container);
    Error::new(
        ErrorKind::Gone,
        format!("the Docker engine has no container {short}"),
    )
}

/// Makes a call with a deadline.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Bollard>>,
) -> Result<T, CallError> {
    // On the heap: a call is large, and would be part of every future around it.
    match tokio::time::timeout(limit, Box::pin(call)).await {
        Ok(result) => result.map_err(CallError::from),
        Err(_) => Err(CallError::Silent(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}

/// An error with its causes: only they show what happened in hyper.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_of_the_engine_is_named() {
        let call_error = CallError::Answered {
            status: 500,
            message: "mkdir /var/lib/docker/x: no space left on device".to_owned(),
        };
        let error = call_error.into_error("create the container");
        assert_eq!(error.kind, ErrorKind::Storage);
        assert!(error.message.contains("disk is full"), "{error}");
    }

    #[test]
    fn class_17_what_an_image_does_to_its_own_container_is_not_an_error_of_docker() {
        let start = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start \
                     container process: error during container init: error mounting";
        for (text, kind) in [
            (
                "Cannot mkdir: /workspace is not a directory",
                ErrorKind::Start,
            ),
            (
                "source /d/merged/trainyard/init is not directory",
                ErrorKind::Start,
            ),
            (
                "evalSymlinksInScope: too many links in /d/merged/workspace",
                ErrorKind::Start,
            ),
            (
                "unable to find group nosuch: no matching entries in group file",
                ErrorKind::Start,
            ),
            (
                "mkdir /d/merged/trainyard/init/init: read-only file system",
                ErrorKind::Start,
            ),
            (
                &format!("{start} \"/v/_data\" to rootfs at \"/proc\": it is not of type proc"),
                ErrorKind::Start,
            ),
            (
                &format!("{start} \"/v/_data\" to rootfs at \"/trainyard/init\": no such file"),
                ErrorKind::Engine,
            ),
            (
                "mkdir /d/merged/workspace: read-only file system",
                ErrorKind::Engine,
            ),
            (
                "mkdir /d/merged/workspace: no space left on device",
                ErrorKind::Storage,
            ),
        ] {
            let call_error = CallError::Answered {
                status: 500,
                message: text.to_owned(),
            };
            assert_eq!(
                call_error.into_error_of_container("start it").kind,
                kind,
                "{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_at_its_deadline() {
        let never = std::future::pending::<Result<(), Bollard>>();
        let call_error = within(Duration::from_millis(5), never).await.unwrap_err();
        let error = call_error.into_error("list containers");
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert!(error.is_transient());
    }
}
