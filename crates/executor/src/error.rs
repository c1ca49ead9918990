//! The errors of executors, by what the caller may do.

use thiserror::Error as ThisError;
use trainyard_core::outcome::{Reason, ReasonCode};

/// An executor's error. A failure of the user's program is not an error: see [`crate::Status::Exited`].
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    /// What happened and what the user can do, for people.
    pub message: String,
}

/// Kinds of errors, by what the caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The image does not exist, or requires a login.
    ImageNotFound,
    /// The image exists or may exist, but could not be pulled.
    ImagePull,
    /// The build failed.
    ImageBuild,
    /// The container could not be created or the program not started; the stage is at fault.
    Start,
    /// A container of this attempt exists with another spec.
    Mismatch,
    /// The container does not exist (any more).
    Gone,
    /// An output is larger than permitted.
    TooLarge,
    /// An output is, or holds, something that cannot be kept: a device, or a link that leads out of it.
    OutputUnfit,
    /// No address is left for the network of its repo.
    NoAddresses,
    /// A disk is full or fails.
    Storage,
    /// Docker does not answer, or does not answer in time.
    Unreachable,
    /// Docker gave an unexpected answer.
    Engine,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    /// Whether the same call may succeed later with nothing changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::ImagePull
            | ErrorKind::Storage
            | ErrorKind::Unreachable
            | ErrorKind::Engine => true,
            ErrorKind::ImageNotFound
            | ErrorKind::ImageBuild
            | ErrorKind::Start
            | ErrorKind::Mismatch
            | ErrorKind::Gone
            | ErrorKind::TooLarge
            | ErrorKind::OutputUnfit
            | ErrorKind::NoAddresses => false,
        }
    }

    /// The reason to record for an attempt that ends with this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let code = match self.kind {
            ErrorKind::ImageNotFound => ReasonCode::ImageNotFound,
            ErrorKind::ImagePull => ReasonCode::ImagePull,
            ErrorKind::ImageBuild => ReasonCode::ImageBuild,
            ErrorKind::Start | ErrorKind::NoAddresses => ReasonCode::ContainerStart,
            ErrorKind::Mismatch | ErrorKind::Engine => ReasonCode::Internal,
            ErrorKind::Gone => ReasonCode::Unproved,
            ErrorKind::TooLarge | ErrorKind::Storage => ReasonCode::Storage,
            ErrorKind::OutputUnfit => ReasonCode::MissingOutput,
            ErrorKind::Unreachable => ReasonCode::EngineUnreachable,
        };
        Reason::new(code, self.message.clone())
    }
}
