//! Waiting on conditions, with a bound. There are no sleeps for luck: the pause between two looks is
//! short, and a condition that does not come fails with what was seen last.

use std::time::{Duration, Instant};

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is a value.
///
/// # Panics
/// When `bound` has passed: with `what`, and what the last look saw.
#[track_caller]
pub fn until<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(
                begun.elapsed() < bound,
                "{what} did not come within {bound:?}; seen last: {seen}"
            ),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Looks until the condition holds.
///
/// # Panics
/// When `bound` has passed.
#[track_caller]
pub fn until_true(what: &str, bound: Duration, mut look: impl FnMut() -> bool) {
    until(what, bound, || {
        if look() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    });
}
