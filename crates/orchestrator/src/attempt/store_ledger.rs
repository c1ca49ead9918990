//! The ledger of a daemon: Postgres and the artifact folder.
//!
//! A database that does not answer is waited out: the container goes on meanwhile, and its events are recorded once
//! the database is back. A supervisor's right to write ends by the fence, or with the attempt.
//!
//! A write that the database refuses for its values is not retried, since it can never succeed. A refused end is
//! replaced by one in Trainyard's own words, which the database can store; a run of which anything else is
//! refused is quarantined.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, warn};
use trainyard_core::Timestamp;
use trainyard_core::artifact::{ArtifactContent, KeptOutput};
use trainyard_core::backoff::Backoff;
use trainyard_core::event::{AttemptEnd, Ending, Event};
use trainyard_core::id::RunId;
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_executor::{Handle, SpecHash};
use trainyard_store::fleet::metrics::LOGS_WAITING;
use trainyard_store::{
    Claim, ClaimRequest, Error, FinishedAttempt, LogChunk, ReportPace, Subject, Weight,
    answered_within,
};

use crate::attempt::allowance::{Allowance, Allowances};
use crate::attempt::ledger::{FencedOff, Ledger};
use crate::attempt::log_lines::Batch;
use crate::records::Records;

/// The first wait for a database that does not answer.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait for a database that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long the database may take to answer, lock waits included, before the call is retried.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// How often a refused write is tried: another transaction may have been in its way once.
const REFUSALS_AT_MOST: u32 = 3;

/// Why a write failed for good.
#[derive(Debug)]
enum Unwritten {
    /// Another owner acts on the attempt, or its run is quarantined.
    FencedOff,
    /// The database refuses the values, with this SQLSTATE.
    Refused(String),
}

/// Writes down one claimed attempt.
#[derive(Debug)]
pub(crate) struct StoreLedger<'a, R> {
    pub(crate) records: &'a R,
    pub(crate) claim: &'a Claim,
    /// How the attempts are claimed that may start once this one has ended.
    pub(crate) request: &'a ClaimRequest,
    pub(crate) allowances: &'a Allowances,
}

