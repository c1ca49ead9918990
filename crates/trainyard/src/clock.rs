//! The only place that reads this machine's clock.

use trainyard_api::Timestamp;

/// The current time. It is used only to show durations, so a wrong clock has no other effect.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command line"
)]
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}
