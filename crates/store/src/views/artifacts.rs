//! Artifacts of runs.

use trainyard_api::Artifact;
use trainyard_core::id::RunId;

use crate::db::error::{Error, Result};
use crate::store::Store;

impl Store {
    /// The artifacts of a run, in the order of its stages.
    pub async fn list_artifacts(&self, run: RunId) -> Result<Vec<Artifact>> {
        let artifacts = sqlx::query!(
            "select s.name as stage, a.output, a.kind, a.sha256, a.size, a.created_at
             from artifact a join stage_run s on s.run = a.run and s.position = a.stage
             where a.run = $1 order by a.stage, a.output",
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        Ok(artifacts
            .into_iter()
            .map(|row| Artifact {
                run: run.0,
                stage: row.stage,
                output: row.output,
                kind: row.kind,
                sha256: row.sha256,
                size_bytes: row.size.unsigned_abs(),
                created_at: row.created_at,
            })
            .collect())
    }

    /// One artifact of a run.
    ///
    /// # Errors
    /// `NotFound`, with the artifacts that the run has.
    pub async fn artifact(&self, run: RunId, stage: &str, output: &str) -> Result<Artifact> {
        let all = self.list_artifacts(run).await?;
        let names: Vec<String> = all
            .iter()
            .map(|artifact| format!("{}.{}", artifact.stage, artifact.output))
            .collect();
        all.into_iter()
            .find(|artifact| artifact.stage == stage && artifact.output == output)
            .ok_or_else(|| {
                let there = if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                };
                Error::not_found(format!(
                    "artifact {stage}.{output} of run {run}; it has {there}"
                ))
            })
    }
}
