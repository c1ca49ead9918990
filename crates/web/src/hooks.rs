//! Webhooks: verify the raw body, store the delivery, and only then answer.
//!
//! Nothing is parsed before its signature holds, and nothing is answered 2xx that a crash could lose.
//! An unknown repo, a repo without a secret and a wrong signature get one and the same answer.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use secrecy::SecretString;
use tracing::{info, warn};
use trainyard_forge::webhook::{Event, Provider, Pushed};
use trainyard_store::figures::WEBHOOK_DELIVERIES;
use trainyard_store::{DeliveryRecorded, NewDelivery, ToldPush};

use crate::error::ApiError;
use crate::state::WebState;

/// `POST /hooks/{provider}/{repo}`
pub(crate) async fn receive(
    State(state): State<WebState>,
    Path((provider, repo)): Path<(String, String)>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let taken = match body {
        Ok(body) => take(&state, &provider, &repo, &headers, &body).await,
        Err(unread) => Err(unreadable(&state, &repo, &unread)),
    };
    match taken {
        Ok(answer) => answer.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// A body that is larger than is read, or that broke off. Whose it is nobody knows: it is not verified.
fn unreadable(state: &WebState, repo: &str, unread: &BytesRejection) -> ApiError {
    if unread.status() != StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(unread.status(), "malformed", unread.body_text());
    }
    WEBHOOK_DELIVERIES.add_for("too_large", 1);
    let bound = state.settings().webhook_at_most;
    warn!(
        repo,
        "a webhook delivery was refused: it is larger than limits.webhook, which is {bound} bytes"
    );
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("the delivery is larger than {bound} bytes"),
    )
    .help(
        "raise limits.webhook of the daemon; a push that no delivery tells of is found by polling",
    )
}

async fn take(
    state: &WebState,
    provider: &str,
    repo: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<(StatusCode, &'static str), ApiError> {
    let refused = || {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "the delivery is not signed with the webhook secret of a repo that is followed here",
        )
    };
    let provider = Provider::from_path(provider).ok_or_else(refused)?;
    let known = state.store().webhook_secret(repo).await?;
    // An unknown repo is checked against a secret that nobody knows, so that it takes as long.
    let secret = known
        .as_ref()
        .map_or_else(unguessable, |(_, secret)| secret.clone());
    let verified = provider.verify(&secret, headers, body);
    let (Some((id, _)), Ok(verified)) = (known, verified) else {
        WEBHOOK_DELIVERIES.add_for("refused", 1);
        warn!(
            repo,
            "a webhook delivery was refused: its signature does not hold"
        );
        return Err(refused());
    };
    let delivery = verified.parse().map_err(|problem| {
        WEBHOOK_DELIVERIES.add_for("malformed", 1);
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", problem.to_string())
    })?;
    let (event, push) = match delivery.event {
        Event::Ping => ("ping".to_owned(), None),
        Event::Other(name) => (name, None),
        Event::Push(push) => {
            let told = match push.reference {
                Pushed::Tag(_) => None,
                Pushed::Branch(branch) => Some(ToldPush {
                    branch,
                    before: push.before.map(|sha| sha.to_string()),
                    after: push.after.map(|sha| sha.to_string()),
                    actor: push.pusher,
                }),
            };
            ("push".to_owned(), told)
        }
    };
    let new = NewDelivery {
        provider: provider.word().to_owned(),
        repo: id,
        delivery_id: delivery.id,
        event,
        body: body.to_vec(),
        push,
    };
    match state.store().record_delivery(&new).await? {
        DeliveryRecorded::New(delivery) => {
            WEBHOOK_DELIVERIES.add_for("stored", 1);
            info!(repo, delivery.id = %delivery, event = new.event, "a webhook delivery is stored");
            Ok((StatusCode::ACCEPTED, "stored\n"))
        }
        DeliveryRecorded::Duplicate => {
            WEBHOOK_DELIVERIES.add_for("known", 1);
            Ok((StatusCode::OK, "known\n"))
        }
    }
}

fn unguessable() -> SecretString {
    let id = uuid::Uuid::new_v4();
    SecretString::from(id.to_string())
}
