//! Health for process supervisors and load balancers: open to all, and reveals nothing else.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::Instant;
use trainyard_api::{Health, Readiness, ReadyState};
use trainyard_app::FailingSyncs;
use trainyard_core::measure::counted;

use crate::state::WebState;

/// How long the database may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// How long an answer of the database is cached: requests by anyone must not load the database.
const COUNTS_FOR: Duration = Duration::from_secs(1);

/// The last answer of the database, and its time. One request asks at a time; the others wait for its result.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<Option<(Instant, Answer)>>);

/// `None` where the database does not answer.
type Answer = Option<Option<FailingSyncs>>;

impl Asked {
    async fn answer(&self, state: &WebState) -> Answer {
        let mut last = self.0.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < COUNTS_FOR
        {
            return answer;
        }
        let asking = tokio::time::timeout(ANSWER, state.app().failing_syncs()).await;
        let answer = asking.ok().and_then(Result::ok);
        *last = Some((Instant::now(), answer));
        answer
    }
}

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
    })
}

/// `GET /readyz`: whether the daemon can do its work, and which problems keep it from that. A degraded daemon still
/// answers 200, so that load balancers keep routing to it; without its database it answers 503.
pub(crate) async fn ready(State(state): State<WebState>) -> (StatusCode, Json<Readiness>) {
    let mut reasons = Vec::new();
    let answer = state.inner.asked.answer(&state).await;
    let has_database = answer.is_some();
    if !has_database {
        reasons.push("the database does not answer".to_owned());
    }
    reasons.extend(state.app().troubles());
    reasons.extend(answer.flatten().map(in_words));
    let (status, state) = match (has_database, reasons.is_empty()) {
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, ReadyState::Unready),
        (true, false) => (StatusCode::OK, ReadyState::Degraded),
        (true, true) => (StatusCode::OK, ReadyState::Ready),
    };
    (status, Json(Readiness { state, reasons }))
}

/// Without the repos' names: the route is open to anyone.
fn in_words(failing: FailingSyncs) -> String {
    let since = failing.since.format("%Y-%m-%d %H:%M:%S UTC");
    let have = if failing.repos == 1 { "has" } else { "have" };
    let repos = counted(failing.repos, "repo");
    format!(
        "{repos} {have} failed to sync since {since}; `trainyard repo list` shows which, and why"
    )
}
