//! Artifacts of runs.

use trainyard_core::Timestamp;
use trainyard_core::artifact::ArtifactContent;
use trainyard_core::id::{AttemptId, RunId};

use crate::db::error::{Error, Result};
use crate::files::artifacts::content;
use crate::store::Store;

/// An artifact of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactView {
    pub run: RunId,
    pub stage: String,
    pub output: String,
    pub content: ArtifactContent,
    /// The attempt that made it; an attempt of an earlier run where its result was reused.
    pub attempt: AttemptId,
    pub created_at: Timestamp,
}

impl Store {
    /// The artifacts of a run, in the order of its stages.
    pub async fn list_artifacts(&self, run: RunId) -> Result<Vec<ArtifactView>> {
        let rows = sqlx::query!(
            "select s.name as stage, a.output, a.attempt, a.kind, a.sha256, b.size, a.created_at
             from artifact a join stage_run s on s.run = a.run and s.position = a.stage join blob b using (sha256)
             where a.run = $1 order by a.stage, a.output",
            run.0
        )
        .fetch_all(&self.core.reading)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(ArtifactView {
                    run,
                    stage: row.stage,
                    output: row.output,
                    content: content(&row.kind, row.sha256, row.size)?,
                    attempt: AttemptId(row.attempt),
                    created_at: row.created_at,
                })
            })
            .collect()
    }

    /// One artifact of a run.
    ///
    /// # Errors
    /// `NotFound`, with the artifacts that the run has.
    pub async fn artifact(&self, run: RunId, stage: &str, output: &str) -> Result<ArtifactView> {
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
