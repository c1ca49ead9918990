//! Logs, in pages from a byte offset on. A reader that follows asks again, and the answer waits until there is more.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use trainyard_api::{ErrorBody, LogPage};
use trainyard_app::LogPlace;
use trainyard_core::principal::Act;
use utoipa::IntoParams;

use crate::answer::Json;
use crate::budget::Account;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::WebState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// The attempt's number; the last one without it.
    attempt: Option<u32>,
    /// The byte to begin at: `next_offset` of the page before.
    offset: Option<u64>,
    /// How long to wait for more.
    wait_seconds: Option<u64>,
}

#[utoipa::path(
    get, path = "/runs/{run}/stages/{stage}/log",
    params(("run" = i64, Path), ("stage" = String, Path), LogQuery),
    responses((status = 200, body = LogPage), (status = 404, body = ErrorBody))
)]
pub(crate) async fn read(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((run, stage)): Path<(i64, String)>,
    Query(query): Query<LogQuery>,
) -> Result<Json<LogPage>, ApiError> {
    let place = LogPlace {
        run,
        stage: &stage,
        attempt: query.attempt,
        offset: query.offset.unwrap_or(0),
    };
    let wait = Duration::from_secs(query.wait_seconds.unwrap_or(0));
    let account = Account::of(&act);
    let turn = || state.answers().turn(&account);
    Ok(Json(state.app().log(place, wait, turn).await?))
}
