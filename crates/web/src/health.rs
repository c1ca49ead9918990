//! Health, for whoever restarts or routes: open to all, and silent about everything else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::Health;

use crate::state::WebState;

/// `GET /healthz`: the process answers.
pub(crate) async fn alive() -> Json<Health> {
    Json(Health {
        status: "ok".to_owned(),
        problem: None,
    })
}

/// `GET /readyz`: the database answers too.
pub(crate) async fn ready(State(state): State<WebState>) -> (StatusCode, Json<Health>) {
    match state.store().ping().await {
        Ok(()) => (
            StatusCode::OK,
            Json(Health {
                status: "ok".to_owned(),
                problem: None,
            }),
        ),
        Err(_) => {
            let problem = Some("the database does not answer".to_owned());
            let health = Health {
                status: "unavailable".to_owned(),
                problem,
            };
            (StatusCode::SERVICE_UNAVAILABLE, Json(health))
        }
    }
}
