//! The ledger of a daemon: Postgres and the artifact folder.
//!
//! A database that does not answer is waited for: the container goes on meanwhile, and what happened is
//! written once it is back. A supervisor's right to write ends by the fence, or with the attempt.
//!
//! What the database refuses for its values is not waited for, since it never passes. An end that is
//! refused is replaced by one in our own words, which needs nothing of it; a run of which anything else
//! is refused is held back in quarantine.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};
use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending, Event};
use trainyard_core::id::{AttemptId, Fence, RunId};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::run::AttemptRef;
use trainyard_executor::{Collected, CollectedKind, Handle, SpecHash};
use trainyard_store::fleet::figures::LOGS_WAITING;
use trainyard_store::{
    ArtifactContent, ArtifactKind, Blobs, Claim, Error, FinishedAttempt, LogChunk, NewArtifact,
    ReportPace, Store, Subject, Weight, answered_within,
};

use crate::attempt::allowance::Allowance;
use crate::attempt::ledger::{FencedOff, KeptOutput, Ledger};
use crate::attempt::log_lines::Batch;
use crate::loops::dispatcher::Dispatcher;

/// The first wait for a database that does not answer; it doubles up to [`WAIT_AT_MOST`].
const WAIT_AT_FIRST: Duration = Duration::from_millis(50);

/// The longest wait for a database that does not answer.
const WAIT_AT_MOST: Duration = Duration::from_secs(2);

/// How long the database may take to answer, waiting for others included, before it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// How often a write may be refused: what another transaction did may have been in its way, once.
const REFUSALS_AT_MOST: u32 = 3;

/// Why something was not written, and will not be however often that is tried.
#[derive(Debug)]
enum Unwritten {
    /// Somebody else acts on the attempt, or its run is held back.
    FencedOff,
    /// The database refuses the values. With its SQLSTATE.
    Refused(String),
}

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

    /// Calls until the database has taken it. Holds the run back where it refuses to.
    async fn durably<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, FencedOff>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match self.answered(what, call).await {
            Ok(value) => Ok(value),
            Err(Unwritten::FencedOff) => Err(FencedOff),
            Err(Unwritten::Refused(code)) => Err(self.hold_back(what, &code).await),
        }
    }

    /// Calls until the database has answered.
    async fn answered<T, F>(&self, what: &str, call: impl Fn() -> F) -> Result<T, Unwritten>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut wait = WAIT_AT_FIRST;
        let mut refusals = 0;
        let mut pace = ReportPace::new(Duration::ZERO);
        loop {
            match answered_within(ANSWER_WITHIN, call()).await {
                Ok(value) => return Ok(value),
                Err(Error::Fenced) => return Err(Unwritten::FencedOff),
                // Held back in quarantine: whoever comes once it is released finds all as it is.
                Err(problem @ Error::Corrupt { .. }) => {
                    error!(error = %problem, "the database cannot take {what}; leaving the attempt as it is");
                    return Err(Unwritten::FencedOff);
                }
                Err(problem) => {
                    let now = Instant::now().into_std();
                    self.store.condition().heed(&problem, now);
                    if let Some(code) = problem.refusal() {
                        error!(
                            error = &problem as &dyn std::error::Error,
                            "the database refuses {what}, which is a fault in Trainyard"
                        );
                        refusals += 1;
                        if refusals == REFUSALS_AT_MOST {
                            return Err(Unwritten::Refused(code));
                        }
                    } else if problem.is_transient() {
                        let error = &problem as &dyn std::error::Error;
                        // Each of a thousand attempts may wait for the same database.
                        match pace.failed(now) {
                            Some(_) => {
                                warn!(error, "the database does not take {what}; trying again")
                            }
                            None => {
                                debug!(error, "the database does not take {what}; trying again")
                            }
                        }
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

    /// Holds the run back: something of it is refused, and what may run of it cannot be recorded.
    async fn hold_back(&self, what: &str, code: &str) -> FencedOff {
        let reason = refused(what, code);
        let subject = Subject::Run(self.run);
        let record = || {
            self.store
                .record_trouble(subject, "supervision", &reason, Weight::Certain)
        };
        if let Err(Unwritten::Refused(code)) = self.answered("a quarantine", record).await {
            error!(code, reason, "a run could not be quarantined");
        }
        FencedOff
    }

    /// Writes the end of the attempt, and `claims` what can go then.
    async fn end(&self, finished: &FinishedAttempt, claims: bool) -> Result<Vec<Claim>, Unwritten> {
        let end = || {
            let request = claims.then(|| self.dispatcher.request().clone());
            self.store.finish_attempt(finished.clone(), request)
        };
        let finished = self.answered("the end of an attempt", end).await?;
        Ok(finished.claims)
    }

    /// Writes the end of the attempt where the database refused to.
    async fn end_refused(&self, finished: FinishedAttempt) -> Result<(), Unwritten> {
        // It may be what was claimed along with it.
        let code = match self.end(&finished, false).await {
            Err(Unwritten::Refused(code)) => code,
            other => return other.map(drop),
        };
        let reason = Reason::new(ReasonCode::Internal, refused("how it ended", &code));
        let plain = FinishedAttempt {
            end: AttemptEnd {
                ending: Ending::Errored(reason),
                ended_at: finished.end.ended_at,
                ran_for: finished.end.ran_for,
                metrics: Default::default(),
            },
            artifacts: Vec::new(),
            ..finished
        };
        self.end(&plain, false).await.map(drop)
    }
}

/// What is refused, in words that hold nothing of it.
fn refused(what: &str, code: &str) -> String {
    format!(
        "the database refuses to record {what} (SQLSTATE {code}), which is a fault in Trainyard; the daemon's log says more"
    )
}

impl Ledger for StoreLedger {
    async fn created(
        &self,
        handle: &Handle,
        spec: &SpecHash,
        notes: &[String],
    ) -> Result<(), FencedOff> {
        self.durably("a container's handle", || {
            self.store
                .save_handle(self.attempt, self.fence, &handle.container, &spec.0, notes)
        })
        .await
    }

    async fn started(
        &self,
        image: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<(), FencedOff> {
        self.durably("the start of an attempt", || {
            self.store
                .mark_started(self.attempt, self.fence, image, since)
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

    async fn allowance(&self) -> Result<Allowance, FencedOff> {
        let recorded = self.durably("what a run keeps", || self.store.kept_by_run(self.run));
        self.dispatcher.allowances().of(self.run, recorded).await
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
                        CollectedKind::Executable => ArtifactKind::Executable,
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
        let ended = match self.end(&finished, true).await {
            Err(Unwritten::Refused(_)) => self.end_refused(finished).await.map(|()| Vec::new()),
            ended => ended,
        };
        match ended {
            Ok(claims) => {
                self.dispatcher.recorded(attempt, fence);
                self.dispatcher.take(claims);
                Ok(())
            }
            Err(Unwritten::FencedOff) => Err(FencedOff),
            Err(Unwritten::Refused(code)) => {
                Err(self.hold_back("how an attempt ended", &code).await)
            }
        }
    }

    async fn removed(&self) {
        if let Err(problem) = self.store.mark_removed(self.attempt).await {
            // The sweeper sees the container gone and marks it again.
            warn!(error = %problem, "the removal of a container was not recorded");
        }
    }
}
