//! Metrics for a monitoring system.

use serde::Serialize;

use super::sections::MetricsSettings;

/// Metrics for a monitoring system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Whether `/metrics` needs no token.
    pub public: bool,
}

impl Metrics {
    pub(super) fn new(given: MetricsSettings) -> Self {
        Self {
            public: given.public.unwrap_or(false),
        }
    }
}
