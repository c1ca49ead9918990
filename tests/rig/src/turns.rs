//! Turns: few faults are tried at the same time on a machine, whichever processes try them.

use std::fs;
use std::time::Duration;

use crate::programme;

/// How many faults are tried at the same time on a machine: most of the time something is waited for. In
/// the long programme, whose figures are published, each has the machine for itself.
const AT_ONCE: u32 = 3;

/// The time between two looks for a turn.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for the turn of this process and thread. The kernel gives it back, however they end.
pub(crate) fn take_turn() -> fs::File {
    let places = if programme::is_long() { 1 } else { AT_ONCE };
    loop {
        for place in 0..places {
            let path = std::env::temp_dir().join(format!("trainyard-rig-{place}.lock"));
            let file = fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path)
                .unwrap();
            if file.try_lock().is_ok() {
                return file;
            }
        }
        std::thread::sleep(LOOK);
    }
}
