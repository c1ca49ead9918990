//! Follows a run and its logs.
//!
//! Both are streams of long polls: each call says what the client knows already, and is answered as soon as there is
//! more. A broken connection or a restarted daemon therefore loses nothing and repeats nothing: the next call
//! continues from the same place.

use std::future::Future;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::try_unfold;
use trainyard_core::backoff::Backoff;
use uuid::Uuid;

use crate::{Client, ClientError, LogPage, RunDetail, RunEvent};

/// How long one call waits for news. Shorter than what proxies commonly cut off.
const WAIT: Duration = Duration::from_secs(25);

/// How often a call is retried while the daemon does not answer: for about a minute.
const RETRIES: u32 = 12;

/// The first wait before a retry.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait before a retry.
const LONGEST_WAIT: Duration = Duration::from_secs(8);

impl Client {
    /// The run as it is now, and again after each change, to its end.
    ///
    /// An item is an error where the first request fails or the daemon does not answer for about a minute; the stream
    /// ends after it.
    pub fn watch_run(
        &self,
        id: i64,
    ) -> impl Stream<Item = Result<RunDetail, ClientError>> + Send + use<> {
        enum Known {
            Nothing,
            Events(i64),
            End,
        }
        let client = self.clone();
        try_unfold(Known::Nothing, move |known| {
            let client = client.clone();
            async move {
                // The newest event is read before the run, so that the run includes all events up to it.
                let after = match known {
                    Known::End => return Ok(None),
                    Known::Nothing => client.newest_event(id).await?,
                    Known::Events(after) => patiently(|| client.next_event(id, after)).await?,
                };
                let run = patiently(|| client.run(id)).await?;
                let known = match run.summary.finished_at {
                    Some(_) => Known::End,
                    None => Known::Events(after),
                };
                Ok(Some((run, known)))
            }
        })
    }

    /// The events of a run, past and future, in batches as they arrive, to the run's end.
    ///
    /// Errors are as with [`Client::watch_run`].
    pub fn follow_events(
        &self,
        id: i64,
    ) -> impl Stream<Item = Result<Vec<RunEvent>, ClientError>> + Send + use<> {
        let client = self.clone();
        try_unfold(None, move |known: Option<i64>| {
            let client = client.clone();
            async move {
                let page = match known {
                    // Answered at once, so that a daemon that does not run is reported at once.
                    None => client.events(id, 0, Duration::ZERO).await?,
                    Some(after) => patiently(|| client.events(id, after, WAIT)).await?,
                };
                let after = page.items.last().map(|event| event.id).or(known);
                if known.is_none() || !page.items.is_empty() {
                    return Ok(Some((page.items, Some(after.unwrap_or(0)))));
                }
                // The wait has passed without an event, or the run has ended.
                let run = patiently(|| client.run(id)).await?;
                match run.summary.finished_at {
                    Some(_) => Ok(None),
                    None => Ok(Some((Vec::new(), after))),
                }
            }
        })
    }

    /// The log of one attempt from `offset` on, in pages as they arrive, to its end.
    ///
    /// An item is an error where the daemon does not answer for about a minute, the first request included: the caller
    /// knows the attempt from an answer. The stream ends after it.
    pub fn follow_log(
        &self,
        id: i64,
        stage: &str,
        attempt: u32,
        offset: u64,
    ) -> impl Stream<Item = Result<LogPage, ClientError>> + Send + use<> {
        let (client, stage) = (self.clone(), stage.to_owned());
        try_unfold(Some(offset), move |place| {
            let (client, stage) = (client.clone(), stage.clone());
            async move {
                let Some(mut offset) = place else {
                    return Ok(None);
                };
                loop {
                    let read = || client.log(id, &stage, Some(attempt), offset, WAIT);
                    let page = patiently(read).await?;
                    offset = page.next_offset;
                    if page.complete {
                        return Ok(Some((page, None)));
                    }
                    if !page.lines.is_empty() || page.dropped_bytes > 0 {
                        return Ok(Some((page, Some(offset))));
                    }
                }
            }
        })
    }

    /// The newest event of a run.
    async fn newest_event(&self, id: i64) -> Result<i64, ClientError> {
        let mut after = 0;
        loop {
            let page = self.events(id, after, Duration::ZERO).await?;
            after = page.items.last().map_or(after, |event| event.id);
            if !page.more {
                return Ok(after);
            }
        }
    }

    /// Waits for an event after a known one; returns the newest. Also returns once the run has ended.
    async fn next_event(&self, id: i64, after: i64) -> Result<i64, ClientError> {
        loop {
            let page = self.events(id, after, WAIT).await?;
            if let Some(newest) = page.items.last() {
                return Ok(newest.id);
            }
            if self.run(id).await?.summary.finished_at.is_some() {
                return Ok(after);
            }
        }
    }
}

/// Retries a call for about a minute while the daemon does not answer.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, Uuid::new_v4());
    let mut retries = 0;
    loop {
        match call().await {
            Err(error) if error.may_pass() && retries < RETRIES => {
                retries += 1;
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(error) if error.may_pass() => return Err(ClientError::Lost(error.to_string())),
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_daemon_that_stays_away_is_lost_after_about_a_minute() {
        let (began, calls) = (Instant::now(), Cell::new(0));
        let lost = patiently(|| async {
            calls.set(calls.get() + 1);
            Err::<(), _>(ClientError::Unreachable {
                url: "http://127.0.0.1:1".to_owned(),
                problem: "connection refused".to_owned(),
            })
        });
        assert_eq!(
            lost.await.unwrap_err().to_string(),
            "no daemon answers at http://127.0.0.1:1: connection refused, and has not for a minute"
        );
        let seconds = began.elapsed().as_secs();
        assert!((45..80).contains(&seconds), "{seconds}");
        assert_eq!(calls.get(), 1 + RETRIES);
    }
}
