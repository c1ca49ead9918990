//! The operator's rules for addresses.

use serde::{Deserialize, Serialize};

/// The operator's rules for addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UrlRules {
    /// Whether repositories on this machine's own disk may be followed, as `file:///srv/model.git` or
    /// `/srv/model.git`. Off by default: a user who may add a repo could read any repository that the
    /// daemon's user can.
    pub allow_file_urls: bool,
    /// Whether remotes may be on this machine: services that only this machine may see are then readable.
    pub allow_loopback: bool,
    /// Whether remotes may be in private networks.
    pub allow_private: bool,
    /// Hosts that may be followed wherever they are.
    pub hosts: Vec<String>,
    /// Whether a password may be sent without encryption. To this machine it always may.
    pub allow_open_passwords: bool,
}
