//! `trainyard doctor`: checks, without a daemon, whether one could start.
//!
//! Each check examines one thing, changes nothing, and says what to do if something is wrong. It runs with the
//! caller's rights: call it as the daemon's user.

mod engine;
mod machine;
mod postgres;

use serde::Serialize;

use crate::config::{Config, ExecutorKind};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The name of the check: `Docker engine`.
    pub name: &'static str,
    pub status: CheckStatus,
    /// The finding, in one sentence.
    pub detail: String,
    /// What to do, if something is wrong.
    pub what_to_do: Option<String>,
}

/// The status of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// Good.
    Ok,
    /// This program cannot find out.
    Unknown,
    /// It works, but may cause problems.
    Warning,
    /// The daemon would not start, or its stages would fail.
    Failed,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: CheckStatus::Ok,
            detail: detail.into(),
            what_to_do: None,
        }
    }

    fn unknown(
        name: &'static str,
        detail: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self {
            status: CheckStatus::Unknown,
            ..Self::warning(name, detail, what_to_do)
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
            status: CheckStatus::Warning,
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
            status: CheckStatus::Failed,
            detail: detail.into(),
            what_to_do,
        }
    }
}

/// Checks everything that a daemon with this configuration needs.
pub async fn examine(config: &Config) -> Vec<Check> {
    let mut checks = match config.executor {
        ExecutorKind::Docker => engine::checks(config).await,
        ExecutorKind::Fake => vec![Check::warning(
            "Executor",
            "the fake executor only simulates stages: nothing runs",
            "set executor = \"docker\" for real runs",
        )],
    };
    checks.push(postgres::check(config).await);
    checks.extend(machine::checks(config).await);
    checks
}

/// The worst status of all checks, which decides the exit code.
#[must_use]
pub fn worst(checks: &[Check]) -> CheckStatus {
    checks
        .iter()
        .map(|check| check.status)
        .max()
        .unwrap_or(CheckStatus::Ok)
}
