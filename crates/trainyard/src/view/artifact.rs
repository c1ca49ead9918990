//! Artifacts.

use trainyard_api::Artifact;
use trainyard_core::measure::in_units;

use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

/// The artifacts of a run.
pub(crate) fn list(artifacts: &[Artifact], screen: Screen) -> String {
    let heads = ["ARTIFACT", "KIND", "SIZE", "KEPT", "SHA-256"];
    let mut rows = Rows::new(&heads, screen)
        .right(2)
        .moments(3)
        .names(&[0])
        .droppable(&[4, 1])
        .whole();
    for artifact in artifacts {
        rows.add(vec![
            cell(format!("{}.{}", artifact.stage, artifact.output)),
            cell(&artifact.kind),
            cell(in_units(artifact.size_bytes)),
            moment(artifact.created_at, screen),
            cell(artifact.sha256.get(..16).unwrap_or(&artifact.sha256)),
        ]);
    }
    rows.text("no artifacts")
}
