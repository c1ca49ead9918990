//! Bounds what copying the outputs of one attempt may cost.
//!
//! A program decides how many outputs there are to read, and at which byte of each it turns out that the output cannot
//! be kept. So all copies of an attempt share one deadline, and the bytes that were read in vain are counted.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::measure::{in_units, in_words};

/// The time and the bytes that copying may still cost.
#[derive(Debug)]
pub(crate) struct CopyBudget {
    time: Duration,
    until: Instant,
    in_vain_at_most: u64,
    in_vain: u64,
}

impl CopyBudget {
    /// From now on, `time` for all copies, and `in_vain_at_most` bytes for those that are not kept.
    pub(crate) fn new(time: Duration, in_vain_at_most: u64) -> Self {
        Self {
            time,
            until: Instant::now() + time,
            in_vain_at_most,
            in_vain: 0,
        }
    }

    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Counts bytes that were read of a copy that is not kept.
    pub(crate) fn read_in_vain(&mut self, bytes: u64) {
        self.in_vain = self.in_vain.saturating_add(bytes);
    }

    /// Why nothing more is copied, in words.
    pub(crate) fn exhausted(&self) -> Option<String> {
        if self.is_late() {
            return Some(self.late());
        }
        (self.in_vain > self.in_vain_at_most).then(|| {
            format!(
                "{} were read of outputs that cannot be kept, and no more than {} are (limits.artifact)",
                in_units(self.in_vain),
                in_units(self.in_vain_at_most)
            )
        })
    }

    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    /// The message about the time.
    pub(crate) fn late(&self) -> String {
        format!(
            "copying the outputs took longer than {}; make them fewer or smaller, or raise the stage's `timeout`",
            in_words(self.time)
        )
    }
}
