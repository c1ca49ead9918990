//! Quarantine: list and release its subjects, and report it where it is the cause of an error.

use trainyard_api::{Listing, Quarantined};
use trainyard_core::id::RunId;
use trainyard_core::principal::Act;
use trainyard_store::Error;

use crate::{App, AppError, Result};

impl App {
    pub async fn list_quarantined(&self) -> Result<Listing<Quarantined>> {
        Ok(Listing::whole(self.store().quarantined().await?))
    }

    pub async fn release(&self, act: &Act, id: i64) -> Result<()> {
        self.store().release_from_quarantine(act, id).await?;
        Ok(())
    }
}

/// One line on a quarantined run: why it is quarantined, and which commands release or end it.
pub(crate) fn in_words(held: &Quarantined) -> String {
    format!(
        "quarantined since its {} failed: {}; release it with `trainyard quarantine release {}`, or end it with \
         `trainyard run cancel {}`",
        held.place, held.reason, held.id, held.name
    )
}

/// An error about a run; where the run is quarantined, the reason and the commands for it.
pub(crate) async fn explain(app: &App, run: RunId, error: Error) -> AppError {
    if matches!(error, Error::Corrupt { .. })
        && let Ok(Some(held)) = app.store().quarantine_of(run).await
    {
        return AppError::conflict(format!("run {run} is {}", in_words(&held)));
    }
    error.into()
}
