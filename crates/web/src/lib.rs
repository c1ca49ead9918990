//! The HTTP server: the JSON API under `/api/v1`, webhooks under `/hooks`, health, and
//! figures for a monitoring system.
//!
//! Handlers translate: they ask the store, and turn what it says into wire types. They decide nothing
//! about runs. Every route needs a token unless [`auth::OPEN`] names it.

#[expect(
    unused_qualifications,
    reason = "what utoipa's macros make of queries is qualified"
)]
mod api;
pub mod auth;
mod error;
mod figures;
mod health;
mod hooks;
mod mirrored;
mod state;

use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

pub use api::openapi;
pub use figures::Render;
pub use state::{WebSettings, WebState};

/// The largest body of a request to the API, in bytes: a secret of 64 KiB with its quoting, and more.
const API_BODY_AT_MOST: usize = 1 << 20;

/// How long a request may take; long waits of the API end before.
const REQUEST_AT_MOST: Duration = Duration::from_secs(120);

/// The router of one daemon.
pub fn router(state: WebState) -> Router {
    let (api, document) = api::router();
    let beside = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route(figures::ROUTE, get(figures::show))
        .route(
            "/hooks/{provider}/{repo}",
            post(hooks::receive).layer(DefaultBodyLimit::max(state.settings().webhook_at_most)),
        );
    let described = get(move || async move { axum::Json(document) });
    Router::new()
        .nest(
            trainyard_api::PREFIX,
            api.layer(DefaultBodyLimit::max(API_BODY_AT_MOST)),
        )
        .route(
            &format!("{}/openapi.json", trainyard_api::PREFIX),
            described,
        )
        .merge(beside)
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
        .layer(TimeoutLayer::with_status_code(
            StatusCode::GATEWAY_TIMEOUT,
            REQUEST_AT_MOST,
        ))
        .layer(CatchPanicLayer::new())
        .with_state(state)
}
