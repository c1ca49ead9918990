//! What an operator allows addresses to be.

use serde::{Deserialize, Serialize};

/// What an operator allows addresses to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UrlRules {
    /// Whether repositories on this machine's own disk may be followed, as `file:///srv/model.git`
    /// or `/srv/model.git`. Off by default: whoever may add a repo could read any repository that
    /// the daemon's user can.
    pub allow_file_urls: bool,
    /// Whether remotes may be on this machine: what only it may see is readable then.
    pub allow_loopback: bool,
    /// Whether remotes may be in private networks.
    pub allow_private: bool,
    /// Hosts that may be followed wherever they are.
    pub hosts: Vec<String>,
    /// Whether a password may be sent without encryption. To this machine it always may.
    pub allow_open_passwords: bool,
}
