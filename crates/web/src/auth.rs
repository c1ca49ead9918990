//! Authentication and scopes: every route needs a bearer token, except the few that [`OPEN`] lists.
//!
//! 1. The check is a layer over the whole router, so a new route is closed until it is added to [`OPEN`].
//! 2. Paths are compared as they were routed, never as the text of the request, which may be encoded in many ways.
//! 3. The scope that a token needs follows from the method alone, so a new route needs no declaration: [`needed`].

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use trainyard_core::principal::{Act, Principal};
use trainyard_store::{Scope, TokenInfo};

use crate::error::ApiError;
use crate::figures;
use crate::server::Peer;
use crate::state::WebState;

/// Routes that need no token: health, and webhooks, which carry a signature instead. The configuration decides
/// whether `/metrics` is open as well.
pub const OPEN: [&str; 3] = ["/healthz", "/readyz", "/hooks/{provider}/{repo}"];

/// Lets a request through if its route is open or its token is valid.
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
    let peer = request.extensions().get::<Peer>().cloned();
    let needed = needed(request.method());
    match act_of(&state, presented, peer, needed).await {
        Ok(act) => {
            request.extensions_mut().insert(act);
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// The scope that a method needs: methods that change nothing need `read`, all others `admin`.
fn needed(method: &Method) -> Scope {
    if matches!(*method, Method::GET | Method::HEAD) {
        Scope::Read
    } else {
        Scope::Admin
    }
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

/// The act that the holder of a valid token is about to do.
async fn act_of(
    state: &WebState,
    presented: Option<SecretString>,
    peer: Option<Peer>,
    needed: Scope,
) -> Result<Act, ApiError> {
    let presented = presented.ok_or_else(|| ApiError::unauthorized("this route needs a token"))?;
    let token = authenticate(state, &presented, peer.as_ref())
        .await?
        .ok_or_else(|| ApiError::unauthorized("the token is unknown or was revoked"))?;
    if let Some(peer) = &peer {
        peer.set_known();
    }
    if !token.scope.permits(needed) {
        return Err(
            ApiError::forbidden(format!("the token `{}` may only read", token.name))
                .help("use a token that was created without --read-only"),
        );
    }
    Ok(Act {
        by: Principal::token(token.id, token.name),
        peer: peer.map(|peer| peer.address()),
    })
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
    let found = state.store().authenticate(presented).await;
    if let (Some(address), Ok(Some(_)) | Err(_)) = (address, &found) {
        strangers.give_back(address);
    }
    let found = found?;
    strangers.note_token(presented, found.is_some());
    Ok(found)
}
