//! Webhooks: verify the raw body, store the delivery, and only then answer.
//!
//! 1. Requests that are invalid whatever their body are rejected before it is read: an unknown forge, no signature or
//!    two, a content type that no forge sends, a length beyond the limit, a peer that has failed too often.
//! 2. Other bodies are hashed as they arrive, within the budget and the time limit of all bodies. A body is parsed
//!    only after its signature was verified, and a delivery is answered 2xx only once it is stored.
//! 3. An unknown repo, a repo without a secret and a wrong signature are one case: all of them read the body, take
//!    the same share of the budget, hash with some secret, and get the same answer. So the answers do not reveal
//!    which repos exist.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use trainyard_app::{DeliveryTaken, WEBHOOK_DELIVERIES};
use trainyard_core::id::RepoId;
use trainyard_forge::webhook::{Provider, Signed};

use crate::body::{self, BodySink, UnreadBody};
use crate::error::ApiError;
use crate::extract::Path;
use crate::server::Peer;
use crate::state::WebState;

/// `POST /hooks/{provider}/{repo}`
pub(crate) async fn receive(
    State(state): State<WebState>,
    Path((provider, repo)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    match take(&state, &provider, &repo, &head, body).await {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl BodySink for Signed {
    fn take(&mut self, piece: &[u8]) -> usize {
        if self.capacity() - self.len() < piece.len() {
            self.reserve(body::step(self.len()).max(piece.len()));
        }
        Signed::take(self, piece);
        self.capacity()
    }
}

/// The one answer for all deliveries without a valid signature.
fn refused(state: &WebState, repo: &str) -> ApiError {
    WEBHOOK_DELIVERIES.add_for("refused", 1);
    state.strangers().log_refused_delivery(repo);
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "the delivery is not signed with the webhook secret of a repo that this daemon follows",
    )
}

fn unread(state: &WebState, repo: &str, unread: UnreadBody) -> ApiError {
    let at_most = state.settings().webhook_at_most;
    let answer = unread.answer(at_most);
    if unread != UnreadBody::TooLarge {
        return answer;
    }
    WEBHOOK_DELIVERIES.add_for("too_large", 1);
    state.strangers().log_large_delivery(repo, at_most);
    answer.help(
        "raise limits.webhook of the daemon; until then, polling finds the pushes whose webhook is rejected",
    )
}

/// JSON, or a form with JSON in it: forges can be configured to send either.
fn is_a_delivery(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let kind = kind.to_str().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/x-www-form-urlencoded"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

/// The repo of a name and its secret. For a name that no repo has, a random secret.
async fn secret_of(
    state: &WebState,
    repo: &str,
) -> Result<(Option<RepoId>, SecretString), ApiError> {
    Ok(match state.app().webhook_secret(repo).await? {
        Some((id, secret)) => (Some(id), secret),
        None => (None, unguessable()),
    })
}

async fn take(
    state: &WebState,
    provider: &str,
    repo: &str,
    head: &Parts,
    body: Body,
) -> Result<(StatusCode, &'static str), ApiError> {
    let headers = &head.headers;
    let claim = Provider::from_path(provider)
        .and_then(|provider| Some((provider, provider.claim(headers)?)));
    let (provider, claim) = claim.ok_or_else(|| refused(state, repo))?;
    if !is_a_delivery(headers) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "a delivery is application/json, or application/x-www-form-urlencoded",
        ));
    }
    let peer = head.extensions.get::<Peer>().map(Peer::source);
    if let Some(peer) = peer {
        state.strangers().take(peer)?;
    }
    let give_back = || {
        if let Some(peer) = peer {
            state.strangers().give_back(peer);
        }
    };
    let (known, secret) = secret_of(state, repo).await.inspect_err(|_| give_back())?;
    let mut signed = claim.signed_with(&secret);
    let at_most = state.settings().webhook_at_most;
    let share = state.bodies().of_stranger(peer);
    let _share = body::read(share, body, at_most, &mut signed)
        .await
        .map_err(|why| unread(state, repo, why))?;
    let (Some(id), Ok(verified)) = (known, signed.verify(headers)) else {
        return Err(refused(state, repo));
    };
    give_back();
    let delivery = verified.parse().map_err(|problem| {
        WEBHOOK_DELIVERIES.add_for("malformed", 1);
        let why = problem.to_string();
        state.strangers().log_malformed_delivery(repo, &why);
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", problem.to_string())
    })?;
    let taken = state.app().take_delivery((id, repo), provider, delivery);
    Ok(match taken.await? {
        DeliveryTaken::Stored => {
            WEBHOOK_DELIVERIES.add_for("stored", 1);
            (StatusCode::ACCEPTED, "stored\n")
        }
        DeliveryTaken::Known => {
            WEBHOOK_DELIVERIES.add_for("known", 1);
            (StatusCode::OK, "known\n")
        }
    })
}

fn unguessable() -> SecretString {
    let id = uuid::Uuid::new_v4();
    SecretString::from(id.to_string())
}
