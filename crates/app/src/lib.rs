//! What a caller may ask for and have done, apart from how the request came in: the JSON API has routes for it, and
//! pages will have theirs. Neither sees the store.
//!
//! 1. Requests and answers are types of `trainyard_api`. Errors are facts in words ([`AppError`]), without a status.
//! 2. A call that changes something takes the [`Act`](trainyard_core::principal::Act) of its caller, which the store
//!    records in the transaction of the change.
//! 3. Whether a caller may call is decided before, by the scope of its token ([`App::authenticate`]).

mod artifacts;
mod asked;
mod audit;
mod credentials;
mod dags;
mod deliveries;
mod error;
mod follow;
mod health;
mod mirrored;
mod names;
mod quarantine;
mod repos;
mod retry;
mod runs;
mod secrets;
mod sync;
mod system;
mod work;

use std::sync::Arc;
use std::time::Duration;

use trainyard_forge::Git;
use trainyard_store::{Blobs, ClaimCapacity, Retention, Store};

pub use deliveries::DeliveryTaken;
pub use error::{AppError, AppErrorKind, Result};
pub use follow::LogPlace;
pub use trainyard_store::fleet::metrics::WEBHOOK_DELIVERIES;
pub use trainyard_store::{FailingSyncs, TokenInfo};

/// What callers may do with one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct App {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    blobs: Arc<dyn Blobs>,
    git: Git,
    settings: AppSettings,
}

/// Properties and limits of the daemon that requests meet.
#[derive(Debug, Clone)]
pub struct AppSettings {
    pub version: String,
    /// The address at which forges and users reach this daemon: `http://host:port`.
    pub public_url: String,
    /// The capacity that the daemon's stages share.
    pub capacity: ClaimCapacity,
    /// The grace period between SIGTERM and SIGKILL.
    pub grace: Duration,
    pub retention: Retention,
    /// The poll interval of a repo that sets none.
    pub poll_every: Duration,
    /// How long a request that starts a run waits for a sync of the remote.
    pub refresh_at_most: Duration,
}

impl App {
    #[must_use]
    pub fn new(store: Store, blobs: Arc<dyn Blobs>, git: Git, settings: AppSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                blobs,
                git,
                settings,
            }),
        }
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn blobs(&self) -> &dyn Blobs {
        &*self.inner.blobs
    }

    fn git(&self) -> &Git {
        &self.inner.git
    }

    fn settings(&self) -> &AppSettings {
        &self.inner.settings
    }
}
