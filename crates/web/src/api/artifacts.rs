//! Artifacts: list them, and stream their content.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;
use trainyard_api::{Artifact, ErrorBody, Listing};
use trainyard_core::artifact::ArtifactKind;

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
    Ok(Json(state.app().list_artifacts(run).await?))
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
    let (artifact, content) = state.app().artifact(run, &stage, &output).await?;
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
    Ok((headers, Body::from_stream(ReaderStream::new(content))).into_response())
}
