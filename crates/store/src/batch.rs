//! Batching: writes that come at the same time share one transaction.
//!
//! While one batch is being written, the next one gathers, so the busier it is the larger the
//! batches, and a lone write waits for nobody. It is what a database's group commit does, one level
//! up, and saves the round trips as well. The work runs in a task of its own: a caller that gives up
//! waiting cannot stop a transaction half-way.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};

/// The most writes in one batch; bounds how long its transaction holds its locks.
const BATCH_AT_MOST: usize = 64;

/// The most writes that may gather; more wait for a place.
const GATHER_AT_MOST: usize = 1_024;

/// A way to hand over writes and await what became of them.
#[derive(Debug)]
pub(crate) struct Batcher<I, O> {
    sender: mpsc::Sender<(I, oneshot::Sender<Result<O>>)>,
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    /// Starts the task that writes; it ends when the last handle is dropped. `write` answers each
    /// item in its place.
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
                for (answer, result) in answers.into_iter().zip(write(items).await) {
                    // Whoever asked may have given up waiting; what was written stands.
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
            .map_err(|_| Error::ShuttingDown)?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }
}
