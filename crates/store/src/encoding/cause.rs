//! Causes: the column `detail`, beside the kind's word.

use serde::{Deserialize, Serialize};
use trainyard_core::Timestamp;
use trainyard_core::cause::{Again, CauseKind};
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
        request: Option<String>,
    },
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
            CauseKind::Retry { of, again, request } => {
                let again = match again {
                    Again::All => AgainDoc::All,
                    Again::FromFailed => AgainDoc::FromFailed,
                    Again::From(stage) => AgainDoc::From(stage.to_string()),
                };
                Self::Retry {
                    of: of.0,
                    again,
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
            CauseDoc::Retry { of, again, request } => {
                let again = match again {
                    AgainDoc::All => Again::All,
                    AgainDoc::FromFailed => Again::FromFailed,
                    AgainDoc::From(stage) => {
                        Again::From(StageName::new(stage).map_err(|fault| fault.to_string())?)
                    }
                };
                Self::Retry {
                    of: RunId(of),
                    again,
                    request,
                }
            }
        })
    }
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
                request: Some("k".into()),
            },
        ];
        for kind in kinds {
            let json = serde_json::to_value(CauseDoc::from(&kind)).unwrap();
            let doc: CauseDoc = serde_json::from_value(json).unwrap();
            assert_eq!(CauseKind::try_from(doc), Ok(kind));
        }
    }
}
