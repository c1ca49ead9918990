//! Events and logs of runs, for viewers who know some of them already: an answer waits until there is more.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_api::{Listing, LogLine, LogPage, RunEvent, text_bytes};
use trainyard_core::id::{AttemptId, RunId};
use trainyard_store::{Follower, Topic};

use crate::{App, Result};

/// The most events in one answer.
const EVENTS_AT_MOST: u32 = 1_000;

/// The most bytes of one page. A page stays in memory until its reader has taken it, and its JSON is several times as
/// large where it is binary data.
const PIECE_AT_MOST: u64 = 256 << 10;

/// The longest wait for more.
const WAIT_AT_MOST: Duration = Duration::from_secs(50);

/// A place in the log of a stage.
#[derive(Debug, Clone, Copy)]
pub struct LogPlace<'a> {
    pub run: i64,
    pub stage: &'a str,
    /// The attempt's number; the last one without it.
    pub attempt: Option<u32>,
    /// The byte to begin at: `next_offset` of the page before.
    pub offset: u64,
}

impl App {
    /// The events of a run after a known one (0 for all). Waits for one for at most `wait`, unless the run has ended.
    /// `turn` is taken for each reading and given back while there is nothing to read.
    pub async fn events<T: Future>(
        &self,
        run: i64,
        after: i64,
        wait: Duration,
        mut turn: impl FnMut() -> T,
    ) -> Result<Listing<RunEvent>> {
        let (store, id) = (self.store(), RunId(run));
        let give_up = Instant::now() + wait.min(WAIT_AT_MOST);
        let mut changes = store.wakes().topics.follow(Topic::Run(id));
        loop {
            let turn = turn().await;
            let has_ended = store.run_summary(id).await?.finished_at.is_some();
            let events = store.run_events(id, after, EVENTS_AT_MOST).await?;
            if !events.is_empty() || has_ended || Instant::now() >= give_up {
                let more = events.len() == EVENTS_AT_MOST as usize;
                return Ok(Listing {
                    items: events,
                    more,
                });
            }
            drop(turn);
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(give_up) => {}
            }
        }
    }

    /// A page of a log. Waits for more for at most `wait`, unless the log has ended; `turn` is as for
    /// [`App::events`].
    pub async fn log<T: Future>(
        &self,
        place: LogPlace<'_>,
        wait: Duration,
        mut turn: impl FnMut() -> T,
    ) -> Result<LogPage> {
        let give_up = Instant::now() + wait.min(WAIT_AT_MOST);
        let topics = &self.store().wakes().topics;
        let mut changes = topics.follow(Topic::Run(RunId(place.run)));
        let mut growth: Option<(AttemptId, Follower)> = None;
        loop {
            let turn = turn().await;
            let page = self.log_page(place, &mut growth).await?;
            let is_news = !page.lines.is_empty() || page.complete;
            if is_news || Instant::now() >= give_up {
                return Ok(page);
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

    /// The log as it is now; `growth` follows the attempt that it is of, from before it was read.
    async fn log_page(
        &self,
        place: LogPlace<'_>,
        growth: &mut Option<(AttemptId, Follower)>,
    ) -> Result<LogPage> {
        let store = self.store();
        let run = RunId(place.run);
        let logged = store.logged(run, place.stage, place.attempt).await?;
        let Some((attempt, number)) = logged.attempt else {
            // No attempt has run yet. None will once the stage has ended.
            return Ok(LogPage {
                complete: logged.stage_is_over,
                ..LogPage::default()
            });
        };
        if growth.as_ref().is_none_or(|(known, _)| *known != attempt) {
            let topic = Topic::Log(attempt);
            *growth = Some((attempt, store.wakes().topics.follow(topic)));
        }
        let slice = store.read_log(attempt, place.offset, PIECE_AT_MOST).await?;
        let pieces = slice.pieces.iter();
        let lines = pieces.flat_map(|piece| {
            let lines: Vec<_> = LogLine::read(&String::from_utf8_lossy(piece)).collect();
            lines
        });
        Ok(LogPage {
            attempt: number,
            lines: lines.collect(),
            dropped_bytes: text_bytes(slice.dropped, slice.dropped_lines),
            dropped_lines: slice.dropped_lines,
            removed_at: slice.pruned_at,
            next_offset: slice.next_offset,
            // If a retry follows, the stage's log continues after the attempt's.
            complete: slice.complete && (place.attempt.is_some() || logged.stage_is_over),
        })
    }
}
