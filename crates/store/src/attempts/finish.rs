//! Ends of attempts: each is recorded once, with everything that follows from it, in one transaction.
//!
//! The attempts that an end makes ready, and the capacity that it frees, can be claimed in the same transaction: a
//! chain of stages costs one durable commit per stage.

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::PgConnection;
use trainyard_core::artifact::KeptOutput;
use trainyard_core::event::AttemptEnd;
use trainyard_core::id::{AttemptId, DaemonId, Fence, RunId};
use trainyard_failpoint::Point;

use crate::attempts::assemble::{Claim, assemble};
use crate::attempts::claim::{Granted, claim_in};
use crate::care::quarantine::{Subject, Weight};
use crate::db::error::{Error, Result, repeated};
use crate::files::artifacts::ArtifactColumns;
use crate::runs::advance::{Advanced, EndTaken, Input, advance_in};
use crate::runs::draft::Draft;
use crate::store::{Core, Store};

use crate::attempts::claim::ClaimRequest;

/// How an attempt ended, and what it left.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedAttempt {
    pub run: RunId,
    pub attempt: AttemptId,
    pub fence: Fence,
    pub end: AttemptEnd,
    /// Its outputs; their content is in the artifact store.
    pub artifacts: Vec<KeptOutput>,
}

/// What followed from the end of an attempt.
#[derive(Debug, Default)]
pub struct Finished {
    pub advanced: Advanced,
    /// Whether an end was already recorded under the same claim; then nothing was changed.
    pub before: bool,
    /// Attempts that were claimed in the same transaction, if the caller asked for that. Where several ends were
    /// recorded together, one of the callers gets all claims.
    pub claims: Vec<Claim>,
}

impl Store {
    /// Records the end of an attempt under its fence, decides what follows, and, with `claim`, claims the attempts
    /// that can start now. Durable when it returns; safe to repeat.
    ///
    /// # Errors
    /// `Fenced`: another claim holds the attempt; leave it and its container alone.
    /// `Corrupt` where the run cannot be read.
    pub async fn finish_attempt(
        &self,
        finished: FinishedAttempt,
        claim: Option<ClaimRequest>,
    ) -> Result<Finished> {
        let run = finished.run;
        let result = self.batchers.finished.write((finished, claim)).await;
        if let Err(error @ Error::Corrupt { .. }) = &result {
            let reason = error.to_string();
            self.record_trouble(Subject::Run(run), "planning", &reason, Weight::Certain)
                .await?;
        }
        result
    }
}

type End = (FinishedAttempt, Option<ClaimRequest>);

/// Writes ends that came at the same time in one transaction. If that fails, writes each by itself, so that one bad
/// end does not stop the others.
pub(crate) async fn write_finished(core: Arc<Core>, ends: Vec<End>) -> Vec<Result<Finished>> {
    match write_together(&core, &ends).await {
        Ok(finished) => finished,
        Err(error) if ends.len() == 1 || matches!(error, Error::Unreachable { .. }) => {
            let mut first = Some(error);
            ends.iter()
                .map(|_| Err(first.take().unwrap_or(Error::Contention(None))))
                .collect()
        }
        Err(error) => {
            tracing::debug!(%error, "ends of attempts could not be written together");
            let mut finished = Vec::with_capacity(ends.len());
            for end in &ends {
                let one = write_together(&core, std::slice::from_ref(end)).await;
                finished.push(one.and_then(|mut one| one.pop().unwrap_or(Err(Error::Interrupted))));
            }
            finished
        }
    }
}

async fn write_together(core: &Arc<Core>, ends: &[End]) -> Result<Vec<Result<Finished>>> {
    let (mut committed, granted) = repeated(|| async {
        let mut transaction = core.begin().await?;
        let mut draft = Draft::default();
        let granted = write_in(core, &mut transaction, &mut draft, ends).await?;
        Ok((draft.commit(transaction, Point::Finish).await?, granted))
    })
    .await?;
    committed.settle(core).await;
    let mut claims = BTreeMap::new();
    for (place, granted) in granted {
        claims.insert(place, assemble(core, granted.rows).await?);
    }
    let finished = ends.iter().enumerate().map(|(place, (end, _))| {
        let claims = claims.remove(&place).unwrap_or_default();
        if let Some(Err(error)) = committed.answers.get(&end.run) {
            // The error is about the run, so each of its ends returns it.
            return Err(Error::corrupt(format!("run {}", end.run), error));
        }
        match committed.ends.get(&end.attempt) {
            Some(EndTaken::Now(..)) => {
                // Several ends of one run share what followed; the first one returns it.
                let advanced = committed.answers.remove(&end.run).and_then(Result::ok);
                Ok(Finished {
                    advanced: advanced.unwrap_or_default(),
                    before: false,
                    claims,
                })
            }
            Some(EndTaken::Before) => Ok(Finished {
                advanced: Advanced::default(),
                before: true,
                claims,
            }),
            // A run that is gone has no attempts that a daemon may touch either.
            Some(EndTaken::Fenced) | None => Err(Error::Fenced),
        }
    });
    Ok(finished.collect())
}

async fn write_in(
    core: &Core,
    connection: &mut PgConnection,
    draft: &mut Draft,
    ends: &[End],
) -> Result<BTreeMap<usize, Granted>> {
    let mut work: BTreeMap<RunId, Input> = BTreeMap::new();
    for (end, _) in ends {
        let taken = &mut work.entry(end.run).or_default().ends;
        // An end that is reported twice in one batch is recorded once.
        if taken.iter().all(|(attempt, ..)| *attempt != end.attempt) {
            taken.push((end.attempt, end.fence, end.end.clone()));
        }
    }
    advance_in(core, connection, draft, work).await?;
    let mut artifacts = ArtifactColumns::default();
    for (end, _) in ends {
        if let Some(EndTaken::Now(run, reference)) = draft.end_taken(end.attempt) {
            artifacts.add(run, reference, end.attempt, &end.artifacts);
        }
    }
    artifacts.write(connection).await?;
    let mut granted: BTreeMap<usize, Granted> = BTreeMap::new();
    let mut served: Vec<(DaemonId, &str)> = Vec::new();
    for (place, (end, request)) in ends.iter().enumerate() {
        let Some(request) = request else { continue };
        let fenced = draft.end_taken(end.attempt) == Some(EndTaken::Fenced);
        if fenced
            || core.health.pauses_claims()
            || served.contains(&(request.daemon, &request.executor))
        {
            continue;
        }
        served.push((request.daemon, &request.executor));
        let offered = claim_in(connection, request).await?;
        draft.add_offer(offered.some_wait);
        granted.insert(place, offered);
    }
    Ok(granted)
}
