//! The HTTP server: the JSON API under `/api/v1`, webhooks under `/hooks`, health, and metrics.
//!
//! Handlers translate requests to calls of `trainyard_app`, and its answers and errors to statuses, headers and bodies.
//! Every route needs a token unless [`auth::OPEN`] lists it, with the scope that [`auth::PERMISSIONS`] says.

mod answer;
#[expect(
    unused_qualifications,
    reason = "the code that utoipa's macros generate for queries is qualified"
)]
mod api;
pub mod auth;
mod body;
mod budget;
mod error;
mod extract;
mod health;
mod hooks;
mod metrics;
mod server;
mod state;
mod strangers;

use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

pub use self::metrics::Render;
pub use answer::AnswerBudget;
pub use api::openapi;
pub use body::BodyBudget;
pub use server::{Connections, Peer, serve};
pub use state::{WebSettings, WebState};
pub use strangers::Strangers;

/// How long a request may take. Long polls of the API end earlier.
const REQUEST_AT_MOST: Duration = Duration::from_secs(120);

/// The router of one daemon.
pub fn router(state: WebState) -> Router {
    let (api, document) = api::router();
    let outside_api = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route(metrics::ROUTE, get(metrics::show))
        .route("/hooks/{provider}/{repo}", post(hooks::receive));
    let described = get(move || async move { answer::Json(document) });
    Router::new()
        .nest(trainyard_api::PREFIX, api)
        .route(
            &format!("{}/openapi.json", trainyard_api::PREFIX),
            described,
        )
        .merge(outside_api)
        .method_not_allowed_fallback(|| async { error::ApiError::no_such_method() })
        .route_layer(axum::middleware::from_fn_with_state(
            state.clone(),
            auth::require_token,
        ))
        .fallback(|| async { error::ApiError::not_found("there is no such route") })
        .layer(SetResponseHeaderLayer::if_not_present(
            CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .layer(SetResponseHeaderLayer::overriding(
            X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(from_fn(within_time))
        .layer(CatchPanicLayer::custom(|_| {
            // The panic hook has logged the panic.
            error::ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the request hit a bug in Trainyard; the daemon's log has the details",
            )
            .into_response()
        }))
        .with_state(state)
}

async fn within_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST_AT_MOST, next.run(request))
        .await
        .unwrap_or_else(|_| {
            error::ApiError::new(
                StatusCode::GATEWAY_TIMEOUT,
                "timeout",
                format!(
                    "the daemon did not answer within {} s",
                    REQUEST_AT_MOST.as_secs()
                ),
            )
            .into_response()
        })
}
