//! DAGs: list, show, start by hand, pause and remove them; and their next ticks.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use trainyard_api::{
    Dag, DagDetail, ErrorBody, History, Listing, Paused, RunStarted, Tick, Trigger,
};
use trainyard_core::principal::Act;
use utoipa::IntoParams;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::state::WebState;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfRepo {
    repo: Option<String>,
}

#[utoipa::path(get, path = "/dags", params(OfRepo), responses((status = 200, body = Listing<Dag>)))]
pub(crate) async fn list(
    State(state): State<WebState>,
    Query(query): Query<OfRepo>,
) -> Result<Json<Listing<Dag>>, ApiError> {
    Ok(Json(state.app().list_dags(query.repo.as_deref()).await?))
}

#[utoipa::path(
    get, path = "/dags/{repo}/{dag}", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = DagDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<Json<DagDetail>, ApiError> {
    Ok(Json(state.app().dag(&repo, &dag).await?))
}

#[utoipa::path(
    post, path = "/dags/{repo}/{dag}/runs", request_body = Trigger,
    params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 201, body = RunStarted), (status = 404, body = ErrorBody), (status = 422, body = ErrorBody))
)]
pub(crate) async fn trigger(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
    Object(trigger): Object<Trigger>,
) -> Result<(StatusCode, Json<RunStarted>), ApiError> {
    let made = state.app().trigger(&act, &repo, &dag, trigger).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The history that is removed along with a DAG.
#[utoipa::path(
    get, path = "/dags/{repo}/{dag}/history", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = History), (status = 404, body = ErrorBody))
)]
pub(crate) async fn history(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<Json<History>, ApiError> {
    Ok(Json(state.app().dag_history(&repo, &dag).await?))
}

/// Removes a DAG that the followed branch does not have.
#[utoipa::path(
    delete, path = "/dags/{repo}/{dag}", params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody))
)]
pub(crate) async fn remove(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    state.app().remove_dag(&act, &repo, &dag).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[utoipa::path(
    put, path = "/dags/{repo}/{dag}/paused", request_body = Paused,
    params(("repo" = String, Path), ("dag" = String, Path)),
    responses((status = 200, body = Dag), (status = 404, body = ErrorBody))
)]
pub(crate) async fn pause(
    State(state): State<WebState>,
    Extension(act): Extension<Act>,
    Path((repo, dag)): Path<(String, String)>,
    Object(paused): Object<Paused>,
) -> Result<Json<Dag>, ApiError> {
    Ok(Json(
        state
            .app()
            .pause_dag(&act, &repo, &dag, paused.paused)
            .await?,
    ))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Count {
    count: Option<u32>,
}

#[utoipa::path(
    get, path = "/dags/{repo}/{dag}/ticks", params(("repo" = String, Path), ("dag" = String, Path), Count),
    responses((status = 200, body = Listing<Tick>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn ticks(
    State(state): State<WebState>,
    Path((repo, dag)): Path<(String, String)>,
    Query(query): Query<Count>,
) -> Result<Json<Listing<Tick>>, ApiError> {
    Ok(Json(state.app().ticks(&repo, &dag, query.count).await?))
}
