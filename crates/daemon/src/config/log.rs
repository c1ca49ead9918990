//! The settings of the log.

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::faults::Faults;
use super::sections::{LogFormat, LogSettings};

/// The settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// The format of lines.
    pub format: LogFormat,
    /// A valid filter of `tracing_subscriber::EnvFilter`.
    pub level: String,
}

impl Log {
    pub(super) fn new(given: LogSettings) -> Self {
        Self {
            format: given.format.unwrap_or(LogFormat::Text),
            level: given.level.unwrap_or_else(|| "info".to_owned()),
        }
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        if let Err(problem) = EnvFilter::try_new(&self.level) {
            faults.add(format!(
                "log.level = {:?} is not a valid log filter ({problem}): write a level such as info, or \
                 info,trainyard_orchestrator=debug",
                self.level
            ));
        }
    }
}
