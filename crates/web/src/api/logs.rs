//! Logs, in pages from a byte offset on. A reader that follows asks again, and the answer waits until there is more.

use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use serde::Deserialize;
use trainyard_api::{ErrorBody, LogLine, LogPage, text_bytes};
use trainyard_core::id::{AttemptId, RunId};
use trainyard_core::principal::Act;
use trainyard_store::{Follower, Topic};
use utoipa::IntoParams;

use crate::answer::Json;
use crate::budget::Account;
use crate::error::ApiError;
use crate::extract::{Path, Query};
use crate::state::WebState;

/// The most bytes of one page. A page stays in memory until its reader has taken it, and its JSON is several times as
/// large where it is binary data.
const PIECE_AT_MOST: u64 = 256 << 10;

/// The longest wait for more.
const WAIT_AT_MOST: u64 = 50;

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
    let offset = query.offset.unwrap_or(0);
    let wait = Duration::from_secs(query.wait_seconds.unwrap_or(0).min(WAIT_AT_MOST));
    let give_up = tokio::time::Instant::now() + wait;
    let topics = &state.store().wakes().topics;
    let mut changes = topics.follow(Topic::Run(RunId(run)));
    let mut growth = None;
    loop {
        let turn = state.answers().turn(&Account::of(&act)).await;
        let page = page(
            &state,
            RunId(run),
            &stage,
            query.attempt,
            offset,
            &mut growth,
        )
        .await?;
        let is_news = !page.lines.is_empty() || page.complete;
        if is_news || tokio::time::Instant::now() >= give_up {
            return Ok(Json(page));
        }
        drop(turn);
        let grown = async {
            match &mut growth {
                Some((_, growth)) => growth.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = grown => {}
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(give_up) => {}
        }
    }
}

async fn page(
    state: &WebState,
    run: RunId,
    stage: &str,
    number: Option<u32>,
    offset: u64,
    growth: &mut Option<(AttemptId, Follower)>,
) -> Result<LogPage, ApiError> {
    let logged = state.store().logged(run, stage, number).await?;
    let Some((attempt, its_number)) = logged.attempt else {
        // No attempt has run yet. None will once the stage has ended.
        return Ok(LogPage {
            complete: logged.stage_is_over,
            ..LogPage::default()
        });
    };
    if growth.as_ref().is_none_or(|(known, _)| *known != attempt) {
        let topics = &state.store().wakes().topics;
        *growth = Some((attempt, topics.follow(Topic::Log(attempt))));
    }
    let slice = state
        .store()
        .read_log(attempt, offset, PIECE_AT_MOST)
        .await?;
    let pieces = slice.pieces.iter();
    let lines = pieces.flat_map(|piece| {
        let lines: Vec<_> = LogLine::read(&String::from_utf8_lossy(piece)).collect();
        lines
    });
    Ok(LogPage {
        attempt: its_number,
        lines: lines.collect(),
        dropped_bytes: text_bytes(slice.dropped, slice.dropped_lines),
        dropped_lines: slice.dropped_lines,
        removed_at: slice.pruned_at,
        next_offset: slice.next_offset,
        // If a retry follows, the stage's log continues after the attempt's.
        complete: slice.complete && (number.is_some() || logged.stage_is_over),
    })
}
