//! `/metrics`: the daemon's figures, as Prometheus reads them (docs/metrics.md).
//!
//! What is counted on the way is only rendered here. What the whole installation has is counted when it is
//! asked for; where the database does not answer, the rest is told all the same.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};

use crate::state::WebState;

/// The route.
pub(crate) const ROUTE: &str = "/metrics";

/// The text format of Prometheus.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the database may take to count.
const COUNT_AT_MOST: Duration = Duration::from_secs(2);

/// What renders the figures that were recorded; whoever installed the recorder has it.
#[derive(Clone)]
pub struct Render(Arc<dyn Fn() -> String + Send + Sync>);

impl Render {
    /// Renders by calling `render`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }

    /// The figures as they are now.
    #[must_use]
    pub fn call(&self) -> String {
        (self.0)()
    }
}

impl fmt::Debug for Render {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Render").finish_non_exhaustive()
    }
}

/// `GET /metrics`
pub(crate) async fn show(
    State(state): State<WebState>,
) -> ([(HeaderName, &'static str); 1], String) {
    let counting = state.store().count_for_figures();
    // Whether it answered is one of the figures.
    drop(tokio::time::timeout(COUNT_AT_MOST, counting).await);
    ([(CONTENT_TYPE, FORMAT)], state.settings().figures.call())
}
