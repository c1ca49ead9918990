//! The rules of retention.

use serde::Serialize;

use super::quantity::Span;
use super::sections::RetentionSettings;

/// How long things are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// A run, after its end.
    pub runs_for: Span,
    /// The newest runs of each DAG, for ever.
    pub runs_of_each_dag: u32,
    /// A log, after its run's end.
    pub logs_for: Span,
    /// A webhook, after it was processed.
    pub deliveries_for: Span,
    /// An image that was built for stages, after a run last used it.
    pub images_for: Span,
}

impl Retention {
    pub(super) fn new(given: RetentionSettings) -> Self {
        Self {
            runs_for: given.runs_for.unwrap_or(Span::days(90)),
            runs_of_each_dag: given.runs_of_each_dag.unwrap_or(20),
            logs_for: given.logs_for.unwrap_or(Span::days(30)),
            deliveries_for: given.deliveries_for.unwrap_or(Span::days(30)),
            images_for: given.images_for.unwrap_or(Span::days(7)),
        }
    }
}
