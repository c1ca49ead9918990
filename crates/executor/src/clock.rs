//! The one place where executors read a clock.
//!
//! Docker stamps its events by its own clock; the executors that are engines themselves use the host's. Nothing
//! is decided by it here.

use std::time::SystemTime;

use trainyard_core::Timestamp;

/// The moment of the call, by this host's clock.
pub(crate) fn now() -> Timestamp {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the module that the ban points to"
    )]
    let now = SystemTime::now();
    trainyard_failpoint::clock_shown(now).into()
}
