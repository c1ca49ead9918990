//! Artifacts: list them, and open their content.

use tokio::io::AsyncRead;
use trainyard_api::{Artifact, Listing};
use trainyard_core::id::RunId;
use trainyard_store::{ALL_BYTES, OpenBlob};

use crate::{App, AppError, Result};

impl App {
    pub async fn list_artifacts(&self, run: i64) -> Result<Listing<Artifact>> {
        let id = RunId(run);
        // An unknown run is an error, not an empty list.
        self.store().run_summary(id).await?;
        Ok(Listing::whole(self.store().list_artifacts(id).await?))
    }

    /// An artifact, and its content to be read.
    pub async fn artifact(
        &self,
        run: i64,
        stage: &str,
        output: &str,
    ) -> Result<(Artifact, Box<dyn AsyncRead + Send + Unpin>)> {
        let artifact = self.store().artifact(RunId(run), stage, output).await?;
        let gone = || {
            // Retention removes the artifact before its content: so this is not its work.
            AppError::not_found(format!(
                "the content of {stage}.{output} of run {run} is missing from the artifact store"
            ))
            .help("restore the artifact store from the backup of the database's time, or run the stage again")
        };
        let opened = self.blobs().open(&artifact.sha256, ALL_BYTES).await?;
        let is_whole = |opened: &OpenBlob| opened.size == artifact.size_bytes;
        let opened = opened.filter(is_whole).ok_or_else(gone)?;
        Ok((artifact, opened.bytes))
    }
}
