//! A crash of Postgres: what was written without waiting for the disk, and by nothing durable since,
//! is forgotten.

use std::time::Duration;

use tokio::time::Instant;
use trainyard_core::Timestamp;
use trainyard_core::id::AttemptId;
use trainyard_core::run::AttemptState;

use super::Store;

/// How long the disk may lag behind: three times Postgres's `wal_writer_delay`.
const LAG: Duration = Duration::from_millis(600);

/// The change of a write that may be lost.
pub(super) struct Undo {
    pub(super) at: Instant,
    pub(super) attempt: AttemptId,
    pub(super) started_at: Option<Timestamp>,
    pub(super) state: AttemptState,
    pub(super) image: Option<String>,
}

impl Store {
    /// It goes down, with or without the last writes.
    pub(crate) fn go_down(&mut self, forgets: bool) {
        let mut undo = std::mem::take(&mut self.undo);
        undo.retain(|change| change.at.elapsed() < LAG);
        self.world.note(|| {
            format!(
                "the store goes down (forgets {} writes: {forgets})",
                undo.len()
            )
        });
        self.down = true;
        if forgets {
            for change in undo.into_iter().rev() {
                self.take_back(change);
            }
        }
    }

    pub(crate) fn come_back(&mut self) {
        self.world.note(|| "the store is back".to_owned());
        self.down = false;
    }

    fn take_back(&mut self, change: Undo) {
        let Some(row) = self.attempts.get_mut(&change.attempt) else {
            return;
        };
        row.started_at = change.started_at;
        if let Some(run) = self.runs.get_mut(&row.run) {
            let stage = &mut run.run.stages[row.reference.stage.0];
            stage.image = change.image;
            stage.attempts[row.reference.number as usize - 1].state = change.state;
        }
    }
}
