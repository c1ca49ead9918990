//! Following a run and its logs as they go on.
//!
//! Both are streams of long waits: each call says what is known already and is answered as soon as
//! there is more. So a connection that breaks, or a daemon that is restarted, loses nothing and
//! repeats nothing: the next call goes on from the same place.

use std::future::Future;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::try_unfold;

use crate::{Client, ClientError, LogPage, RunDetail, RunEvent};

/// How long one call waits for news. Shorter than what proxies commonly cut off.
const WAIT: Duration = Duration::from_secs(25);

/// The waits between tries while the daemon does not answer; together about a minute.
const PAUSES: [Duration; 12] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(5),
    Duration::from_secs(5),
    Duration::from_secs(8),
    Duration::from_secs(8),
    Duration::from_secs(8),
    Duration::from_secs(8),
    Duration::from_secs(10),
];

impl Client {
    /// A run as it is now, and again whenever something happened to it, to its end.
    ///
    /// An item is an error where the first look fails or the daemon does not answer for about a
    /// minute; nothing comes after it.
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
                // What is known of events comes first: the run that is read after it has them in it.
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

    /// What happened to a run and goes on to happen, in pieces as it comes, to the run's end.
    ///
    /// Errors are as with [`Client::watch_run`].
    pub fn follow_events(
        &self,
        id: i64,
    ) -> impl Stream<Item = Result<Vec<RunEvent>, ClientError>> + Send + use<> {
        let client = self.clone();
        try_unfold(0, move |mut after| {
            let client = client.clone();
            async move {
                let read = || client.events(id, after, WAIT);
                let page = if after == 0 {
                    read().await?
                } else {
                    patiently(read).await?
                };
                if let Some(newest) = page.items.last() {
                    after = newest.id;
                    return Ok(Some((page.items, after)));
                }
                // Nothing more came within the wait, or nothing more can come.
                let run = patiently(|| client.run(id)).await?;
                match run.summary.finished_at {
                    Some(_) => Ok(None),
                    None => Ok(Some((Vec::new(), after))),
                }
            }
        })
    }

    /// The log of one attempt from `offset` on, in pieces as they come, to its end.
    ///
    /// Errors are as with [`Client::watch_run`].
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
                    let page = if offset == 0 {
                        read().await?
                    } else {
                        patiently(read).await?
                    };
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

    /// Waits for an event after one that is known; returns the newest. Returns also where a run has
    /// ended that has none.
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

/// Calls again for a while where the daemon is away.
async fn patiently<T, F>(mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut pauses = PAUSES.into_iter();
    loop {
        match call().await {
            Err(error) if error.may_pass() => match pauses.next() {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(error),
            },
            answer => return answer,
        }
    }
}
