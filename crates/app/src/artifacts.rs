//! Artifacts: list them, and open their content.

use tokio::fs::File;
use trainyard_api::{Artifact, Listing};
use trainyard_core::id::RunId;

use crate::{App, AppError, Result};

impl App {
    pub async fn list_artifacts(&self, run: i64) -> Result<Listing<Artifact>> {
        let id = RunId(run);
        // An unknown run is an error, not an empty list.
        self.store().run_summary(id).await?;
        Ok(Listing::whole(self.store().list_artifacts(id).await?))
    }

    /// An artifact, and its content to be read.
    pub async fn artifact(&self, run: i64, stage: &str, output: &str) -> Result<(Artifact, File)> {
        let artifact = self.store().artifact(RunId(run), stage, output).await?;
        let gone = || {
            AppError::not_found(format!(
                "the content of {stage}.{output} of run {run} is gone"
            ))
            .help("retention removed it; run the stage again")
        };
        let path = self.blobs().path_of(&artifact.sha256).ok_or_else(gone)?;
        let file = File::open(&path).await.map_err(|_| gone())?;
        Ok((artifact, file))
    }
}
