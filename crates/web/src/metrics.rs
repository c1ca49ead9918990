//! `/metrics`: the daemon's metrics in the format of Prometheus (docs/metrics.md).
//!
//! Metrics of this process are recorded where they occur, and only rendered here. Metrics of the whole installation
//! are counted in the database on request; when the database does not answer, the others are still served.

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

/// How long counting in the database may take.
const COUNT_AT_MOST: Duration = Duration::from_secs(2);

/// How long a count is cached: where `/metrics` is public, requests by anyone must not load the database.
const STANDS_FOR: Duration = Duration::from_secs(1);

/// When the database last counted. One request asks at a time; the others wait for its result.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Option<Instant>>);

impl Counted {
    async fn renew(&self, state: &WebState) {
        let mut last = self.0.lock().await;
        if last.is_some_and(|at| at.elapsed() < STANDS_FOR) {
            return;
        }
        let counting = state.app().count_for_metrics();
        // Whether it answered is a metric of its own.
        drop(tokio::time::timeout(COUNT_AT_MOST, counting).await);
        *last = Some(Instant::now());
    }
}

/// Renders the recorded metrics. The daemon, which installs the recorder, provides it.
#[derive(Clone)]
pub struct Render(Arc<dyn Fn() -> String + Send + Sync>);

impl Render {
    /// Renders by calling `render`.
    pub fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Arc::new(render))
    }

    /// The present metrics.
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
    ([(CONTENT_TYPE, FORMAT)], state.settings().metrics.call())
}
