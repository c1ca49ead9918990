//! Progress of claimed attempts: created, started, logged, removed. That it was started, and removed,
//! is written without waiting for the disk, as in the real store.

use trainyard_core::event::Event;
use trainyard_core::id::{AttemptId, Fence};
use trainyard_core::run::AttemptState;
use trainyard_core::transition::apply;
use trainyard_executor::LogCursor;

use super::Store;
use super::crash::Undo;

/// The result of a write for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Now,
    /// The same claim had written it before.
    Before,
    /// Another claim holds the attempt, or it has ended.
    Fenced,
}

impl Store {
    pub(crate) fn created(&mut self, attempt: AttemptId, fence: Fence, handle: &str) -> Taken {
        if !self.fenced_in(attempt, fence) {
            return Taken::Fenced;
        }
        self.undo.clear();
        if let Some(row) = self.attempts.get_mut(&attempt) {
            row.handle = Some(handle.to_owned());
        }
        Taken::Now
    }

    pub(crate) fn started(
        &mut self,
        attempt: AttemptId,
        fence: Fence,
        image: Option<&str>,
    ) -> Taken {
        if !self.fenced_in(attempt, fence) {
            return Taken::Fenced;
        }
        self.remember(attempt);
        let now = self.now();
        let Some(row) = self.attempts.get_mut(&attempt) else {
            return Taken::Fenced;
        };
        let Some(run) = self.runs.get_mut(&row.run) else {
            return Taken::Fenced;
        };
        let event = Event::AttemptStarted {
            attempt: row.reference,
            image: image.map(ToOwned::to_owned),
        };
        if apply(&run.dag, &mut run.run, &event, now).is_ok() {
            row.started_at = Some(now);
        }
        Taken::Now
    }

    /// More of a log. The same piece, sent twice in a row, is stored once.
    pub(crate) fn append_log(
        &mut self,
        attempt: AttemptId,
        fence: Fence,
        text: &[u8],
        cursor: Option<LogCursor>,
    ) -> Taken {
        if !self.fenced_in(attempt, fence) {
            return Taken::Fenced;
        }
        self.undo.clear();
        let Some(row) = self.attempts.get_mut(&attempt) else {
            return Taken::Fenced;
        };
        if row.last_piece == text {
            return Taken::Before;
        }
        row.log.extend_from_slice(text);
        row.last_piece = text.to_vec();
        row.cursor = cursor.or(row.cursor);
        Taken::Now
    }

    pub(crate) fn removed(&mut self, attempt: AttemptId) {
        if let Some(row) = self.attempts.get_mut(&attempt).filter(|row| row.ended) {
            row.removed = true;
        }
    }

    /// Of these attempts, those that are known, and whether they have ended.
    pub(crate) fn known(&self, attempts: &[AttemptId]) -> Vec<(AttemptId, bool)> {
        let known = |id: &AttemptId| Some((*id, self.attempts.get(id)?.ended));
        attempts.iter().filter_map(known).collect()
    }

    /// The attempts that a daemon holds and runs, by the records.
    pub(crate) fn running_of(
        &self,
        daemon: trainyard_core::id::DaemonId,
    ) -> Vec<(AttemptId, Fence)> {
        let own = self.attempts.iter().filter(|(_, row)| {
            row.owner == Some(daemon)
                && matches!(self.attempt_state(row), Some(AttemptState::Running { .. }))
        });
        own.map(|(id, row)| (*id, row.fence)).collect()
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
