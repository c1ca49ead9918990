//! One trial of a fault, and what it found.

use std::time::Duration;

use crate::dice::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub number: u32,
    /// Repeats it, as far as anything of real processes can be repeated.
    pub seed: u64,
    /// Whether it is the last trial: checks that were postponed are made now.
    pub last: bool,
}

impl Trial {
    #[must_use]
    pub const fn dice(self) -> Dice {
        Dice::new(self.seed)
    }
}

/// The result of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The violations; empty is good.
    pub violations: Vec<String>,
    /// How long it took to be whole again.
    pub recovery: Option<Duration>,
}
