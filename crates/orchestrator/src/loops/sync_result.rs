//! The results of a sync, for each branch and for the repo, in types and in words.

use std::collections::HashMap;

use trainyard_core::dag::nearest;
use trainyard_core::id::RunId;
use trainyard_core::name::DagName;
use trainyard_forge::Heads;
use trainyard_store::{RepoToSync, SyncOutcome, Weight};

use crate::loops::branch_failure::{self, BranchFailure, BranchFailures};

/// The repo has another address since a sync began, or is gone.
#[derive(Debug)]
pub(super) struct AddressChanged;

/// Why a sync ended without a whole result.
#[derive(Debug)]
pub(super) enum SyncFailure {
    /// Nothing of it counts: another one follows.
    AddressChanged,
    Failed {
        words: String,
        /// How certain it is that the repo causes it, where it costs a lot each time.
        fault: Option<Weight>,
    },
}

impl From<AddressChanged> for SyncFailure {
    fn from(AddressChanged: AddressChanged) -> Self {
        Self::AddressChanged
    }
}

impl From<AddressChanged> for BranchFailure {
    fn from(AddressChanged: AddressChanged) -> Self {
        Self::AddressChanged
    }
}

impl From<trainyard_store::Error> for SyncFailure {
    fn from(error: trainyard_store::Error) -> Self {
        Self::Failed {
            words: error.to_string(),
            fault: None,
        }
    }
}

impl From<trainyard_forge::Error> for SyncFailure {
    fn from(error: trainyard_forge::Error) -> Self {
        Self::Failed {
            words: error.to_string(),
            fault: error.is_costly().then_some(Weight::Suspect),
        }
    }
}

/// A branch that moved.
#[derive(Debug)]
pub(super) struct Moved {
    pub(super) to: String,
    /// The result, in words.
    pub(super) result: String,
}

/// The results for the branches of one repo.
#[derive(Debug, Default)]
pub(super) struct Synced {
    pub(super) moved: usize,
    /// The results by branch and commit.
    pub(super) moves: HashMap<(String, String), String>,
    /// The errors of the branches that are not recorded.
    pub(super) failures: BranchFailures,
    /// The error of the followed branch, where the remote does not have it.
    pub(super) missing: Option<String>,
}

impl Synced {
    /// Adds the result for a branch; an error that concerns all branches ends the sync.
    pub(super) fn note(
        &mut self,
        branch: &str,
        moved: Result<Option<Moved>, BranchFailure>,
    ) -> Result<(), SyncFailure> {
        match moved {
            Ok(moved) => {
                if let Some(Moved { to, result }) = moved {
                    self.moved += 1;
                    self.moves.insert((branch.to_owned(), to), result);
                }
                self.failures.remove(branch);
            }
            Err(BranchFailure::AddressChanged) => return Err(SyncFailure::AddressChanged),
            Err(BranchFailure::Everywhere(words)) => {
                return Err(SyncFailure::Failed { words, fault: None });
            }
            Err(BranchFailure::Deadly(words)) => {
                return Err(SyncFailure::Failed {
                    words,
                    fault: Some(Weight::Certain),
                });
            }
            Err(failure) => {
                self.failures.insert(branch.to_owned(), failure);
            }
        }
        Ok(())
    }

    /// The errors to count against the repo.
    pub(super) fn costly(&self) -> Option<String> {
        self.failures
            .iter()
            .find(|(_, failure)| matches!(failure, BranchFailure::Costly(_)))
            .map(|(branch, failure)| format!("branch {branch}: {}", failure.words()))
    }

    /// The result of the sync to record. An incomplete first sync takes stock once more: branches that it has not
    /// seen were not pushed since.
    pub(super) fn outcome(&self) -> SyncOutcome {
        let failures = branch_failure::in_words(&self.failures);
        let words: Vec<String> = self.missing.clone().into_iter().chain(failures).collect();
        if words.is_empty() {
            return SyncOutcome::Good;
        }
        let words = words.join("; ");
        let mut failures = self.failures.values();
        if failures.all(|failure| matches!(failure, BranchFailure::Refused(_))) {
            SyncOutcome::AllBut(words)
        } else {
            SyncOutcome::Failed(words)
        }
    }
}

/// The runs that a push started; `None` without any.
pub(super) fn started(runs: &[RunId]) -> Option<String> {
    let numbers: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let runs = if runs.len() == 1 { "run" } else { "runs" };
    (!numbers.is_empty()).then(|| format!("started {runs} {}", numbers.join(", ")))
}

/// Why a branch that moved started no run.
pub(super) fn why_no_run(
    synced_before: bool,
    is_followed: bool,
    matches: &[DagName],
    faults: usize,
) -> String {
    let names: Vec<&str> = matches.iter().map(DagName::as_str).collect();
    let one = names.len() == 1;
    match faults {
        _ if !synced_before => "the first sync starts nothing".to_owned(),
        0 if one => format!("DAG {} is paused", names[0]),
        0 if !names.is_empty() => format!("DAGs {} are paused", names.join(", ")),
        0 if is_followed => "no push trigger matches".to_owned(),
        0 => "branch not followed, no push trigger matches".to_owned(),
        1 => "a DAG file has faults".to_owned(),
        _ => format!("{faults} DAG files have faults"),
    }
}

/// The error where the remote does not have the branch that is to be followed.
pub(super) fn missing_branch(repo: &RepoToSync, heads: &Heads) -> Option<String> {
    let followed = repo.followed_branch.as_ref()?;
    if heads.branches.contains_key(followed) || heads.refused.contains_key(followed) {
        return None;
    }
    if heads.branches.is_empty() && heads.refused.is_empty() {
        return Some("the remote has no branch yet: commit something first".to_owned());
    }
    let known = heads.branches.keys().map(String::as_str);
    let meant = nearest(followed, known).map(|name| format!("; did you mean `{name}`?"));
    Some(format!(
        "the remote has no branch `{followed}`{}",
        meant.unwrap_or_default()
    ))
}
