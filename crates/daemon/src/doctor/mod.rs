//! What stands in the way of a start, found out without a daemon.
//!
//! Each check looks at one thing, changes nothing, and says what to do where something is wrong. It
//! looks as whoever calls it: call it as the daemon's user.

mod engine;
mod machine;
mod postgres;

use serde::Serialize;

use crate::config::{Config, ExecutorKind};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What: `Docker engine`.
    pub name: &'static str,
    pub status: Status,
    /// What was found, in one sentence.
    pub detail: String,
    /// What to do, where something is wrong.
    pub what_to_do: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Good.
    Ok,
    /// It works, and deserves a look.
    Warning,
    /// The daemon would not start, or its stages would fail.
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            detail: detail.into(),
            what_to_do: None,
        }
    }

    fn warning(
        name: &'static str,
        detail: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        let what_to_do = Some(what_to_do.into());
        Self {
            name,
            status: Status::Warning,
            detail: detail.into(),
            what_to_do,
        }
    }

    fn failed(
        name: &'static str,
        detail: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        let what_to_do = Some(what_to_do.into());
        Self {
            name,
            status: Status::Failed,
            detail: detail.into(),
            what_to_do,
        }
    }
}

/// Looks at everything that a daemon of this configuration needs.
pub async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = match config.executor {
        ExecutorKind::Docker => engine::checks(config).await,
        ExecutorKind::Fake => vec![Check::warning(
            "Executor",
            "stages are only played: nothing of them runs",
            "set executor = \"docker\" for real runs",
        )],
    };
    checks.push(postgres::check(config).await);
    checks.extend(machine::checks(config));
    checks
}

/// The worst of all, which decides the exit code.
#[must_use]
pub fn worst(checks: &[Check]) -> Status {
    checks
        .iter()
        .map(|check| check.status)
        .max()
        .unwrap_or(Status::Ok)
}
