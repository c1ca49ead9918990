//! Typed ids, one per kind of row, so that a run's id cannot be passed where a repo's is meant.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

uuid_ids! {
    /// A followed git remote.
    RepoId;
    /// A DAG: one name in one repo, across all its versions.
    DagId;
    /// A DAG as parsed at one commit; immutable.
    DagVersionId;
    /// One try of a stage run. Also names its container.
    AttemptId;
    /// One daemon process, from its start to its end.
    DaemonId;
    /// One Trainyard installation: every daemon on one database. Labels its containers.
    InstanceId;
    /// The cause of a run, or of a run that was refused.
    CauseId;
    /// One webhook delivery as received.
    DeliveryId;
    /// An API token.
    TokenId;
}

/// A run's number, counted up within one database; what people type at the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub i64);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not the number of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid run number: expected digits, as in 42")]
pub struct InvalidRunNumber;

impl FromStr for RunId {
    type Err = InvalidRunNumber;

    /// Reads `42` and, as people write it, `#42`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('#').unwrap_or(text).parse();
        number.map(Self).map_err(|_| InvalidRunNumber)
    }
}

/// The number that makes a late writer harmless: it only grows, and every write for an attempt
/// carries the one its claim was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
