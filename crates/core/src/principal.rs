//! Principals: who makes a change, and the word for each kind of change in the audit log.

use std::fmt;
use std::net::IpAddr;

use crate::id::{DaemonId, TokenId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrincipalKind {
    /// The user of the machine who started a daemon.
    User,
    /// The holder of an API token.
    Token,
    /// A daemon that changes something at its start.
    Daemon,
}

impl PrincipalKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Token => "token",
            Self::Daemon => "daemon",
        }
    }
}

/// Who makes a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub kind: PrincipalKind,
    /// Distinguishes principals of one name: a token may have the name of an earlier one that was revoked.
    pub id: String,
    pub name: String,
}

impl Principal {
    #[must_use]
    pub fn token(id: TokenId, name: impl Into<String>) -> Self {
        Self {
            kind: PrincipalKind::Token,
            id: id.to_string(),
            name: name.into(),
        }
    }

    #[must_use]
    pub fn daemon(id: DaemonId, host: impl Into<String>) -> Self {
        Self {
            kind: PrincipalKind::Daemon,
            id: id.to_string(),
            name: host.into(),
        }
    }

    #[must_use]
    pub fn user(uid: u32, name: impl Into<String>) -> Self {
        Self {
            kind: PrincipalKind::User,
            id: uid.to_string(),
            name: name.into(),
        }
    }
}

/// A principal that is about to change something. Every call of the store by which a principal changes something takes
/// one, and records it with the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    pub by: Principal,
    /// The address that the request came from: the reverse proxy's where there is one. `None` for what is not requested
    /// over the network.
    pub peer: Option<IpAddr>,
}

impl Act {
    /// Of a principal on the daemon's own machine.
    #[must_use]
    pub const fn local(by: Principal) -> Self {
        Self { by, peer: None }
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $word:literal,)*) => {
        /// A kind of change that principals make. The words are those of the command line.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AuditAction {
            $($(#[$doc])* $action,)*
        }

        impl AuditAction {
            pub const ALL: &[Self] = &[$(Self::$action,)*];

            /// As recorded and shown: `secret.set`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $word,)*
                }
            }

            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.as_str() == word)
            }
        }
    };
}

actions! {
    RepoAdd = "repo.add",
    RepoSet = "repo.set",
    RepoRemove = "repo.remove",
    DagTrigger = "dag.trigger",
    DagPause = "dag.pause",
    DagUnpause = "dag.unpause",
    DagRemove = "dag.remove",
    RunCancel = "run.cancel",
    RunAbandon = "run.abandon",
    RunRetry = "run.retry",
    SecretSet = "secret.set",
    SecretRemove = "secret.remove",
    TokenCreate = "token.create",
    TokenRevoke = "token.revoke",
    QuarantineRelease = "quarantine.release",
    /// Garbage that was removed on request. Retention by itself is not recorded.
    Gc = "gc",
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
