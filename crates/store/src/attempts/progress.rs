//! Progress of a claimed attempt: its container was created, started, removed; or the attempt is given back.
//!
//! 1. Progress is written in batches ([`crate::db::batch`]).
//! 2. The handle is durable before the container is started: a missing handle proves that the program never ran, even
//!    where Docker has lost the container.
//! 3. The other writes do not wait for the disk: if Postgres crashes and loses the last
//!    of them, the daemon asks Docker again.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use trainyard_core::Timestamp;
use trainyard_core::id::{AttemptId, Fence};
use trainyard_core::text::recorded;
use trainyard_failpoint::{AtPoint as _, Point};
use uuid::Uuid;

use crate::attempts::holding;
use crate::db::error::{Error, Result};
use crate::db::topics::Topic;
use crate::store::{Core, Store};

/// A container was created, not started.
#[derive(Debug)]
pub(crate) struct CreatedNote {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) handle: String,
    pub(crate) spec_hash: String,
    pub(crate) notes: Option<String>,
}

#[derive(Debug)]
pub(crate) struct StartedNote {
    pub(crate) attempt: AttemptId,
    pub(crate) fence: Fence,
    pub(crate) image: Option<String>,
    pub(crate) since: Option<Timestamp>,
}

/// A container is gone.
#[derive(Debug)]
pub(crate) struct RemovedNote {
    pub(crate) attempt: AttemptId,
}

impl Store {
    /// Records the handle of an attempt's container before it is started, and
    /// the notes that users see with the attempt.
    ///
    /// # Errors
    /// `Fenced`: another claim holds the attempt, or it has ended. Do not start the container.
    pub async fn save_handle(
        &self,
        attempt: AttemptId,
        fence: Fence,
        handle: &str,
        spec_hash: &str,
        notes: &[String],
    ) -> Result<()> {
        let note = CreatedNote {
            attempt,
            fence,
            handle: handle.to_owned(),
            spec_hash: spec_hash.to_owned(),
            notes: (!notes.is_empty()).then(|| recorded(notes.join("\n"))),
        };
        self.batchers.created.write(note).await
    }

    /// Records that an attempt's container runs. The first record counts, also for the timeout: the start is `since`
    /// if Docker reported a time, else now. Docker's clock may differ from the database's, so a start is never before
    /// the attempt was queued, nor in the future. `image` is by digest where Docker knows one.
    ///
    /// # Errors
    /// `Fenced`.
    pub async fn mark_started(
        &self,
        attempt: AttemptId,
        fence: Fence,
        image: Option<&str>,
        since: Option<Timestamp>,
    ) -> Result<()> {
        let note = StartedNote {
            attempt,
            fence,
            image: image.map(ToOwned::to_owned),
            since,
        };
        self.batchers.started.write(note).await
    }

    /// Records that the container of an attempt that ended is gone from Docker.
    pub async fn mark_removed(&self, attempt: AttemptId) -> Result<()> {
        self.batchers.removed.write(RemovedNote { attempt }).await
    }
}

pub(crate) async fn write_created(core: Arc<Core>, notes: Vec<CreatedNote>) -> Vec<Result<()>> {
    together_or_apart(&core, &notes, |core, notes| Box::pin(created(core, notes))).await
}

async fn created(core: &Core, notes: &[CreatedNote]) -> Vec<Result<()>> {
    let written = holding::created(core, notes).await;
    answers(notes.iter().map(|note| note.attempt), written)
}

pub(crate) async fn write_started(core: Arc<Core>, notes: Vec<StartedNote>) -> Vec<Result<()>> {
    together_or_apart(&core, &notes, |core, notes| Box::pin(started(core, notes))).await
}

async fn started(core: &Core, notes: &[StartedNote]) -> Vec<Result<()>> {
    let written = holding::started(core, notes).await.map(|started| {
        let changed = |(attempt, run)| {
            core.wakes.topics.changed(Topic::Run(run));
            attempt
        };
        started.into_iter().map(changed).collect()
    });
    answers(notes.iter().map(|note| note.attempt), written)
}

pub(crate) async fn write_removed(core: Arc<Core>, notes: Vec<RemovedNote>) -> Vec<Result<()>> {
    let ids: Vec<_> = notes.iter().map(|note| note.attempt.0).collect();
    let written = sqlx::query!(
        "update attempt set removed = true where id = any($1) and state = 'finished' and not removed",
        &ids
    )
    .execute(&core.relaxed).at(Point::NoteRemoved)
    .await;
    // An attempt that does not exist, or was marked before, needs no write.
    let attempts = notes.iter().map(|note| note.attempt);
    answers(attempts, written.map(|_| ids))
}

/// Writes notes in one statement.
type Write<N> = for<'n> fn(&'n Core, &'n [N]) -> BoxFuture<'n, Vec<Result<()>>>;

/// Writes all notes at once. If Postgres refuses a value of one of them, writes
/// each by itself, so that only that one fails.
async fn together_or_apart<N>(core: &Core, notes: &[N], write: Write<N>) -> Vec<Result<()>> {
    let together = write(core, notes).await;
    let refused = |answer: &Result<()>| matches!(answer, Err(error) if error.refusal().is_some());
    if notes.len() < 2 || !together.iter().any(refused) {
        return together;
    }
    let mut apart = Vec::with_capacity(notes.len());
    for note in notes {
        apart.append(&mut write(core, std::slice::from_ref(note)).await);
    }
    apart
}

/// The answer to each note: done where its row was written, else `Fenced`.
fn answers(
    attempts: impl Iterator<Item = AttemptId>,
    written: sqlx::Result<Vec<Uuid>>,
) -> Vec<Result<()>> {
    match written {
        Ok(written) => attempts
            .map(|attempt| match written.contains(&attempt.0) {
                true => Ok(()),
                false => Err(Error::Fenced),
            })
            .collect(),
        // Each caller retries by itself. The error cannot be cloned, so only the first caller gets it.
        Err(error) => {
            tracing::debug!(%error, "progress of attempts could not be written");
            let mut first = Some(Error::from(error));
            attempts
                .map(|_| Err(first.take().unwrap_or(Error::Contention(None))))
                .collect()
        }
    }
}
