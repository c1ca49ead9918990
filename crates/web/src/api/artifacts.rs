//! Artifacts: list them, and stream their content.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;
use trainyard_api::{Artifact, ErrorBody, Listing};
use trainyard_core::artifact::ArtifactKind;
use trainyard_core::id::RunId;

use crate::answer::Json;
use crate::error::ApiError;
use crate::extract::Path;
use crate::state::WebState;

#[utoipa::path(
    get, path = "/runs/{run}/artifacts", params(("run" = i64, Path)),
    responses((status = 200, body = Listing<Artifact>), (status = 404, body = ErrorBody))
)]
pub(crate) async fn list(
    State(state): State<WebState>,
    Path(run): Path<i64>,
) -> Result<Json<Listing<Artifact>>, ApiError> {
    let id = RunId(run);
    state.store().run_summary(id).await?;
    Ok(Json(Listing::whole(
        state.store().list_artifacts(id).await?,
    )))
}

#[utoipa::path(
    get, path = "/runs/{run}/artifacts/{stage}/{output}",
    params(("run" = i64, Path), ("stage" = String, Path), ("output" = String, Path)),
    responses((status = 200, description = "the content", content_type = "application/octet-stream"), (status = 404, body = ErrorBody))
)]
pub(crate) async fn download(
    State(state): State<WebState>,
    Path((run, stage, output)): Path<(i64, String, String)>,
) -> Result<Response, ApiError> {
    let artifact = state.store().artifact(RunId(run), &stage, &output).await?;
    let gone = || {
        ApiError::not_found(format!(
            "the content of {stage}.{output} of run {run} is gone"
        ))
        .help("retention removed it; run the stage again")
    };
    let path = state.blobs().path_of(&artifact.sha256).ok_or_else(gone)?;
    let file = tokio::fs::File::open(&path).await.map_err(|_| gone())?;
    let (kind, ending) = match ArtifactKind::from_word(&artifact.kind) {
        Some(ArtifactKind::Folder) => ("application/x-tar", ".tar"),
        Some(ArtifactKind::File | ArtifactKind::Executable) | None => {
            ("application/octet-stream", "")
        }
    };
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (CONTENT_LENGTH, artifact.size_bytes.to_string()),
        (ETAG, format!("\"{}\"", artifact.sha256)),
        // Names are slugs: nothing in them needs quoting.
        (
            CONTENT_DISPOSITION,
            format!(
                "attachment; filename=\"{}.{}{ending}\"",
                artifact.stage, artifact.output
            ),
        ),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(file))).into_response())
}
