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
use trainyard_store::{Scope, TokenInfo};

use crate::budget::Account;
use crate::error::ApiError;
use crate::figures;
use crate::server::Peer;
use crate::state::WebState;

/// Routes that need no token: health, and webhooks, which carry a signature instead. The configuration decides
/// whether `/metrics` is open as well.
pub const OPEN: [&str; 3] = ["/healthz", "/readyz", "/hooks/{provider}/{repo}"];

/// Routes that wait for something new: they take a [turn](crate::answer::AnswerBudget::turn) each time that they look,
/// and have none while they wait.
const WAITING: [&str; 2] = [
    "/api/v1/runs/{run}/events",
    "/api/v1/runs/{run}/stages/{stage}/log",
];

/// The caller: the name of the token.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) String);

impl Caller {
    pub(crate) fn account(&self) -> Account {
        Account::Token(self.0.clone())
    }
}

/// Lets a request through if its route is open or its token is valid.
pub(crate) async fn require_token(
    State(state): State<WebState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let is = |known: &[&str]| {
        path.as_ref()
            .is_some_and(|path| known.contains(&path.as_str()))
    };
    let peer = request.extensions().get::<Peer>().cloned();
    if is(&OPEN) || (is(&[figures::ROUTE]) && state.settings().figures_are_public) {
        let of = peer.map_or(Account::Strangers, |peer| Account::Address(peer.source()));
        let response = next.run(request).await;
        return state.answers().finish(of, None, response).await;
    }
    let presented = bearer(&request);
    let needed = needed(request.method());
    match caller(&state, presented, peer, needed).await {
        Ok(caller) => {
            let of = caller.account();
            request.extensions_mut().insert(caller);
            let turn = match needed {
                Scope::Read if !is(&WAITING) => Some(state.answers().turn(&of).await),
                Scope::Read | Scope::Admin => None,
            };
            let response = next.run(request).await;
            state.answers().finish(of, turn, response).await
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

async fn caller(
    state: &WebState,
    presented: Option<SecretString>,
    peer: Option<Peer>,
    needed: Scope,
) -> Result<Caller, ApiError> {
    let presented = presented.ok_or_else(|| ApiError::unauthorized("this route needs a token"))?;
    let token = authenticate(state, &presented, peer.as_ref())
        .await?
        .ok_or_else(|| ApiError::unauthorized("the token is unknown or was revoked"))?;
    if let Some(peer) = peer {
        peer.set_known();
    }
    if !token.scope.permits(needed) {
        return Err(
            ApiError::forbidden(format!("the token `{}` may only read", token.name))
                .help("use a token that was created without --read-only"),
        );
    }
    Ok(Caller(token.name))
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
