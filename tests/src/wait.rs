//! Waiting on conditions, with a bound. There are no sleeps for luck: the pause between two looks is
//! short, and a condition that does not come fails with what was seen last.
//!
//! A look is often a call of the command line, and costs more than the pause. So the pause grows with the wait, and
//! adds a twentieth to it at most: tests that wait leave the processor to those that work.

use std::time::{Duration, Instant};

/// The pause between two looks, at first and at last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

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
        std::thread::sleep((begun.elapsed() / 20).clamp(PAUSE.0, PAUSE.1));
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
