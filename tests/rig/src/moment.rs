//! The wall clock, for records that are compared with the logs of daemons. It decides nothing.

use chrono::{DateTime, Utc};

/// Now.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a record of a fault is compared with logs, which carry wall-clock time"
)]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
