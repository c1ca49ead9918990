//! Errors of requests: what is wrong, in words, and what to do about it. Whoever answers the caller decides how the
//! kind is shown: the JSON API as a status.

use std::fmt;
use std::time::Duration;

use trainyard_store::Error as StoreError;

pub type Result<T, E = AppError> = std::result::Result<T, E>;

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppError {
    pub kind: AppErrorKind,
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppErrorKind {
    NotFound,
    /// The request itself is not valid.
    Invalid,
    /// The request is valid, but not in the present state.
    Conflict,
    /// A newer version wrote what it is about.
    LaterFormat,
    /// The daemon has no secret key, or not that of the database.
    SecretKey,
    /// It may be possible later: after this time, where that is known.
    Unavailable(Option<Duration>),
    /// A fault of Trainyard, its database or its disk. It was logged.
    Internal,
}

impl AppError {
    fn new(kind: AppErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(AppErrorKind::NotFound, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(AppErrorKind::Invalid, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(AppErrorKind::Conflict, message)
    }

    pub(crate) fn busy(message: impl Into<String>, wait: Duration) -> Self {
        Self::new(AppErrorKind::Unavailable(Some(wait)), message)
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AppError {}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        if error.is_about_nul() {
            // It came from some part of the request: our own texts contain none.
            return Self::invalid("the request contains a NUL character, which cannot be stored")
                .help("send it without `%00` in its path and without `\\u0000` in its body");
        }
        let kind = match &error {
            StoreError::NotFound { .. } => AppErrorKind::NotFound,
            StoreError::Conflict { .. } | StoreError::Fenced => AppErrorKind::Conflict,
            StoreError::LaterFormat { .. } => AppErrorKind::LaterFormat,
            StoreError::Unreachable { .. }
            | StoreError::Contention(_)
            | StoreError::Stopped
            | StoreError::StorageFull { .. }
            | StoreError::DatabaseFull(_) => AppErrorKind::Unavailable(None),
            StoreError::NoSecretKey | StoreError::WrongSecretKey => AppErrorKind::SecretKey,
            StoreError::AuthenticationFailed { .. }
            | StoreError::DatabaseMissing { .. }
            | StoreError::InvalidUrl(_)
            | StoreError::SchemaNewer { .. }
            | StoreError::SchemaUnknown { .. }
            | StoreError::Migration(_)
            | StoreError::Corrupt { .. }
            | StoreError::Storage { .. }
            | StoreError::Interrupted
            | StoreError::Database(_) => AppErrorKind::Internal,
        };
        if kind == AppErrorKind::Internal {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an API request failed"
            );
        }
        Self::new(kind, error.to_string())
    }
}

impl From<trainyard_forge::Error> for AppError {
    fn from(error: trainyard_forge::Error) -> Self {
        use trainyard_forge::Error as ForgeError;
        let kind = match &error {
            ForgeError::InvalidUrl { .. } => AppErrorKind::Invalid,
            ForgeError::UnknownReference { .. } => AppErrorKind::NotFound,
            error if error.is_retryable() => AppErrorKind::Unavailable(None),
            // The remote fails, or rejects the daemon: the request itself is valid.
            _ => AppErrorKind::Conflict,
        };
        Self::new(kind, error.to_string())
    }
}