impl<R: Records> StoreLedger<'_, R> {
    fn run(&self) -> RunId {
        self.claim.run.facts.id
    }

    /// Calls until the database has stored it. Quarantines the run if the database refuses it.
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
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.claim.attempt.0);
        let mut refusals = 0;
        let mut pace = ReportPace::new(Duration::ZERO);
        loop {
            match answered_within(ANSWER_WITHIN, call()).await {
                Ok(value) => return Ok(value),
                Err(Error::Fenced) => return Err(Unwritten::FencedOff),
                // Quarantined: the next supervisor, after the release, finds everything unchanged.
                Err(problem @ Error::Corrupt { .. }) => {
                    error!(error = %problem, "the database cannot store {what}; leaving the attempt as it is");
                    return Err(Unwritten::FencedOff);
                }
                Err(problem) => {
                    let now = Instant::now().into_std();
                    self.records.health().note_refusal(&problem, now);
                    if let Some(code) = problem.refusal() {
                        error!(
                            error = &problem as &dyn std::error::Error,
                            "the database refused {what}, which is a bug in Trainyard"
                        );
                        refusals += 1;
                        if refusals == REFUSALS_AT_MOST {
                            return Err(Unwritten::Refused(code));
                        }
                    } else if problem.is_transient() {
                        let error = &problem as &dyn std::error::Error;
                        // A thousand attempts may wait for the same database.
                        match pace.failed(now) {
                            Some(_) => {
                                warn!(error, "the database did not store {what}; will retry")
                            }
                            None => {
                                debug!(error, "the database did not store {what}; will retry")
                            }
                        }
                    } else {
                        error!(
                            error = &problem as &dyn std::error::Error,
                            "the database refused {what}; will retry"
                        );
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Quarantines the run: a part of it is refused, so its running attempts cannot be recorded.
    async fn hold_back(&self, what: &str, code: &str) -> FencedOff {
        let reason = refused(what, code);
        let subject = Subject::Run(self.run());
        let record = || {
            self.records
                .record_trouble(subject, "supervision", &reason, Weight::Certain)
        };
        if let Err(Unwritten::Refused(code)) = self.answered("a quarantine", record).await {
            error!(code, reason, "a run could not be quarantined");
        }
        FencedOff
    }

    /// Records the end of the attempt, and `claims` the attempts that may start then.
    async fn end(&self, finished: &FinishedAttempt, claims: bool) -> Result<Vec<Claim>, Unwritten> {
        let end = || {
            let request = claims.then(|| self.request.clone());
            self.records.finish_attempt(finished.clone(), request)
        };
        let finished = self.answered("the end of an attempt", end).await?;
        Ok(finished.claims)
    }

    /// Records another end where the database refused the first one.
    async fn end_refused(&self, finished: FinishedAttempt) -> Result<(), Unwritten> {
        // The refusal may concern the attempts claimed along with it.
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

/// A message about a refused write, without any of its values.
fn refused(what: &str, code: &str) -> String {
    format!(
        "the database refused to record {what} (SQLSTATE {code}), which is a bug in Trainyard; see the daemon's log"
    )
}

impl<R: Records> Ledger for StoreLedger<'_, R> {
    type Next = Vec<Claim>;

    async fn created(
        &self,
        handle: &Handle,
        spec: &SpecHash,
        notes: &[String],
    ) -> Result<(), FencedOff> {
        self.durably("a container's handle", || {
            self.records.save_handle(
                self.claim.attempt,
                self.claim.fence,
                &handle.container,
                &spec.0,
                notes,
            )
        })
        .await
    }

    async fn started(
        &self,
        image: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<(), FencedOff> {
        self.durably("the start of an attempt", || {
            self.records
                .mark_started(self.claim.attempt, self.claim.fence, image, since)
        })
        .await
    }

    async fn append_log(&self, batch: Batch) -> Result<(), FencedOff> {
        let chunk = LogChunk {
            text: batch.text.into(),
            cursor: batch.cursor,
        };
        let chunks = [chunk];
        let _waiting = LOGS_WAITING.while_held();
        self.durably("a piece of log", || {
            self.records
                .append_log(self.claim.attempt, self.claim.fence, &chunks)
        })
        .await
    }

    async fn timeout_passed(&self) {
        let passed = [Event::TimeoutPassed(self.claim.reference)];
        let advanced = self
            .durably("a timeout", || self.records.advance(self.run(), &passed))
            .await;
        // This write needs no fence: it names the attempt, which has run for so long whichever daemon reports it. A
        // run that cannot be read is quarantined.
        drop(advanced);
    }

    async fn allowance(&self) -> Result<Allowance, FencedOff> {
        let recorded = self.durably("the kept bytes of a run", || {
            self.records.kept_by_run(self.run())
        });
        self.allowances.of(self.run(), recorded).await
    }

    async fn keep(&self, file: &Path, content: &ArtifactContent) -> Result<(), String> {
        let kept = self.records.keep(file, content).await;
        kept.map_err(|error| error.to_string())
    }

    async fn finished(
        &self,
        end: AttemptEnd,
        outputs: Vec<KeptOutput>,
    ) -> Result<Vec<Claim>, FencedOff> {
        let finished = FinishedAttempt {
            run: self.run(),
            attempt: self.claim.attempt,
            fence: self.claim.fence,
            end,
            artifacts: outputs,
        };
        let ended = match self.end(&finished, true).await {
            Err(Unwritten::Refused(_)) => self.end_refused(finished).await.map(|()| Vec::new()),
            ended => ended,
        };
        match ended {
            Ok(claims) => Ok(claims),
            Err(Unwritten::FencedOff) => Err(FencedOff),
            Err(Unwritten::Refused(code)) => {
                Err(self.hold_back("how an attempt ended", &code).await)
            }
        }
    }

    async fn removed(&self) {
        if let Err(problem) = self.records.mark_removed(self.claim.attempt).await {
            // The sweeper finds the container gone and records it again.
            warn!(error = %problem, "the removal of a container was not recorded");
        }
    }
}
