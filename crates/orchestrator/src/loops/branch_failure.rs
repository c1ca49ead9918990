//! Errors of one branch during a repo's sync: the other branches go on without it.

use std::collections::BTreeMap;

use tracing::error;
use trainyard_store::Error as StoreError;

/// How many branches are listed with their errors; the others are counted.
const SHOWN_AT_MOST: usize = 3;

/// Why a branch was not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BranchFailure {
    /// Other branches cannot be recorded either: the database does not answer.
    Everywhere(String),
    /// The repo got another address, or was removed: nothing of this sync counts.
    AddressChanged,
    /// Reading it killed the daemon, again and again: other branches of the repo may do so, too.
    Deadly(String),
    /// It may pass by itself: the next sync tries again.
    Passing(String),
    /// The branch cannot be recorded in this state, however often it is read.
    Refused(String),
    /// As `Refused`, and each try costs a lot: the repo causes it, and it counts against the repo.
    Costly(String),
}

impl BranchFailure {
    /// The error, in words.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::AddressChanged => "the repo has another address",
            Self::Everywhere(words)
            | Self::Deadly(words)
            | Self::Passing(words)
            | Self::Refused(words)
            | Self::Costly(words) => words,
        }
    }
}

impl From<StoreError> for BranchFailure {
    fn from(error: StoreError) -> Self {
        if let Some(code) = error.refusal() {
            error!(
                error = &error as &dyn std::error::Error,
                "the database refused to record a branch"
            );
            // Postgres' own message quotes the refused value.
            return Self::Refused(format!(
                "the database refused to record it (SQLSTATE {code}), which is a bug in Trainyard; see the daemon's log"
            ));
        }
        match error {
            StoreError::Corrupt { .. } => Self::Refused(error.to_string()),
            StoreError::LaterFormat { .. } => Self::Passing(error.to_string()),
            _ => Self::Everywhere(error.to_string()),
        }
    }
}

impl From<trainyard_forge::Error> for BranchFailure {
    fn from(error: trainyard_forge::Error) -> Self {
        if error.is_costly() {
            Self::Costly(error.to_string())
        } else {
            Self::Passing(error.to_string())
        }
    }
}

/// The errors of branches, by name.
pub(crate) type BranchFailures = BTreeMap<String, BranchFailure>;

/// All of them as one text; `None` if there are none.
pub(crate) fn in_words(failures: &BranchFailures) -> Option<String> {
    let shown = failures.iter().take(SHOWN_AT_MOST);
    let mut parts: Vec<String> = shown
        .map(|(branch, failure)| format!("branch {branch} is not recorded: {}", failure.words()))
        .collect();
    if failures.len() > SHOWN_AT_MOST {
        parts.push(format!("and {} more", failures.len() - SHOWN_AT_MOST));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(count: usize) -> BranchFailures {
        (0..count)
            .map(|n| (format!("b{n}"), BranchFailure::Passing("it is odd".into())))
            .collect()
    }

    #[test]
    fn a_few_branches_are_named_and_the_others_counted() {
        assert_eq!(in_words(&failures(0)), None);
        let one = in_words(&failures(1)).unwrap();
        assert_eq!(one, "branch b0 is not recorded: it is odd");
        let many = in_words(&failures(9)).unwrap();
        assert!(many.ends_with("; and 6 more"), "{many}");
    }
}
