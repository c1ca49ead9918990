//! How attempts, stage runs and runs end, and why.

use std::fmt;

use crate::text::recorded;

/// How an attempt, a stage run or a run ended. The words are those of the glossary; users see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The program ended with exit code 0, and all declared outputs and metrics exist.
    Succeeded,
    /// The user's program failed: its exit code, a missing output, or a refused gate.
    Failed,
    /// Trainyard or Docker is at fault, or something that the stage asks for is not available.
    Errored,
    /// It took longer than its timeout.
    TimedOut,
    /// A user or a newer run cancelled it.
    Cancelled,
    /// How it ended cannot be proved.
    Lost,
    /// It did not have to run.
    Skipped,
    /// It could not run because a stage that it needs did not succeed.
    UpstreamFailed,
}

impl Outcome {
    /// All outcomes, in the order in which listings show them.
    pub const ALL: [Self; 8] = [
        Self::Succeeded,
        Self::Failed,
        Self::Errored,
        Self::TimedOut,
        Self::Cancelled,
        Self::Lost,
        Self::Skipped,
        Self::UpstreamFailed,
    ];

    /// The word as stored and as shown: `timed_out`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Errored => "errored",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Lost => "lost",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
    }

    /// Whether stages downstream have to treat it as a failure.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Failed
            | Self::Errored
            | Self::TimedOut
            | Self::Cancelled
            | Self::Lost
            | Self::UpstreamFailed => true,
            Self::Succeeded | Self::Skipped => false,
        }
    }

    /// The outcome of a run whose stages ended so: the first of a fixed order that occurs.
    ///
    /// Outcomes that the user can fix come first, outcomes that merely follow from another one last. A run of nothing
    /// but skipped stages was skipped.
    #[must_use]
    pub fn roll_up(stages: impl IntoIterator<Item = Self>) -> Self {
        const WORST_FIRST: [Outcome; 8] = [
            Outcome::Failed,
            Outcome::Errored,
            Outcome::TimedOut,
            Outcome::Lost,
            Outcome::Cancelled,
            Outcome::UpstreamFailed,
            Outcome::Succeeded,
            Outcome::Skipped,
        ];
        let rank = |outcome: Self| WORST_FIRST.iter().position(|other| *other == outcome);
        stages
            .into_iter()
            .min_by_key(|outcome| rank(*outcome))
            .unwrap_or(Self::Succeeded)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How far a run is, in the one word that listings show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunState {
    /// It waits for its DAG's concurrency rule.
    Queued,
    /// Its stages are being run.
    Running,
    Ended(Outcome),
}

impl RunState {
    /// All states, in the order in which a run comes to them. A run itself is never `upstream_failed`.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Running,
        Self::Ended(Outcome::Succeeded),
        Self::Ended(Outcome::Failed),
        Self::Ended(Outcome::Errored),
        Self::Ended(Outcome::TimedOut),
        Self::Ended(Outcome::Cancelled),
        Self::Ended(Outcome::Lost),
        Self::Ended(Outcome::Skipped),
    ];

    /// The word: `queued`, `running`, or the outcome's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Ended(outcome) => outcome.as_str(),
        }
    }

    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)*) => {
        /// The kind of cause that an outcome has: stable words for programs, next to the message for people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCode {
            $($(#[$doc])* $variant,)*
        }

        impl ReasonCode {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as stored and as shown in JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }
    };
}

reason_codes! {
    /// The program ended with a non-zero exit code.
    ExitCode = "exit_code",
    /// The kernel killed it for using more memory than its limit.
    OutOfMemory = "out_of_memory",
    /// A signal ended it, and nothing proves who sent it.
    Killed = "killed",
    /// The image's entry point or the command was not found or not executable.
    CommandNotFound = "command_not_found",
    /// The registry or Docker does not have the image, or denies access to it.
    ImageNotFound = "image_not_found",
    /// The image exists but could not be pulled.
    ImagePull = "image_pull",
    /// The image could not be built from the commit.
    ImageBuild = "image_build",
    /// The container could not be created or started.
    ContainerStart = "container_start",
    /// Docker did not answer.
    EngineUnreachable = "engine_unreachable",
    /// A declared output was not there after the stage.
    MissingOutput = "missing_output",
    /// The declared metrics file is missing or is not a flat JSON object of numbers.
    InvalidMetrics = "invalid_metrics",
    /// A metric missed a bound.
    GateRefused = "gate_refused",
    /// A secret that the stage names is not set.
    MissingSecret = "missing_secret",
    /// An input that the stage names is gone from the artifact store.
    MissingInput = "missing_input",
    /// An expression could not be evaluated.
    Expression = "expression",
    /// It ran longer than the stage's timeout.
    StageTimeout = "stage_timeout",
    /// The run took longer than its timeout.
    RunTimeout = "run_timeout",
    /// A user requested the cancellation.
    CancelRequested = "cancel_requested",
    /// A newer run needed its place (`overlap: cancel_running`).
    Superseded = "superseded",
    /// Another run was active (`overlap: skip`).
    Overlap = "overlap",
    /// The stage's condition (`if:`) does not hold.
    Condition = "condition",
    /// A stage that it needs ended in a way that it does not run on (`run_on`).
    Upstream = "upstream",
    /// The container vanished, or its end cannot be proved, or an operator abandoned the attempt.
    Unproved = "unproved",
    /// Storage was full or failed while results were being stored.
    Storage = "storage",
    /// The source tree of the commit could not be prepared.
    Source = "source",
    /// A fault in Trainyard.
    Internal = "internal",
    /// A newer Trainyard recorded a code that this one does not know.
    Unknown = "unknown",
}

impl ReasonCode {
    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why something ended as it did: a code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    /// The event, with names and numbers; a full sentence part without a final stop.
    pub message: String,
}

impl Reason {
    /// A reason with its message. The message may quote text from outside and will be recorded, so it is bounded
    /// ([`recorded`]).
    pub fn new(code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: recorded(message),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::from_word(outcome.as_str()), Some(outcome));
        }
        for code in ReasonCode::ALL {
            assert_eq!(ReasonCode::from_word(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn a_reason_holds_no_nul_whatever_it_quotes() {
        let reason = Reason::new(ReasonCode::InvalidMetrics, "holds `a\0b`");
        assert_eq!(reason.message, "holds `a\\0b`");
    }

    #[test]
    fn a_reason_is_bounded_whatever_it_quotes() {
        let path = "\u{1}".repeat(4000);
        let quoted = format!("`{path}` is a pipe; ").repeat(1000);
        let reason = Reason::new(ReasonCode::MissingOutput, quoted);
        assert!(reason.message.len() <= crate::text::MESSAGE_AT_MOST);
    }

    #[test]
    fn one_failed_stage_fails_the_run_whatever_else_happened() {
        use Outcome::*;
        assert_eq!(
            Outcome::roll_up([Succeeded, UpstreamFailed, Failed, Skipped]),
            Failed
        );
        assert_eq!(Outcome::roll_up([Succeeded, Skipped]), Succeeded);
        assert_eq!(Outcome::roll_up([Skipped, Skipped]), Skipped);
        assert_eq!(Outcome::roll_up([Succeeded, Lost, TimedOut]), TimedOut);
    }
}
