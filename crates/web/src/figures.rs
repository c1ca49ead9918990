//! `/metrics`: the daemon's figures, as Prometheus reads them (docs/metrics.md).
//!
//! What is counted on the way is only rendered here. What the whole installation has is counted when it is
//! asked for; where the database does not answer, the rest is told all the same.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::state::WebState;

pub(crate) const ROUTE: &str = "/metrics";

/// The text format of Prometheus.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the database may take to count.
const COUNT_AT_MOST: Duration = Duration::from_secs(2);

/// How long a count stands: where figures are public anybody may ask, and must not load the database.
const STANDS_FOR: Duration = Duration::from_secs(1);

/// When the database was asked to count. One asks at a time, for all who wait meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Option<Instant>>);

impl Counted {
    async fn renew(&self, state: &WebState) {
        let mut last = self.0.lock().await;
        if last.is_some_and(|at| at.elapsed() < STANDS_FOR) {
            return;
        }
        let counting = state.store().count_for_figures();
        // Whether it answered is one of the figures.
        drop(tokio::time::timeout(COUNT_AT_MOST, counting).await);
        *last = Some(Instant::now());
    }
}

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
    state.inner.counted.renew(&state).await;
    ([(CONTENT_TYPE, FORMAT)], state.settings().figures.call())
}
