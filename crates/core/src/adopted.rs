//! What is recorded of an attempt when a daemon adopts it.

use std::time::Duration;

use crate::Timestamp;

/// What an earlier claim of the same attempt left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Its container, by Docker's own id; `None` if none was recorded, which does not prove that there is none.
    pub container: Option<String>,
    /// When the container started, if that was recorded.
    pub started_at: Option<Timestamp>,
    /// How long it can have run at the most, by the database's clock: since its recorded start, else since the attempt
    /// was queued.
    pub running_for: Duration,
    /// Where the stored log ends.
    pub log_cursor: Option<LogCursor>,
}

/// Where in a log a piece of it ends; compare only cursors of one attempt. The meaning of the numbers is
/// the executor's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LogCursor {
    pub major: i64,
    pub minor: i64,
}
