//! Runs: list, show, cancel and abandon them; their events and metrics.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use trainyard_api::{
    CancelRuns, ErrorBody, Listing, Metric, Run, RunDetail, RunEvent, RunsCancelled,
};
use trainyard_core::id::RunId;
use trainyard_core::outcome::RunState;
use trainyard_core::principal::Act;
use trainyard_core::transition::TOLD_WITHIN;
use trainyard_store::{Abandoned, CancelFilter, GivingUp, MetricFilter, RunFilter, Topic};
use utoipa::IntoParams;

use super::{names, quarantine};
use crate::answer::Json;
use crate::budget::Account;
use crate::error::ApiError;
use crate::extract::{Object, Path, Query};
use crate::state::WebState;

/// The most runs or events in one answer.
const ROWS_AT_MOST: u32 = 1_000;

/// The most runs that one request cancels: these take a second or two.
const CANCELLED_AT_MOST: u32 = 500;

/// How long a live daemon takes at most to renew its lease once the database answers: twice the usual time.
const RENEWED_WITHIN: Duration = Duration::from_secs(10);

/// The longest wait for an event.
const WAIT_AT_MOST: u64 = 50;

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
    let dag = match &query.dag {
        Some(dag) => Some(names::dag(&state, dag).await?),
        None => None,
    };
    let repo = match &query.repo {
        Some(repo) => Some(names::repo(&state, repo).await?),
        None => None,
    };
    let words = query.state.iter().flat_map(|words| words.split(','));
    let states = words.map(|word| {
        RunState::from_word(word).ok_or_else(|| {
            let states = RunState::ALL.map(RunState::as_str).join(", ");
            ApiError::invalid(format!("`{word}` is not a state of runs"))
                .help(format!("the states are {states}"))
        })
    });
    let states = states.collect::<Result<Vec<RunState>, ApiError>>()?;
    let limit = query.limit.unwrap_or(50).clamp(1, ROWS_AT_MOST);
    let filter = RunFilter {
        dag,
        repo,
        branch: query.branch,
        // Hashes are recorded in lower case.
        commit: query.commit.map(|hash| hash.to_ascii_lowercase()),
        states,
        // Postgres knows no moments before some thousand years ago.
        since: query.since.map(|at| at.max(DateTime::UNIX_EPOCH)),
        before: query.before.map(RunId),
        limit: limit + 1,
    };
    let mut runs = state.store().list_runs(&filter).await?;
    let more = runs.len() > limit as usize;
    runs.truncate(limit as usize);
    Ok(Json(Listing { items: runs, more }))
}

#[utoipa::path(
    get, path = "/runs/{run}", params(("run" = i64, Path)),
    responses((status = 200, body = RunDetail), (status = 404, body = ErrorBody))
)]
pub(crate) async fn show(
    State(state): State<WebState>,
    Path(run): Path<i64>,
) -> Result<Json<RunDetail>, ApiError> {
    let id = RunId(run);
    let capacity = &state.settings().capacity;
    let mut shown = match state.store().run_detail(id, capacity).await {
        Ok(detail) => detail,
        Err(error) => return Err(quarantine::explain(&state, id, error).await),
    };
    let held = state.store().quarantine_of(id).await?;
    if let Some(held) = held {
        for stage in &mut shown.stages {
            if stage.finished_at.is_none() {
                stage.why = quarantine::in_words(&held);
            }
        }
    }
    Ok(Json(shown))
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
    let id = RunId(run);
    let cancelled = state.store().cancel_run(&act, id).await;
    let summary = state.store().run_summary(id).await?;
    let is_cancelled = match cancelled {
        Ok(is_cancelled) => is_cancelled,
        // An unreadable run that was abandoned has ended nevertheless.
        Err(_) if summary.finished_at.is_some() => false,
        Err(error) => return Err(quarantine::explain(&state, id, error).await),
    };
    if !is_cancelled {
        return Err(has_ended(&summary));
    }
    Ok(Json(summary))
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
    let store = state.store();
    let filter = CancelFilter {
        repo: names::repo(&state, &repo).await?,
        dag: match &asked.dag {
            Some(dag) => Some(names::dag(&state, &format!("{repo}/{dag}")).await?),
            None => None,
        },
        before: asked.before.map(RunId),
        limit: CANCELLED_AT_MOST,
    };
    let cancelled = store.cancel_runs(&act, &filter).await?;
    Ok(Json(RunsCancelled {
        runs: cancelled.runs.into_iter().map(|run| run.0).collect(),
        more: cancelled.more,
    }))
}

fn nothing_abandoned(run: i64, abandoned: &Abandoned) -> ApiError {
    if abandoned.refused.is_empty() {
        let message = format!("run {run} has no stage that is being prepared or is running");
        return ApiError::conflict(message);
    }
    let refused = abandoned.refused.iter().map(ToString::to_string);
    let refused = refused.collect::<Vec<_>>().join("; ");
    ApiError::conflict(format!("nothing of run {run} can be abandoned: {refused}")).help(format!(
        "`trainyard run cancel {run}` asks stages to stop; called again, it stops those with `run_on: [always]` as \
         well. A stage that is still running one minute after its grace period can be abandoned"
    ))
}

fn has_ended(run: &Run) -> ApiError {
    ApiError::conflict(format!("run {} has ended already: {}", run.id, run.state))
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
    let id = RunId(run);
    let before = state.store().run_summary(id).await?;
    if before.finished_at.is_some() {
        return Err(has_ended(&before));
    }
    let gone = state.store().seen_gone(id).await?;
    if !gone.is_empty() {
        tokio::time::sleep(RENEWED_WITHIN).await;
    }
    let giving_up = GivingUp {
        by: act,
        patience: state.settings().grace + TOLD_WITHIN,
        gone,
    };
    let abandoned = match state.store().abandon(id, giving_up).await {
        Ok(abandoned) => abandoned,
        Err(error) => return Err(quarantine::explain(&state, id, error).await),
    };
    if !abandoned.any {
        return Err(nothing_abandoned(run, &abandoned));
    }
    Ok(Json(state.store().run_summary(id).await?))
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
    let (store, id) = (state.store(), RunId(run));
    let after = query.after.unwrap_or(0);
    let wait = Duration::from_secs(query.wait_seconds.unwrap_or(0).min(WAIT_AT_MOST));
    let give_up = tokio::time::Instant::now() + wait;
    let mut changes = store.wakes().topics.follow(Topic::Run(id));
    loop {
        let turn = state.answers().turn(&Account::of(&act)).await;
        let ended = store.run_summary(id).await?.finished_at.is_some();
        let events = store.run_events(id, after, ROWS_AT_MOST).await?;
        if !events.is_empty() || ended || tokio::time::Instant::now() >= give_up {
            let more = events.len() == ROWS_AT_MOST as usize;
            return Ok(Json(Listing {
                items: events,
                more,
            }));
        }
        drop(turn);
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(give_up) => {}
        }
    }
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
    let dag = match &query.dag {
        Some(dag) => Some(names::dag(&state, dag).await?),
        None => None,
    };
    if let Some(run) = query.run {
        // An unknown run is an error, not an empty list.
        state.store().run_summary(RunId(run)).await?;
    }
    let filter = MetricFilter {
        run: query.run.map(RunId),
        dag,
        stage: query.stage,
        name: query.name,
        limit: query.limit.unwrap_or(200).clamp(1, 10_000),
    };
    Ok(Json(Listing::whole(
        state.store().list_metrics(&filter).await?,
    )))
}
