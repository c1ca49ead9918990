//! Artifacts: list them, and stream their content.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;
use trainyard_api::{Artifact, ErrorBody, Listing};
use trainyard_core::artifact::ArtifactKind;
use trainyard_core::id::RunId;
use trainyard_store::{ALL_BYTES, OpenBlob};

use super::convert;
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
    let artifacts = state.store().list_artifacts(id).await?;
    Ok(Json(Listing::whole(
        artifacts.into_iter().map(convert::artifact).collect(),
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
    let opened = state.blobs().open(&artifact.content.sha256, ALL_BYTES);
    let is_whole = |opened: &OpenBlob| opened.size == artifact.content.size;
    let opened = opened.await?.filter(is_whole).ok_or_else(gone)?;
    let (kind, ending) = match artifact.content.kind {
        ArtifactKind::File | ArtifactKind::Executable => ("application/octet-stream", ""),
        ArtifactKind::Folder => ("application/x-tar", ".tar"),
    };
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (CONTENT_LENGTH, opened.size.to_string()),
        (ETAG, format!("\"{}\"", artifact.content.sha256)),
        // Names are slugs: nothing in them needs quoting.
        (
            CONTENT_DISPOSITION,
            format!(
                "attachment; filename=\"{}.{}{ending}\"",
                artifact.stage, artifact.output
            ),
        ),
    ];
    Ok((headers, Body::from_stream(ReaderStream::new(opened.bytes))).into_response())
}
