//! Causes: the fact that started a run, with the key that makes a second report of the same fact harmless.

use std::collections::BTreeSet;
use std::fmt;

use crate::Timestamp;
use crate::id::{DagId, RepoId, RunId};
use crate::name::StageName;
use crate::text::short_commit;

/// The fact that a run is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CauseKind {
    /// A tick of a schedule.
    Schedule {
        /// The tick; it is the run's logical time.
        tick: Timestamp,
        /// The schedule's cron expression and time zone, for people: `0 3 * * * (Europe/Berlin)`.
        schedule: String,
    },
    /// A branch moved.
    Push {
        /// The branch's name without `refs/heads/`.
        branch: String,
        /// Where it pointed before; `None` for a new branch.
        before: Option<String>,
        /// How often this branch has been seen to move; distinguishes a forced push back from the first push.
        generation: i64,
    },
    /// A person or a program requested it.
    Manual {
        /// The requested branch, tag or commit; `None` is the followed branch.
        reference: Option<String>,
        /// A key that the requester chose so that a repeated request starts no second run.
        request: Option<String>,
    },
    /// A person or a program requested an earlier run again.
    Retry {
        of: RunId,
        /// Which of its stages run again.
        again: Again,
        at: RetryAt,
        /// A key that the requester chose so that a repeated request starts no second run.
        request: Option<String>,
    },
}

/// Which stages of an earlier run a retry runs again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    All,
    /// Those that did not succeed, and all after them.
    FromFailed,
    /// This one and all after it, and each one before it that did not succeed.
    From(StageName),
}

/// At which commit an earlier run is retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryAt {
    SameCommit {
        /// The head of its branch when the retry was asked for, where that was another commit.
        branch_head: Option<String>,
    },
    /// That of a branch, tag or commit: the run is resumed with other code.
    Reference {
        reference: String,
        /// The stages whose Dockerfile differs between the two commits.
        rebuilt: BTreeSet<StageName>,
    },
}

impl CauseKind {
    pub const PUSH: &'static str = "push";

    /// The kind's word: as stored, as shown, and as stages see it in `TRAINYARD_CAUSE`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => "schedule",
            Self::Push { .. } => Self::PUSH,
            Self::Manual { .. } => "manual",
            Self::Retry { .. } => "retry",
        }
    }

    /// The cause for people: `push to main by ada`.
    #[must_use]
    pub fn in_words(&self, actor: Option<&str>) -> String {
        let by = actor.map(|name| format!(" by {name}")).unwrap_or_default();
        match self {
            Self::Schedule { schedule, .. } => format!("schedule {schedule}"),
            Self::Push { branch, .. } => format!("push to {branch}{by}"),
            Self::Manual {
                reference: None, ..
            } => format!("started{by}"),
            Self::Manual {
                reference: Some(reference),
                ..
            } => format!("started at {reference}{by}"),
            Self::Retry { of, again, at, .. } => {
                let from = match (again, at) {
                    (Again::All, _) | (Again::FromFailed, RetryAt::Reference { .. }) => {
                        String::new()
                    }
                    (Again::FromFailed, RetryAt::SameCommit { .. }) => {
                        ", from what failed".to_owned()
                    }
                    (Again::From(stage), _) => format!(", from {stage}"),
                };
                match at {
                    RetryAt::SameCommit { branch_head: None } => {
                        format!("run {of} again{from}{by}")
                    }
                    RetryAt::SameCommit {
                        branch_head: Some(head),
                    } => format!(
                        "run {of} again{from}{by}, at its old commit: the branch was at {}",
                        short_commit(head)
                    ),
                    RetryAt::Reference { reference, .. } => {
                        format!("run {of} resumed at {reference}{from}{by}")
                    }
                }
            }
        }
    }
}

/// A cause as it is recorded. Every cause, whatever its origin, goes through one function of the
/// store that is unique on its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub kind: CauseKind,
    /// The name of the principal that asked for the run; of a push, the name that the forge or the commit has.
    pub actor: Option<String>,
    /// The full hash of the commit that the run is of; empty where there is none.
    pub commit: String,
    /// The commit's first line, for people.
    pub summary: String,
    /// The branch that the run is of, where there is one.
    pub branch: Option<String>,
}

/// The key on which causes are unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CauseKey(String);

impl CauseKey {
    /// The key of a cause of one DAG. `None` where every report is a fact of its own: a request without a key.
    #[must_use]
    pub fn of(kind: &CauseKind, repo: RepoId, dag: DagId) -> Option<Self> {
        let key = match kind {
            CauseKind::Schedule { tick, schedule } => {
                format!("schedule:{dag}:{schedule}:{}", tick.timestamp())
            }
            CauseKind::Push {
                branch, generation, ..
            } => {
                format!("push:{repo}:{branch}:{generation}:{dag}")
            }
            CauseKind::Manual { request, .. } => format!("manual:{dag}:{}", request.as_ref()?),
            CauseKind::Retry { of, request, .. } => format!("retry:{of}:{}", request.as_ref()?),
        };
        Some(Self(key))
    }

    /// The key as stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CauseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
