//! Who may call: a bearer token on every route but the few that name themselves open.
//!
//! The check is a layer over the whole router, so a new route is closed until somebody opens it in
//! [`OPEN`]; paths are compared as they were routed, never as text with tricks in it.

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;

use crate::error::ApiError;
use crate::figures;
use crate::state::WebState;

/// Routes that need no token: health, and webhooks, which carry a signature instead. Whether figures are
/// among them is the configuration's to say.
pub const OPEN: [&str; 3] = ["/healthz", "/readyz", "/hooks/{provider}/{repo}"];

/// Who calls: the name of the token.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

/// Lets a request through if its route is open or its token is good.
pub(crate) async fn require_token(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_open = request
        .extensions()
        .get::<MatchedPath>()
        .is_some_and(|path| {
            OPEN.contains(&path.as_str())
                || (path.as_str() == figures::ROUTE && state.settings().figures_are_public)
        });
    if is_open {
        return next.run(request).await;
    }
    let presented = bearer(&request);
    match caller(&state, presented).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

fn bearer(request: &Request) -> Option<SecretString> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    Some(SecretString::from(value.strip_prefix("Bearer ")?.trim()))
}

async fn caller(state: &WebState, presented: Option<SecretString>) -> Result<Caller, ApiError> {
    let presented = presented.ok_or_else(|| ApiError::unauthorized("this needs a token"))?;
    match state.store().authenticate(&presented).await? {
        Some(token) => Ok(Caller(token.name)),
        None => Err(ApiError::unauthorized(
            "the token is not known, or was revoked",
        )),
    }
}
