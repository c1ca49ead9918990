//! The one place where the engine reads a clock.
//!
//! Decisions take their time from Postgres. This clock only stamps what is noticed outside of any
//! transaction: the end of an attempt that no engine can date, and the lines that Trainyard itself
//! adds to a log.

use trainyard_core::Timestamp;

/// The moment of the call, by this host's clock.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that the ban points to"
    )]
    chrono::Utc::now()
}
