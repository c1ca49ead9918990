//! Extractors for handlers. Malformed input is answered like every other error: in JSON, with a message.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::body;
use crate::error::ApiError;
use crate::state::WebState;

/// The largest body of a request to the API, in bytes: a secret of 64 KiB with its quoting, and more.
const BODY_AT_MOST: usize = 1 << 20;

fn malformed(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "malformed", message)
}

/// The parts of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0))
            .map_err(|unfit: PathRejection| malformed(unfit.body_text()))
    }
}

#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        query
            .map(|query| Self(query.0))
            .map_err(|unfit: QueryRejection| malformed(unfit.body_text()))
    }
}

/// A JSON object as the body.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<WebState> for Object<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &WebState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "the body must be JSON",
            )
            .help("send `Content-Type: application/json`"));
        }
        let mut text = Vec::new();
        let share = state.bodies().of_token();
        let _share = body::read(share, request.into_body(), BODY_AT_MOST, &mut text)
            .await
            .map_err(|unread| unread.answer(BODY_AT_MOST))?;
        // Serde would accept an array as the object's values in their order.
        let begin = text.iter().find(|byte| !byte.is_ascii_whitespace());
        if begin.is_some_and(|begin| *begin != b'{') {
            return Err(ApiError::invalid("the body must be a JSON object"));
        }
        serde_json::from_slice(&text).map(Self).map_err(|unfit| {
            if unfit.is_data() {
                ApiError::invalid(format!("the body does not fit: {unfit}"))
            } else {
                malformed(format!("the body is not valid JSON: {unfit}"))
            }
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}
