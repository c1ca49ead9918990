//! Retries runs: at their own commit, or resumed with the code of another one.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use trainyard_api::{ErrorBody, RetryRequest, RunStarted};
use trainyard_core::principal::Act;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path};
use crate::state::WebState;

#[utoipa::path(
    post, path = "/runs/{run}/retry", params(("run" = i64, Path)), request_body = RetryRequest,
    responses((status = 201, body = RunStarted), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody),
        (status = 422, body = ErrorBody))
)]
pub(crate) async fn retry(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(run): Path<i64>,
    Object(retry): Object<RetryRequest>,
) -> Result<(StatusCode, Json<RunStarted>), ApiError> {
    let made = state.app().retry_run(&act, run, retry).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
