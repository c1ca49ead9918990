//! The outputs of scripted programs.

use std::path::Path;

use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::stage::RelativePath;

use super::script::Program;
use crate::archive::{FolderArchive, HashingSink};
use crate::blob::BlobSink;
use crate::error::Error;

/// Writes an output to `to`; `None` where the script left none.
pub(super) fn collect(
    program: &Program,
    output: &RelativePath,
    to: &dyn BlobSink,
    limit: u64,
) -> Result<Option<ArtifactContent>, Error> {
    let open = || HashingSink::create(to, output, limit);
    if let Some(content) = program.outputs.get(output.as_str()) {
        let mut file = open()?;
        file.write(content)?;
        return file.finish(ArtifactKind::File).map(Some);
    }
    let folder = if output.is_root() {
        String::new()
    } else {
        format!("{output}/")
    };
    let mut members = program
        .outputs
        .iter()
        .filter_map(|(path, content)| Some((path.strip_prefix(&folder)?, content)))
        .peekable();
    if members.peek().is_none() {
        return Ok(None);
    }
    let mut archive = FolderArchive::new(open()?, Path::new("/"));
    for (path, content) in members {
        archive.file(
            Path::new(path),
            false,
            content.len() as u64,
            &mut content.as_slice(),
        )?;
    }
    archive.finish().map(Some)
}
