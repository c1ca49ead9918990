//! The ledger of a daemon: Postgres and the artifact folder.
//!
//! A database that does not answer is waited for: the container goes on meanwhile, and what happened is
//! written once it is back. Only the fence ends a supervisor's right to write.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};
use trainyard_core::event::{AttemptEnd, Event};
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::run::AttemptRef;
use trainyard_executor::{Collected, CollectedKind, Handle, SpecHash};
use trainyard_store::figures::LOGS_WAITING;
use trainyard_store::{
    ArtifactContent, ArtifactKind, Blobs, Claim, Error, FinishedAttempt, LogChunk, NewArtifact,
    Store,
};

use crate::dispatcher::Dispatcher;
use crate::ledger::{FencedOff, KeptOutput, Ledger};
use crate::log_lines::Batch;

/// The first wait for a database that does not answer; it doubles up to [`WAIT_AT_MOST`].
const WAIT_AT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait for a database that does not answer.
const WAIT_AT_MOST: Duration = Duration::from_secs(2);

/// How long the database may take to answer, waiting for others included, before it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// Writes down one claimed attempt.
#[derive(Debug)]
pub struct StoreLedger {
    store: Store,
    blobs: Blobs,
    run: RunId,
    attempt: AttemptId,
    reference: AttemptRef,
    fence: Fence,
    dispatcher: Dispatcher,
}

impl StoreLedger {
    /// A ledger for this claim; attempts claimed at its end go to `dispatcher`.
    #[must_use]
    pub fn new(store: Store, blobs: Blobs, claim: &Claim, dispatcher: Dispatcher) -> Self {
        Self {
            store,
            blobs,
            run: claim.run.facts.id,
            attempt: claim.attempt,
            reference: claim.reference,
            fence: claim.fence,
            dispatcher,
        }
    }

    /// Calls until the database has answered.
    async fn durably<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, FencedOff>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut wait = WAIT_AT_FIRST;
        loop {
            let answer = match tokio::time::timeout(ANSWER_WITHIN, call()).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::silent(ANSWER_WITHIN)),
            };
            match answer {
                Ok(value) => return Ok(value),
                Err(Error::Fenced) => return Err(FencedOff),
                // Held back in quarantine: whoever comes once it is released finds all as it is.
                Err(problem @ Error::Corrupt { .. }) => {
                    error!(error = %problem, "the database cannot take {what}; leaving the attempt as it is");
                    return Err(FencedOff);
                }
                Err(problem) => {
                    let now = Instant::now().into_std();
                    self.store.condition().heed(&problem, now);
                    if problem.is_transient() {
                        warn!(
                            error = &problem as &dyn std::error::Error,
                            "the database does not take {what}; trying again"
                        );
                    } else {
                        error!(
                            error = &problem as &dyn std::error::Error,
                            "the database refuses {what}; trying again"
                        );
                        wait = WAIT_AT_MOST;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_AT_MOST);
                }
            }
        }
    }
}

impl Ledger for StoreLedger {
    async fn created(&self, handle: &Handle, spec: &SpecHash) -> Result<(), FencedOff> {
        self.durably("a container's handle", || {
            self.store
                .save_handle(self.attempt, self.fence, &handle.container, &spec.0)
        })
        .await
    }

    async fn started(&self, image: Option<&str>) -> Result<(), FencedOff> {
        self.durably("the start of an attempt", || {
            self.store.mark_started(self.attempt, self.fence, image)
        })
        .await
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        let chunk = LogChunk {
            text: batch.text.into(),
            cursor: batch.cursor.map(|cursor| (cursor.major, cursor.minor)),
        };
        let chunks = [chunk];
        let _waiting = LOGS_WAITING.while_held();
        self.durably("a piece of log", || {
            self.store.append_log(self.attempt, self.fence, &chunks)
        })
        .await
    }

    async fn timeout_passed(&self) {
        let passed = [Event::TimeoutPassed(self.reference)];
        let advanced = self
            .durably("a timeout", || self.store.advance(self.run, &passed))
            .await;
        // It needs no fence: it names the attempt, which has run for so long whoever says so. A run that
        // cannot be read is held back.
        drop(advanced);
    }

    async fn keep(&self, file: &Path, content: &Collected) -> Result<(), String> {
        self.blobs
            .ingest(file, &content.sha256, content.size)
            .await
            .map_err(|error| error.to_string())
    }

    async fn finished(&self, end: AttemptEnd, outputs: Vec<KeptOutput>) -> Result<(), FencedOff> {
        let artifacts = outputs
            .into_iter()
            .map(|output| NewArtifact {
                output: output.name,
                content: ArtifactContent {
                    kind: match output.content.kind {
                        CollectedKind::File => ArtifactKind::File,
                        CollectedKind::Folder => ArtifactKind::Folder,
                    },
                    sha256: output.content.sha256,
                    size: output.content.size,
                },
            })
            .collect();
        let (run, attempt, fence) = (self.run, self.attempt, self.fence);
        let finished = FinishedAttempt {
            run,
            attempt,
            fence,
            end,
            artifacts,
        };
        let claims = self
            .durably("the end of an attempt", || {
                let request = Some(self.dispatcher.request().clone());
                self.store.finish_attempt(finished.clone(), request)
            })
            .await?
            .claims;
        self.dispatcher.take(claims);
        Ok(())
    }

    async fn removed(&self) {
        if let Err(problem) = self.store.mark_removed(self.attempt).await {
            // The sweeper sees the container gone and marks it again.
            warn!(error = %problem, "the removal of a container was not recorded");
        }
    }
}
