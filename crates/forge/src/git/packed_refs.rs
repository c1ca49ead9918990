//! Writes all refs of a mirror as one file, `packed-refs`.
//!
//! A ref by itself is a file, and each part of its name a folder: some hundred KB of names from a remote would become
//! hundreds of thousands of them. In one file, refs also change all at once, and a branch `a` may become `a/b`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::advertised::Refs;

/// Makes these the only branches and tags of the repository in `folder`. Only under the mirror's lock.
pub(super) fn write(folder: &Path, refs: &Refs) -> io::Result<()> {
    // Left by a killed fetch, it is removed by the next one, as git's own lock files are.
    let new = folder.join("packed-refs.lock");
    let mut file = BufWriter::new(File::create(&new)?);
    // git sorts by bytes, as the map does.
    writeln!(file, "# pack-refs with: sorted ")?;
    for (name, id) in refs {
        writeln!(file, "{id} {name}")?;
    }
    file.into_inner()?.sync_all()?;
    fs::rename(&new, folder.join("packed-refs"))?;
    File::open(folder)?.sync_all()?;
    // Files of refs, which mirrors of earlier versions have, would outweigh the new ones.
    for kind in ["refs/heads", "refs/tags"] {
        let kind = folder.join(kind);
        if kind.read_dir()?.next().is_some() {
            fs::remove_dir_all(&kind)?;
            fs::create_dir(&kind)?;
        }
    }
    Ok(())
}
