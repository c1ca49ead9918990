//! The one look at this machine's clock.

use trainyard_api::Timestamp;

/// Now. It only tells how long something that goes on has been going on; a wrong clock shows a wrong
/// duration and does nothing else.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of the command line"
)]
pub(crate) fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}
