//! Authentication and permissions: every route needs a bearer token, except the few that [`OPEN`] lists.
//!
//! 1. The check is a layer over the whole router, so a new route is closed until it has an entry in [`PERMISSIONS`].
//! 2. Paths are compared as they were routed, never as the text of the request, which may be encoded in many ways.
//! 3. The handler gets the [`Act`] of the caller, which it passes on with each change.

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use trainyard_api::TokenScope;
use trainyard_api::TokenScope::{Admin, Read};
use trainyard_app::TokenInfo;
use trainyard_core::principal::{Act, Principal};

use crate::budget::Account;
use crate::error::ApiError;
use crate::metrics;
use crate::server::Peer;
use crate::state::WebState;

/// Routes that need no token: health, and webhooks, which carry a signature instead. The configuration decides
/// whether `/metrics` is open as well.
pub const OPEN: [&str; 3] = ["/healthz", "/readyz", "/hooks/{provider}/{repo}"];

/// The scope that each method of each other route needs. GET stands for HEAD as well.
pub const PERMISSIONS: &[(&str, &str, TokenScope)] = &[
    ("GET", "/metrics", Read),
    ("GET", "/api/v1/openapi.json", Read),
    ("GET", "/api/v1/daemon", Read),
    ("GET", "/api/v1/daemons", Read),
    ("GET", "/api/v1/violations", Read),
    ("GET", "/api/v1/quarantine", Read),
    ("DELETE", "/api/v1/quarantine/{id}", Admin),
    ("GET", "/api/v1/audit", Admin),
    ("GET", "/api/v1/tokens", Read),
    ("POST", "/api/v1/tokens", Admin),
    ("DELETE", "/api/v1/tokens/{token}", Admin),
    ("POST", "/api/v1/gc", Admin),
    ("GET", "/api/v1/repos", Read),
    ("POST", "/api/v1/repos", Admin),
    ("GET", "/api/v1/repos/{repo}", Read),
    ("PATCH", "/api/v1/repos/{repo}", Admin),
    ("DELETE", "/api/v1/repos/{repo}", Admin),
    ("GET", "/api/v1/repos/{repo}/history", Read),
    ("GET", "/api/v1/repos/{repo}/deliveries", Read),
    ("POST", "/api/v1/repos/{repo}/sync", Admin),
    ("POST", "/api/v1/repos/{repo}/cancel", Admin),
    ("GET", "/api/v1/repos/{repo}/secrets", Read),
    ("PUT", "/api/v1/repos/{repo}/secrets/{name}", Admin),
    ("DELETE", "/api/v1/repos/{repo}/secrets/{name}", Admin),
    ("GET", "/api/v1/dags", Read),
    ("GET", "/api/v1/dags/{repo}/{dag}", Read),
    ("DELETE", "/api/v1/dags/{repo}/{dag}", Admin),
    ("GET", "/api/v1/dags/{repo}/{dag}/history", Read),
    ("POST", "/api/v1/dags/{repo}/{dag}/runs", Admin),
    ("PUT", "/api/v1/dags/{repo}/{dag}/paused", Admin),
    ("GET", "/api/v1/dags/{repo}/{dag}/ticks", Read),
    ("GET", "/api/v1/runs", Read),
    ("GET", "/api/v1/runs/{run}", Read),
    ("POST", "/api/v1/runs/{run}/cancel", Admin),
    ("POST", "/api/v1/runs/{run}/abandon", Admin),
    ("POST", "/api/v1/runs/{run}/retry", Admin),
    ("GET", "/api/v1/runs/{run}/events", Read),
    ("GET", "/api/v1/runs/{run}/stages/{stage}/log", Read),
    ("GET", "/api/v1/runs/{run}/artifacts", Read),
    ("GET", "/api/v1/runs/{run}/artifacts/{stage}/{output}", Read),
    ("GET", "/api/v1/metrics", Read),
];

/// Routes that wait for something new: they take a [turn](crate::answer::AnswerBudget::turn) each time that they look,
/// and have none while they wait.
const WAITING: [&str; 2] = [
    "/api/v1/runs/{run}/events",
    "/api/v1/runs/{run}/stages/{stage}/log",
];

/// Lets a request through if its route is open, or its token is valid and has the scope that the route needs.
pub(crate) async fn require_token(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let peer = request.extensions().get::<Peer>().cloned();
    if OPEN.contains(&route) || (route == metrics::ROUTE && state.settings().metrics_are_public) {
        let of = peer.map_or(Account::Strangers, |peer| Account::Address(peer.source()));
        let response = next.run(request).await;
        return state.answers().finish(of, None, response).await;
    }
    let presented = bearer(&request);
    let token = match holder(&state, presented, peer.as_ref()).await {
        Ok(token) => token,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(needed) = needed(request.method(), route) else {
        return ApiError::no_such_method().into_response();
    };
    if !token.scope.permits(needed) {
        return forbidden(&token).into_response();
    }
    let act = Act {
        by: Principal::token(token.id, token.name),
        peer: peer.map(|peer| peer.address()),
    };
    let of = Account::of(&act);
    request.extensions_mut().insert(act);
    let turn = match needed {
        Read if !WAITING.contains(&route) => Some(state.answers().turn(&of).await),
        Read | Admin => None,
    };
    let response = next.run(request).await;
    state.answers().finish(of, turn, response).await
}

/// The scope that a method of a route needs; `None` where the table has no such entry.
pub(crate) fn needed(method: &Method, route: &str) -> Option<TokenScope> {
    let method = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    let mut entries = PERMISSIONS.iter();
    let entry = entries.find(|(of, path, _)| *of == method.as_str() && *path == route)?;
    Some(entry.2)
}

fn forbidden(token: &TokenInfo) -> ApiError {
    ApiError::forbidden(format!("the token `{}` may only read", token.name))
        .help("use a token that was created without --read-only")
}

fn bearer(request: &Request) -> Option<SecretString> {
    let mut values = request.headers().get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| SecretString::from(token.trim()))
}

/// The valid token of a request.
async fn holder(
    state: &WebState,
    presented: Option<SecretString>,
    peer: Option<&Peer>,
) -> Result<TokenInfo, ApiError> {
    let presented = presented.ok_or_else(|| ApiError::unauthorized("this route needs a token"))?;
    let token = authenticate(state, &presented, peer)
        .await?
        .ok_or_else(|| ApiError::unauthorized("the token is unknown or was revoked"))?;
    if let Some(peer) = peer {
        peer.set_known();
    }
    Ok(token)
}

/// Looks a token up in the database. Lookups of invalid tokens are limited per peer.
async fn authenticate(
    state: &WebState,
    presented: &SecretString,
    peer: Option<&Peer>,
) -> Result<Option<TokenInfo>, ApiError> {
    let strangers = state.strangers();
    let address = peer
        .map(Peer::source)
        .filter(|_| !strangers.was_good(presented));
    if let Some(address) = address {
        strangers.take(address)?;
    }
    let found = state.app().authenticate(presented).await;
    if let (Some(address), Ok(Some(_)) | Err(_)) = (address, &found) {
        strangers.give_back(address);
    }
    let found = found?;
    strangers.note_token(presented, found.is_some());
    Ok(found)
}
