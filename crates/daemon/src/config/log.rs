//! What is logged, and how.

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use super::faults::Faults;
use super::sections::{LogFormat, LogSettings};

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// A filter as `tracing_subscriber::EnvFilter` reads it; checked.
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
