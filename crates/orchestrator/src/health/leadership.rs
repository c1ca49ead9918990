//! Holds which cluster-wide jobs this daemon leads: the keeper sets it, the loops read it.
//!
//! Two daemons may believe for a moment that they lead. That is harmless: a tick and its run are one transaction, a
//! branch moves by compare-and-set, and pruning twice removes nothing more.

use std::collections::BTreeSet;

use tokio::sync::watch;
use trainyard_store::Role;

/// The jobs that this daemon leads. Clones share them.
#[derive(Debug, Clone)]
pub struct Leadership {
    roles: watch::Sender<BTreeSet<Role>>,
}

impl Leadership {
    #[must_use]
    pub fn new() -> Self {
        Self {
            roles: watch::Sender::new(BTreeSet::new()),
        }
    }

    /// Sets the jobs that it leads from now on.
    pub fn set(&self, roles: BTreeSet<Role>) {
        self.roles.send_if_modified(|known| {
            let changed = *known != roles;
            if changed {
                tracing::info!(?roles, "this daemon leads");
                *known = roles;
            }
            changed
        });
    }

    /// Whether it leads this job now.
    #[must_use]
    pub fn leads(&self, role: Role) -> bool {
        self.roles.borrow().contains(&role)
    }

    /// Returns while it leads this job: at once, or as soon as it does.
    pub async fn leading(&self, role: Role) {
        let mut roles = self.roles.subscribe();
        if roles.wait_for(|roles| roles.contains(&role)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for Leadership {
    fn default() -> Self {
        Self::new()
    }
}
