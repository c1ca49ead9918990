//! Which of the jobs that one daemon does for all are this one's: the keeper finds out, the loops heed it.
//!
//! Two daemons may believe for a moment that they lead. That is harmless: a tick and its run are one
//! transaction, a branch moves by compare-and-set, and what is pruned is pruned once.

use std::collections::BTreeSet;

use tokio::sync::watch;
use trainyard_store::Role;

/// What this daemon leads. Clones know the same.
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

    /// Sets what it leads from now on.
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

    /// Whether it leads this now.
    #[must_use]
    pub fn leads(&self, role: Role) -> bool {
        self.roles.borrow().contains(&role)
    }

    /// Returns while it leads this: at once, or as soon as it does.
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
