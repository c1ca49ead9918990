//! What a panic said: parts of the rig panic where they cannot go on, and a trial goes on without them.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// The result of work that may panic.
///
/// # Errors
/// It panicked: with what it said.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| words_of(panic.as_ref()))
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_returned() {
        assert_eq!(caught(|| 3), Ok(3));
        let plain = caught(|| -> u8 { panic!("seen") });
        assert_eq!(plain, Err("seen".to_owned()));
        let number = 7;
        let made = caught(|| -> u8 { panic!("seen {number}") });
        assert_eq!(made, Err("seen 7".to_owned()));
    }
}
