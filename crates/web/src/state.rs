//! The state that all handlers share.

use std::sync::Arc;

use trainyard_forge::Git;
use trainyard_store::{Blobs, ClaimCapacity, Retention, Store};

use crate::answer::AnswerBudget;
use crate::body::BodyBudget;
use crate::health::Asked;
use crate::metrics::{Counted, Render};
use crate::strangers::Strangers;

/// The state that all handlers share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WebState {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) git: Git,
    pub(crate) settings: WebSettings,
    pub(crate) asked: Asked,
    pub(crate) counted: Counted,
}

/// Properties and limits of the daemon that handlers use.
#[derive(Debug, Clone)]
pub struct WebSettings {
    pub version: String,
    /// The address at which forges and users reach this daemon: `http://host:port`.
    pub public_url: String,
    /// The capacity that the daemon's stages share.
    pub capacity: ClaimCapacity,
    /// The grace period between SIGTERM and SIGKILL.
    pub grace: std::time::Duration,
    pub retention: Retention,
    /// The poll interval of a repo that sets none.
    pub poll_every: std::time::Duration,
    /// How long a request that starts a run waits for a sync of the remote.
    pub refresh_at_most: std::time::Duration,
    /// The largest webhook delivery that is read, in bytes.
    pub webhook_at_most: usize,
    /// The bytes that bodies of requests may have in memory together.
    pub bodies: BodyBudget,
    /// The bytes of answers that may be unread together.
    pub answers: AnswerBudget,
    /// The limits for peers without a valid token.
    pub strangers: Strangers,
    /// Renders `/metrics`.
    pub metrics: Render,
    /// Whether `/metrics` needs no token.
    pub metrics_are_public: bool,
}

impl WebState {
    /// The state of one daemon's server.
    #[must_use]
    pub fn new(store: Store, blobs: Arc<dyn Blobs>, git: Git, settings: WebSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                blobs,
                git,
                settings,
                asked: Asked::default(),
                counted: Counted::default(),
            }),
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    pub(crate) fn blobs(&self) -> &dyn Blobs {
        &*self.inner.blobs
    }

    pub(crate) fn git(&self) -> &Git {
        &self.inner.git
    }

    pub(crate) fn bodies(&self) -> &BodyBudget {
        &self.inner.settings.bodies
    }

    pub(crate) fn answers(&self) -> &AnswerBudget {
        &self.inner.settings.answers
    }

    pub(crate) fn strangers(&self) -> &Strangers {
        &self.inner.settings.strangers
    }

    pub(crate) fn settings(&self) -> &WebSettings {
        &self.inner.settings
    }
}
