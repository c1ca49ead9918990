//! The errors of a repo, grouped by what the caller can do about them.

use git2::{ErrorClass, ErrorCode};
use serde::{Deserialize, Serialize};

use super::RemoteUrl;
use super::limits::{Stop, Watch};
use super::worker::{OUT_OF_MEMORY, is_out_of_memory};
use crate::one_line::one_line;

/// The most characters of a foreign message that are passed on.
const MESSAGE: usize = 300;

/// Why a repo could not be fetched or read. The texts are for people, name no credentials, and say what to do where
/// that is not plain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Error {
    /// The address is not valid, or not permitted.
    #[error("{url} cannot be followed: {why}")]
    InvalidUrl {
        url: String,
        /// Why the address is not valid.
        why: String,
    },
    /// The remote does not answer, or not usefully. Worth a retry.
    #[error("{url} cannot be reached: {why}")]
    Unreachable { url: String, why: String },
    /// The remote took too long. Worth a retry.
    #[error("{url} took too long: {why}")]
    TimedOut { url: String, why: String },
    /// The remote's certificate is not trusted by this machine.
    #[error("{url} is not trusted: {why}")]
    Untrusted {
        url: String,
        /// Why the certificate is not trusted.
        why: String,
    },
    /// The remote requires other credentials.
    #[error("{url} refuses access: {why}")]
    AuthenticationFailed {
        url: String,
        /// The remote's reason.
        why: String,
    },
    /// There is no repository at the address, or none that these credentials may see.
    #[error("there is no git repository at {url}: {why}")]
    NotFound { url: String, why: String },
    /// The repo was never fetched.
    #[error("repo {repo} has not been fetched yet")]
    NotFetched { repo: String },
    /// No such branch, tag or commit.
    #[error("{reference:?} is not a branch, tag or commit: {why}")]
    UnknownReference { reference: String, why: String },
    /// A bound against runaway or hostile repos.
    #[error("{what} is too large: {why}")]
    TooLarge { what: String, why: String },
    /// A tree with names that must not reach a file system.
    #[error("the tree has an unsafe name, {path:?}: {why}")]
    UnsafeTree {
        /// The path within the tree.
        path: String,
        /// Why it is unsafe.
        why: String,
    },
    /// The mirror is damaged, or the remote is.
    #[error("{what} is damaged: {why}")]
    Corrupt { what: String, why: String },
    /// This machine's disk fails.
    #[error("{what}: {why}")]
    Disk { what: String, why: String },
    /// A remote's data takes more memory or time than git may have.
    #[error("{what} exceeds a limit: {why}")]
    Exhausted {
        /// The data that was fetched or read.
        what: String,
        /// Which bound, and how to move it.
        why: String,
    },
    /// git itself failed on a remote's data.
    #[error("git failed on {what}: {why}")]
    Crashed {
        /// The data that was fetched or read.
        what: String,
        why: String,
    },
    /// The caller cancelled the call.
    #[error("cancelled before it was complete")]
    Cancelled,
}

impl Error {
    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::NotFetched { .. }
            | Self::Disk { .. }
            | Self::Cancelled => true,
            Self::InvalidUrl { .. }
            | Self::Untrusted { .. }
            | Self::AuthenticationFailed { .. }
            | Self::NotFound { .. }
            | Self::UnknownReference { .. }
            | Self::TooLarge { .. }
            | Self::UnsafeTree { .. }
            | Self::Exhausted { .. }
            | Self::Crashed { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// Whether the remote causes it, and each try costs a lot.
    #[must_use]
    pub const fn is_costly(&self) -> bool {
        matches!(self, Self::Exhausted { .. } | Self::Crashed { .. })
    }

    pub(super) fn unknown(reference: &str, why: &str) -> Self {
        Self::UnknownReference {
            reference: one_line(reference, MESSAGE),
            why: why.to_owned(),
        }
    }

    pub(super) fn disk(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Disk {
            what: what.into(),
            why: error.to_string(),
        }
    }

    /// The error for libgit2's report about a mirror.
    pub(super) fn of_mirror(what: &str, error: &git2::Error) -> Self {
        let why = one_line(error.message(), MESSAGE);
        if error.class() == ErrorClass::NoMemory || is_out_of_memory(&why) {
            return Self::Exhausted {
                what: what.to_owned(),
                why: OUT_OF_MEMORY.to_owned(),
            };
        }
        match error.class() {
            ErrorClass::Os | ErrorClass::Filesystem => Self::Disk {
                what: what.to_owned(),
                why,
            },
            _ => Self::Corrupt {
                what: what.to_owned(),
                why,
            },
        }
    }

    /// The error for libgit2's report about a remote.
    pub(super) fn of_remote(url: &RemoteUrl, watch: &Watch, error: &git2::Error) -> Self {
        if let Some(stopped) = Self::of_watch(url, watch) {
            return stopped;
        }
        let url = url.to_string();
        let why = one_line(error.message(), MESSAGE);
        if error.class() == ErrorClass::NoMemory || is_out_of_memory(&why) {
            return Self::Exhausted {
                what: url,
                why: OUT_OF_MEMORY.to_owned(),
            };
        }
        if error.code() == ErrorCode::NotFound {
            return Self::NotFound { url, why };
        }
        Self::of_message(url, error.class(), why)
    }

    /// Why a watch has stopped a fetch, if it has.
    pub(super) fn of_watch(url: &RemoteUrl, watch: &Watch) -> Option<Self> {
        let (url, limits) = (url.to_string(), watch.limits());
        Some(match watch.stop()? {
            Stop::Cancelled => Self::Cancelled,
            Stop::TooSlow => Self::TimedOut {
                url,
                why: format!(
                    "it sent less than {} bytes a second for a minute; `git.slowest` in the configuration \
                     permits less",
                    limits.slowest
                ),
            },
            Stop::TooLong => Self::TimedOut {
                url,
                why: format!(
                    "a fetch may take {} s; `git.fetch_time` in the configuration permits more",
                    limits.time.as_secs()
                ),
            },
            Stop::TooLarge => Self::Exhausted {
                what: url,
                why: format!(
                    "a fetch may bring {} MiB; `git.fetch_size` in the configuration permits more",
                    limits.bytes >> 20
                ),
            },
        })
    }

    /// libgit2 has one code for most failures; only its messages differ.
    fn of_message(url: String, class: ErrorClass, why: String) -> Self {
        let says = |part: &str| why.contains(part);
        if says("invalid packet") || says("could not find repository") {
            return Self::NotFound {
                url,
                why: "the server there does not speak git".to_owned(),
            };
        }
        if says("object format") {
            let why = "its hashes are SHA-256, which is not supported yet".to_owned();
            return Self::InvalidUrl { url, why };
        }
        if says("No space left") || says("Disk quota") || says("Read-only file system") {
            return Self::Disk {
                what: "the fetched objects cannot be kept".to_owned(),
                why,
            };
        }
        match class {
            ErrorClass::Odb
            | ErrorClass::Object
            | ErrorClass::Indexer
            | ErrorClass::Zlib
            | ErrorClass::Sha1 => Self::Corrupt { what: url, why },
            _ => Self::Unreachable { url, why },
        }
    }

    /// The error for an HTTP status.
    pub(super) fn of_status(url: String, status: u16) -> Self {
        match status {
            401 | 403 | 407 => Self::AuthenticationFailed {
                url,
                why: format!("it answers with status {status}"),
            },
            404 | 410 => Self::NotFound {
                url,
                why: "it is not there, or not for these credentials".to_owned(),
            },
            _ => Self::Unreachable {
                url,
                why: format!("it answers with status {status}"),
            },
        }
    }
}
