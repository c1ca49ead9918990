//! The ledger of a simulated daemon: as the real one, it asks until the store has answered, and only
//! the fence ends its right to write.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::event::{AttemptEnd, Event};
use trainyard_core::id::DaemonId;
use trainyard_executor::Handle;
use trainyard_orchestrator::attempt::ledger::{FencedOff, Ledger};
use trainyard_orchestrator::attempt::log_lines::Batch;

use crate::docker::Claim;
use crate::store::{Claimed, Link, Store, Taken};

/// The first wait for a store that does not answer; it doubles up to [`WAIT_AT_MOST`].
const WAIT_AT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait for a store that does not answer.
const WAIT_AT_MOST: Duration = Duration::from_secs(2);

/// Writes down one claimed attempt.
pub(crate) struct SimulatedLedger {
    pub(crate) link: Link,
    pub(crate) claim: Arc<Claim>,
    pub(crate) daemon: DaemonId,
}

impl SimulatedLedger {
    async fn durably<T: Send + 'static>(
        &self,
        transaction: impl Fn(&mut Store) -> T + Clone + Send + 'static,
    ) -> T {
        let mut wait = WAIT_AT_FIRST;
        loop {
            match self.link.call(transaction.clone()).await {
                Ok(value) => return value,
                Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(WAIT_AT_MOST);
        }
    }

    fn answer(&self, taken: Taken) -> Result<(), FencedOff> {
        match taken {
            Taken::Now | Taken::Before => Ok(()),
            Taken::Fenced => {
                self.claim.fenced_off.store(true, Ordering::Relaxed);
                Err(FencedOff)
            }
        }
    }
}

impl Ledger for SimulatedLedger {
    type Next = Vec<Claimed>;

    async fn created(&self, handle: &Handle, _: &[String]) -> Result<(), FencedOff> {
        let (attempt, fence) = (self.claim.attempt, self.claim.fence);
        let container = handle.container.clone();
        let taken = self.durably(move |store| store.created(attempt, fence, &container));
        self.answer(taken.await)
    }

    async fn started(&self, image: Option<&str>, _: Option<Timestamp>) -> Result<(), FencedOff> {
        let (attempt, fence) = (self.claim.attempt, self.claim.fence);
        let image = image.map(ToOwned::to_owned);
        let taken = self.durably(move |store| store.started(attempt, fence, image.as_deref()));
        self.answer(taken.await)
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        let (attempt, fence) = (self.claim.attempt, self.claim.fence);
        let taken =
            self.durably(move |store| store.append_log(attempt, fence, &batch.text, batch.cursor));
        self.answer(taken.await)
    }

    async fn timeout_passed(&self) {
        let attempt = self.claim.attempt;
        self.durably(move |store| {
            if let Some(row) = store.attempts.get(&attempt) {
                let (run, passed) = (row.run, Event::TimeoutPassed(row.reference));
                store.tell(run, &passed);
            }
        })
        .await;
    }

    async fn keep(&self, _file: &Path, _content: &ArtifactContent) -> Result<(), String> {
        Ok(())
    }

    async fn finished(
        &self,
        end: AttemptEnd,
        _outputs: Vec<KeptOutput>,
    ) -> Result<Vec<Claimed>, FencedOff> {
        let (attempt, fence, daemon) = (self.claim.attempt, self.claim.fence, self.daemon);
        let (taken, claims) = self
            .durably(move |store| {
                let taken = store.finish(attempt, fence, end.clone());
                let claims = match taken {
                    Taken::Fenced => Vec::new(),
                    Taken::Now | Taken::Before => store.claim(daemon),
                };
                (taken, claims)
            })
            .await;
        self.answer(taken).map(|()| claims)
    }

    async fn removed(&self) {
        let attempt = self.claim.attempt;
        // Where that is lost, the sweeper finds nothing to remove.
        let _ = self.link.call(move |store| store.removed(attempt)).await;
    }
}
