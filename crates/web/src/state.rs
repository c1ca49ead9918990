//! The state that all handlers share.

use std::sync::Arc;

use trainyard_app::App;

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
    pub(crate) app: App,
    pub(crate) settings: WebSettings,
    pub(crate) asked: Asked,
    pub(crate) counted: Counted,
}

/// Limits of the server, and its metrics.
#[derive(Debug, Clone)]
pub struct WebSettings {
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
    pub fn new(app: App, settings: WebSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                app,
                settings,
                asked: Asked::default(),
                counted: Counted::default(),
            }),
        }
    }

    pub(crate) fn app(&self) -> &App {
        &self.inner.app
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
