//! A wrong clock for tests. A file says by how much it is off; a test may write the file at any time.
//!
//! Only wall clocks are meant. Monotonic time goes on as it does on a machine whose clock is set.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use crate::CLOCK;

static FILE: LazyLock<Option<PathBuf>> = LazyLock::new(|| std::env::var_os(CLOCK).map(Into::into));

/// The time that the clock of this process shows when the host's shows `now`.
pub(crate) fn shown(now: SystemTime) -> SystemTime {
    let text = FILE
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok());
    let shift = text.map_or(0, |text| text.trim().parse().unwrap_or_default());
    shifted(now, shift)
}

fn shifted(now: SystemTime, millis: i64) -> SystemTime {
    let by = Duration::from_millis(millis.unsigned_abs());
    let moved = if millis < 0 {
        now.checked_sub(by)
    } else {
        now.checked_add(by)
    };
    moved.unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_off_by_what_the_file_says() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(43_200);
        assert_eq!(shifted(noon, 1_500), noon + Duration::from_millis(1_500));
        assert_eq!(shifted(noon, -1_500), noon - Duration::from_millis(1_500));
        assert_eq!(shifted(noon, 0), noon);
    }
}
