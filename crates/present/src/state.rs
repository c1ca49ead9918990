//! What the word of a state means.

use trainyard_core::outcome::Outcome;

/// The kind of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It succeeded.
    Good,
    /// It failed.
    Bad,
    /// It was not done.
    Off,
    /// It is in progress.
    Busy,
    Waiting,
}

impl Mood {
    /// The mood of a state's word.
    pub fn of(state: &str) -> Self {
        match Outcome::from_word(state) {
            Some(Outcome::Succeeded) => Self::Good,
            Some(
                Outcome::Failed
                | Outcome::Errored
                | Outcome::TimedOut
                | Outcome::Lost
                | Outcome::UpstreamFailed,
            ) => Self::Bad,
            Some(Outcome::Cancelled | Outcome::Skipped) => Self::Off,
            None if matches!(state, "running" | "starting") => Self::Busy,
            None => Self::Waiting,
        }
    }
}

/// Whether a run in this state has succeeded. A skipped run has not: a script that waits for it would go on with nothing
/// new.
pub fn has_succeeded(state: &str) -> bool {
    Outcome::from_word(state) == Some(Outcome::Succeeded)
}
