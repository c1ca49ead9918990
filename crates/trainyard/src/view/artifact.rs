//! Artifacts.

use trainyard_api::Artifact;

use crate::view::quantity::{moment, size};
use crate::view::table::{Rows, cell};

/// The artifacts of a run.
pub(crate) fn list(artifacts: &[Artifact], width: Option<u16>) -> String {
    let heads = ["ARTIFACT", "KIND", "SIZE", "KEPT (UTC)", "SHA-256"];
    let mut rows = Rows::new(&heads, width).right(2);
    for artifact in artifacts {
        rows.add(vec![
            cell(format!("{}.{}", artifact.stage, artifact.output)),
            cell(&artifact.kind),
            cell(size(artifact.size_bytes)),
            cell(moment(artifact.created_at)),
            cell(artifact.sha256.get(..16).unwrap_or(&artifact.sha256)),
        ]);
    }
    rows.text("no artifacts")
}
