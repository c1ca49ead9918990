//! Causes: the column `detail`, next to the kind.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use trainyard_core::Timestamp;
use trainyard_core::cause::{Again, CauseKind, RetryAt};
use trainyard_core::id::RunId;
use trainyard_core::name::StageName;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CauseDoc {
    Schedule {
        tick: Timestamp,
        schedule: String,
    },
    Push {
        branch: String,
        before: Option<String>,
        generation: i64,
    },
    Manual {
        reference: Option<String>,
        request: Option<String>,
    },
    Retry {
        of: i64,
        again: AgainDoc,
        #[serde(default)]
        at: RetryAtDoc,
        request: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RetryAtDoc {
    SameCommit {
        branch_head: Option<String>,
    },
    Reference {
        reference: String,
        rebuilt: BTreeSet<String>,
    },
}

impl Default for RetryAtDoc {
    /// How a retry worked before there was a choice.
    fn default() -> Self {
        let branch_head = None;
        Self::SameCommit { branch_head }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgainDoc {
    All,
    FromFailed,
    From(String),
}

impl From<&CauseKind> for CauseDoc {
    fn from(kind: &CauseKind) -> Self {
        match kind.clone() {
            CauseKind::Schedule { tick, schedule } => Self::Schedule { tick, schedule },
            CauseKind::Push {
                branch,
                before,
                generation,
            } => Self::Push {
                branch,
                before,
                generation,
            },
            CauseKind::Manual { reference, request } => Self::Manual { reference, request },
            CauseKind::Retry {
                of,
                again,
                at,
                request,
            } => {
                let again = match again {
                    Again::All => AgainDoc::All,
                    Again::FromFailed => AgainDoc::FromFailed,
                    Again::From(stage) => AgainDoc::From(stage.to_string()),
                };
                let at = match at {
                    RetryAt::SameCommit { branch_head } => RetryAtDoc::SameCommit { branch_head },
                    RetryAt::Reference { reference, rebuilt } => RetryAtDoc::Reference {
                        reference,
                        rebuilt: rebuilt.iter().map(ToString::to_string).collect(),
                    },
                };
                Self::Retry {
                    of: of.0,
                    again,
                    at,
                    request,
                }
            }
        }
    }
}

impl TryFrom<CauseDoc> for CauseKind {
    type Error = String;

    fn try_from(doc: CauseDoc) -> Result<Self, String> {
        Ok(match doc {
            CauseDoc::Schedule { tick, schedule } => Self::Schedule { tick, schedule },
            CauseDoc::Push {
                branch,
                before,
                generation,
            } => Self::Push {
                branch,
                before,
                generation,
            },
            CauseDoc::Manual { reference, request } => Self::Manual { reference, request },
            CauseDoc::Retry {
                of,
                again,
                at,
                request,
            } => {
                let again = match again {
                    AgainDoc::All => Again::All,
                    AgainDoc::FromFailed => Again::FromFailed,
                    AgainDoc::From(stage) => Again::From(stage_name(stage)?),
                };
                let at = match at {
                    RetryAtDoc::SameCommit { branch_head } => RetryAt::SameCommit { branch_head },
                    RetryAtDoc::Reference { reference, rebuilt } => RetryAt::Reference {
                        reference,
                        rebuilt: rebuilt
                            .into_iter()
                            .map(stage_name)
                            .collect::<Result<_, _>>()?,
                    },
                };
                Self::Retry {
                    of: RunId(of),
                    again,
                    at,
                    request,
                }
            }
        })
    }
}

fn stage_name(text: String) -> Result<StageName, String> {
    StageName::new(text).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_read_back() {
        let kinds = [
            CauseKind::Schedule {
                tick: "2026-11-23T03:00:00Z".parse().unwrap(),
                schedule: "0 3 * * * (UTC)".into(),
            },
            CauseKind::Push {
                branch: "main".into(),
                before: None,
                generation: 4,
            },
            CauseKind::Manual {
                reference: Some("v1".into()),
                request: None,
            },
            CauseKind::Retry {
                of: RunId(7),
                again: Again::From(StageName::new("train").unwrap()),
                at: RetryAt::SameCommit {
                    branch_head: Some("ab".repeat(20)),
                },
                request: Some("k".into()),
            },
            CauseKind::Retry {
                of: RunId(7),
                again: Again::FromFailed,
                at: RetryAt::Reference {
                    reference: "main".into(),
                    rebuilt: ["train".parse().unwrap()].into(),
                },
                request: None,
            },
        ];
        for kind in kinds {
            let json = serde_json::to_value(CauseDoc::from(&kind)).unwrap();
            let doc: CauseDoc = serde_json::from_value(json).unwrap();
            assert_eq!(CauseKind::try_from(doc), Ok(kind));
        }
    }

    #[test]
    fn a_retry_that_was_recorded_before_there_was_a_choice_is_at_its_own_commit() {
        let json = r#"{"retry": {"of": 7, "again": "from_failed", "request": null}}"#;
        let doc: CauseDoc = serde_json::from_str(json).unwrap();
        let expected = CauseKind::Retry {
            of: RunId(7),
            again: Again::FromFailed,
            at: RetryAt::SameCommit { branch_head: None },
            request: None,
        };
        assert_eq!(CauseKind::try_from(doc), Ok(expected));
    }
}
