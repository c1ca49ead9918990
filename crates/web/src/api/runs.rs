//! Runs: list, show, cancel and abandon them; their events and metrics.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use trainyard_api::{
    CancelRuns, ErrorBody, Listing, Metric, MetricSelection, Run, RunDetail, RunEvent,
    RunSelection, RunsCancelled,
};
use trainyard_core::principal::Act;
use utoipa::IntoParams;

use crate::answer::Json;
use crate::budget::Account;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::state::WebState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunQuery {
    /// Of this DAG: `REPO/NAME` or `NAME`.
    dag: Option<String>,
    /// Of DAGs of this repo.
    repo: Option<String>,
    /// Of this branch.
    branch: Option<String>,
    /// Of the commit whose hash begins so.
    commit: Option<String>,
    /// `queued`, `running`, or an outcome; several with commas between them.
    state: Option<String>,
    /// Created at this moment or later.
    since: Option<DateTime<Utc>>,
    /// Older than this run: for the next page.
    before: Option<i64>,
    /// At most this many.
    limit: Option<u32>,
}

#[utoipa::path(
    get, path = "/runs", params(RunQuery),
    responses((status = 200, body = Listing<Run>), (status = 422, body = ErrorBody))
)]
pub(crate) async fn list(
    State(state): State<WebState>,
    Query(query): Query<RunQuery>,
) -> Result<Json<Listing<Run>>, ApiError> {
    let states = query.state.iter().flat_map(|words| words.split(','));
    let selection = RunSelection {
        dag: query.dag,
        repo: query.repo,
        branch: query.branch,
        commit: query.commit,
        states: states.map(ToOwned::to_owned).collect(),
        since: query.since,
        before: query.before,
        limit: query.limit,
    };
    Ok(Json(state.app().list_runs(selection).await?))
}

#[utoipa::path(
    get, path = "/runs/{run}", params(("run" = i64, Path)),
    responses((status = 200, body = RunDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path(run): Path<i64>,
) -> Result<Json<RunDetail>, ApiError> {
    Ok(Json(state.app().run(run).await?))
}

#[utoipa::path(
    post, path = "/runs/{run}/cancel", params(("run" = i64, Path)),
    responses((status = 200, body = Run), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn cancel(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(run): Path<i64>,
) -> Result<Json<Run>, ApiError> {
    Ok(Json(state.app().cancel_run(&act, run).await?))
}

/// Cancels the newest runs of a repo that have not ended; `more` reports whether others are left.
#[utoipa::path(
    post, path = "/repos/{repo}/cancel", params(("repo" = String, Path)), request_body = CancelRuns,
    responses((status = 200, body = RunsCancelled), (status = 404, body = ErrorBody))
)]
pub(crate) async fn cancel_all(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(repo): Path<String>,
    Object(asked): Object<CancelRuns>,
) -> Result<Json<RunsCancelled>, ApiError> {
    Ok(Json(state.app().cancel_runs(&act, &repo, asked).await?))
}

#[utoipa::path(
    post, path = "/runs/{run}/abandon", params(("run" = i64, Path)),
    responses((status = 200, body = Run), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn abandon(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(run): Path<i64>,
) -> Result<Json<Run>, ApiError> {
    Ok(Json(state.app().abandon_run(&act, run).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    /// After this event; 0 for all.
    after: Option<i64>,
    /// How long to wait for one.
    wait_seconds: Option<u64>,
}

#[utoipa::path(
    get, path = "/runs/{run}/events", params(("run" = i64, Path), EventQuery),
    responses((status = 200, body = Listing<RunEvent>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn events(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path(run): Path<i64>,
    Query(query): Query<EventQuery>,
) -> Result<Json<Listing<RunEvent>>, ApiError> {
    let after = query.after.unwrap_or(0);
    let wait = Duration::from_secs(query.wait_seconds.unwrap_or(0));
    let account = Account::of(&act);
    let turn = || state.answers().turn(&account);
    Ok(Json(state.app().events(run, after, wait, turn).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricQuery {
    /// Of this run.
    run: Option<i64>,
    /// Of this DAG: `REPO/NAME` or `NAME`.
    dag: Option<String>,
    /// Of stages of this name.
    stage: Option<String>,
    /// Of this name.
    name: Option<String>,
    /// At most this many.
    limit: Option<u32>,
}

#[utoipa::path(
    get, path = "/metrics", params(MetricQuery),
    responses((status = 200, body = Listing<Metric>))
)]
pub(crate) async fn metrics(
    State(state): State<WebState>,
    Query(query): Query<MetricQuery>,
) -> Result<Json<Listing<Metric>>, ApiError> {
    let selection = MetricSelection {
        run: query.run,
        dag: query.dag,
        stage: query.stage,
        name: query.name,
        limit: query.limit,
    };
    Ok(Json(state.app().list_metrics(selection).await?))
}
