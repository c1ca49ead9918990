//! Batching: writes that come at the same time share one transaction.
//!
//! 1. While one batch is being written, the next one gathers. Under load the batches grow; a lone write does not
//!    wait. It is a database's group commit, one level up, and it saves the round trips as well.
//! 2. A task of its own writes: a caller that stops waiting cannot stop a transaction half-way.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use crate::db::error::{ANSWER_WITHIN, Error, Result, answered};

/// The most writes in one batch; limits how long its transaction holds its locks.
const BATCH_AT_MOST: usize = 64;

/// The most writes that may gather; further writes wait for a place.
const GATHER_AT_MOST: usize = 1_024;

/// Hands over writes and returns their results.
#[derive(Debug)]
pub(crate) struct Batcher<I, O> {
    sender: mpsc::Sender<(I, oneshot::Sender<Result<O>>)>,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the task that writes; it ends when the last handle is dropped. `write` returns
    /// one result per item, in the same order.
    pub(crate) fn start<W, F>(write: W) -> Self
    where
        W: Fn(Vec<I>) -> F + Send + 'static,
        F: Future<Output = Vec<Result<O>>> + Send,
    {
        let (sender, mut received) = mpsc::channel(GATHER_AT_MOST);
        tokio::spawn(async move {
            let mut gathered = Vec::new();
            while received.recv_many(&mut gathered, BATCH_AT_MOST).await > 0 {
                let (items, answers): (Vec<I>, Vec<oneshot::Sender<Result<O>>>) =
                    gathered.drain(..).unzip();
                let count = items.len();
                let written = AssertUnwindSafe(write(items)).catch_unwind();
                let results = match answered(written.map(Ok)).await {
                    Ok(Ok(results)) => results,
                    Ok(Err(_)) => {
                        // The panic itself is in the log. One batch is lost; the writer continues.
                        tracing::error!(writes = count, "writing a batch panicked");
                        (0..count).map(|_| Err(Error::Interrupted)).collect()
                    }
                    // The batch may have been written: a caller that retries finds that by the fence.
                    Err(_) => (0..count)
                        .map(|_| Err(Error::silent(ANSWER_WITHIN)))
                        .collect(),
                };
                for (answer, result) in answers.into_iter().zip(results) {
                    // The caller may have stopped waiting; the write stands.
                    let _ = answer.send(result);
                }
            }
        });
        Self { sender }
    }

    /// Hands over a write and waits until it is done.
    pub(crate) async fn write(&self, item: I) -> Result<O> {
        let (answer, answered) = oneshot::channel();
        self.sender
            .send((item, answer))
            .await
            .map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_write_gets_its_own_answer() {
        let batcher = Batcher::start(|items: Vec<u32>| async move {
            items.into_iter().map(|item| Ok(item * 2)).collect()
        });
        let (one, other) = tokio::join!(batcher.write(1), batcher.write(2));
        assert_eq!((one.unwrap(), other.unwrap()), (2, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_never_ends_fails_and_the_next_goes_on() {
        let batcher = Batcher::start(|items: Vec<u32>| async move {
            if items.contains(&13) {
                std::future::pending::<()>().await;
            }
            items.into_iter().map(Ok).collect()
        });
        let error = batcher.write(13).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(batcher.write(14).await.unwrap(), 14);
    }

    #[tokio::test]
    async fn a_write_that_panics_does_not_stop_the_next() {
        let batcher = Batcher::start(|items: Vec<u32>| async move {
            assert!(!items.contains(&13), "unlucky");
            items.into_iter().map(Ok).collect()
        });
        assert!(matches!(batcher.write(13).await, Err(Error::Interrupted)));
        assert_eq!(batcher.write(14).await.unwrap(), 14);
    }
}
