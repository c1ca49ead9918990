//! Errors of a configuration.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// The reason why a configuration is refused. `Display` is for the operator and contains no secret.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file has faults.
    #[error("{}", lines(.0))]
    Faults(Vec<FileFault>),
    /// Invalid values, or values that contradict each other; one sentence each.
    #[error("{}", lines(.0))]
    Refused(Vec<String>),
}

/// One fault of a file, shown as `FILE:LINE:COLUMN: MESSAGE`.
///
/// The line itself is not shown: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFault {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The problem, and what to write instead.
    pub message: String,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file.display(),
            self.line,
            self.column,
            self.message
        )
    }
}

fn lines(items: &[impl fmt::Display]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}
