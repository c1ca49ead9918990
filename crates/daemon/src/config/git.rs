//! The settings for remotes of repos.

use serde::Serialize;

use super::faults::Faults;
use super::hosts::Hosts;
use super::quantity::{Size, Span};
use super::sections::GitSettings;

/// With less memory, git does not start.
const LEAST_MEMORY: Size = Size::mebibytes(64);

/// Remotes need some time for each answer.
const SHORTEST_FETCH: Span = Span::seconds(10);

/// Remotes of repos.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Git {
    /// Memory for one fetch, or to read one commit.
    pub memory: Size,
    /// Longest fetch.
    pub fetch_time: Span,
    /// Largest fetch.
    pub fetch_size: Size,
    /// Least bytes per second.
    pub slowest: Size,
    /// Whether remotes may be on this machine.
    #[serde(skip)]
    pub loopback: bool,
    /// Whether remotes may be in private networks.
    pub private_addresses: bool,
    /// Hosts that are permitted at any address.
    pub hosts: Hosts,
    /// Whether passwords may be sent without encryption.
    pub open_passwords: bool,
}

impl Git {
    pub(super) fn new(given: GitSettings, is_dev: bool) -> Self {
        Self {
            memory: given.memory.unwrap_or(Size::mebibytes(1024)),
            fetch_time: given.fetch_time.unwrap_or(Span::seconds(30 * 60)),
            fetch_size: given.fetch_size.unwrap_or(Size::mebibytes(4096)),
            slowest: given.slowest.unwrap_or(Size(1 << 10)),
            loopback: is_dev,
            private_addresses: given.private_addresses.unwrap_or(is_dev),
            hosts: given.hosts.unwrap_or_default(),
            open_passwords: given.open_passwords.unwrap_or(false),
        }
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        faults.require(
            self.memory >= LEAST_MEMORY,
            format!("git.memory must be at least {LEAST_MEMORY}"),
        );
        faults.require(
            self.fetch_time >= SHORTEST_FETCH,
            format!("git.fetch_time must be at least {SHORTEST_FETCH}"),
        );
    }
}
