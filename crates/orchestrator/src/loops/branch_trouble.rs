//! Trouble of one branch while a repo is synced: the other branches go on without it.

use std::collections::BTreeMap;

use tracing::error;
use trainyard_store::Error as StoreError;

/// How many branches are told with what is wrong with them; of the others, how many there are.
const TOLD_AT_MOST: usize = 3;

/// Why a branch was not recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BranchTrouble {
    /// Nothing else can be recorded either: the database does not answer.
    Everywhere(String),
    /// The repo has another address since, or is gone: nothing of this sync counts.
    AddressChanged,
    /// It may pass by itself: the next look will tell.
    Passing(String),
    /// It is not taken as it is, however often it is looked at.
    Refused(String),
    /// As that, and each look costs a lot: the repo's own doing, and counted against it.
    Costly(String),
}

impl BranchTrouble {
    /// What is wrong, in words.
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::AddressChanged => "the repo has another address",
            Self::Everywhere(words)
            | Self::Passing(words)
            | Self::Refused(words)
            | Self::Costly(words) => words,
        }
    }
}

impl From<StoreError> for BranchTrouble {
    fn from(error: StoreError) -> Self {
        if let Some(code) = error.refusal() {
            error!(
                error = &error as &dyn std::error::Error,
                "the database refuses what a branch holds"
            );
            // Postgres' own words quote what it refuses.
            return Self::Refused(format!(
                "the database refuses what it holds (SQLSTATE {code}), which is a fault in Trainyard; the daemon's log says more"
            ));
        }
        match error {
            StoreError::Corrupt { .. } => Self::Refused(error.to_string()),
            _ => Self::Everywhere(error.to_string()),
        }
    }
}

impl From<trainyard_forge::Error> for BranchTrouble {
    fn from(error: trainyard_forge::Error) -> Self {
        if error.is_costly() {
            Self::Costly(error.to_string())
        } else {
            Self::Passing(error.to_string())
        }
    }
}

/// What is wrong with branches, by their names.
pub(crate) type BranchTroubles = BTreeMap<String, BranchTrouble>;

/// All of it as one text; `None` where nothing is wrong.
pub(crate) fn in_words(troubles: &BranchTroubles) -> Option<String> {
    let told = troubles.iter().take(TOLD_AT_MOST);
    let mut parts: Vec<String> = told
        .map(|(branch, trouble)| format!("branch {branch} is not recorded: {}", trouble.words()))
        .collect();
    if troubles.len() > TOLD_AT_MOST {
        parts.push(format!("and {} more", troubles.len() - TOLD_AT_MOST));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn troubles(count: usize) -> BranchTroubles {
        (0..count)
            .map(|n| (format!("b{n}"), BranchTrouble::Passing("it is odd".into())))
            .collect()
    }

    #[test]
    fn a_few_branches_are_named_and_the_others_counted() {
        assert_eq!(in_words(&troubles(0)), None);
        let one = in_words(&troubles(1)).unwrap();
        assert_eq!(one, "branch b0 is not recorded: it is odd");
        let many = in_words(&troubles(9)).unwrap();
        assert!(many.ends_with("; and 6 more"), "{many}");
    }
}
