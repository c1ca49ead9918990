//! Progress of claimed attempts: created, started, logged, removed. That it was started, and removed,
//! is written without waiting for the disk, as in the real store.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use trainyard_core::Timestamp;
use trainyard_core::event::{AttemptEnd, Ending, Event};
use trainyard_core::id::{AttemptId, Fence};
use trainyard_core::outcome::{Reason, ReasonCode};
use trainyard_core::run::AttemptState;
use trainyard_core::transition::apply;
use trainyard_store::{FinishedAttempt, LogChunk, RecordedAttempt, Result};

use super::Store;
use super::crash::Undo;
use crate::settings::Mutation;

impl Store {
    pub(crate) fn created(
        &mut self,
        attempt: AttemptId,
        fence: Fence,
        handle: String,
    ) -> Result<()> {
        self.fenced(attempt, fence)?.handle = Some(handle);
        self.undo.clear();
        Ok(())
    }

    /// The first record counts: the start is `since` if Docker reported a time, within what is possible.
    pub(crate) fn started(
        &mut self,
        attempt: AttemptId,
        fence: Fence,
        image: Option<String>,
        since: Option<Timestamp>,
    ) -> Result<()> {
        self.fenced(attempt, fence)?;
        self.remember(attempt);
        let now = self.now();
        let row = self.fenced(attempt, fence)?;
        let started_at = since.map_or(now, |since| since.max(row.queued_at).min(now));
        let (run, reference, started_at) = (
            row.run,
            row.reference,
            *row.started_at.get_or_insert(started_at),
        );
        if let Some(run) = self.runs.get_mut(&run) {
            let event = Event::AttemptStarted {
                attempt: reference,
                image,
            };
            // Refused where it was recorded before.
            drop(apply(&run.pinned.dag, &mut run.run, &event, started_at));
        }
        Ok(())
    }

    /// More of a log. The same piece, sent twice in a row, is stored once.
    pub(crate) fn append_log(
        &mut self,
        attempt: AttemptId,
        fence: Fence,
        chunks: &[LogChunk],
    ) -> Result<()> {
        let row = self.fenced(attempt, fence)?;
        for chunk in chunks {
            if row.last_piece != chunk.text {
                row.log.extend_from_slice(&chunk.text);
                row.last_piece = chunk.text.to_vec();
                row.cursor = chunk.cursor.or(row.cursor);
            }
        }
        self.undo.clear();
        Ok(())
    }

    pub(crate) fn removed(&mut self, attempt: AttemptId) -> Result<()> {
        let row = self.attempts.get_mut(&attempt);
        if let Some(row) = row.filter(|row| row.is_finished()) {
            row.removed = true;
        }
        Ok(())
    }

    /// The first attempts that ended and whose containers are not known to be gone.
    pub(crate) fn unremoved(&self, limit: u32) -> Vec<AttemptId> {
        let ended = self.attempts.iter();
        let ended = ended.filter(|(_, row)| row.is_finished() && !row.removed);
        ended.map(|(id, _)| *id).take(limit as usize).collect()
    }

    /// What is known of the attempts of listed containers.
    pub(crate) fn known(&mut self, listed: &[AttemptId]) -> HashMap<AttemptId, RecordedAttempt> {
        if self.world.has(Mutation::AbsentMeansLost) {
            self.give_up_absent(listed);
        }
        let known = |id: &AttemptId| {
            let row = self.attempts.get(id)?;
            let known = RecordedAttempt {
                ended: row.is_finished() && !self.world.has(Mutation::NeverSweeps),
                fence: row.claimed_at.map(|_| row.fence),
                owner: row.owner,
            };
            Some((*id, known))
        };
        listed.iter().filter_map(known).collect()
    }

    /// Of these attempts, those that ended longer than `ago` ago.
    pub(crate) fn ended_before(
        &self,
        mut attempts: Vec<AttemptId>,
        ago: Duration,
    ) -> Vec<AttemptId> {
        let now = self.now();
        attempts.retain(|id| {
            let ended = self.attempts.get(id).and_then(|row| row.finished_at);
            ended.is_some_and(|at| !(now - ago..=now).contains(&at))
        });
        attempts
    }

    fn give_up_absent(&mut self, listed: &[AttemptId]) {
        let absent: Vec<FinishedAttempt> = self
            .attempts
            .iter()
            .filter(|(id, row)| {
                let running = matches!(self.attempt_state(row), Some(AttemptState::Running { .. }));
                running && !listed.contains(id)
            })
            .map(|(id, row)| FinishedAttempt {
                run: row.run,
                attempt: *id,
                fence: row.fence,
                end: AttemptEnd {
                    ending: Ending::Lost(Reason::new(ReasonCode::Unproved, "not listed")),
                    ended_at: self.world.now(),
                    ran_for: None,
                    metrics: BTreeMap::new(),
                },
                artifacts: Vec::new(),
            })
            .collect();
        for end in absent {
            // It is held under its own fence.
            drop(self.finish(end, None));
        }
    }

    fn remember(&mut self, attempt: AttemptId) {
        let Some(row) = self.attempts.get(&attempt) else {
            return;
        };
        let Some(run) = self.runs.get(&row.run) else {
            return;
        };
        let stage = &run.run.stages[row.reference.stage.0];
        let place = row.reference.number as usize - 1;
        self.undo.push(Undo {
            at: tokio::time::Instant::now(),
            attempt,
            started_at: row.started_at,
            state: stage.attempts[place].state.clone(),
            image: stage.image.clone(),
        });
    }
}
