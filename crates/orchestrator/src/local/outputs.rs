//! Copies the outputs of a local run to where the user wants them: `FOLDER/STAGE/PATH`, with the paths in `$OUTPUTS`.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use trainyard_core::artifact::{ArtifactContent, ArtifactKind};
use trainyard_core::dag::Dag;
use trainyard_core::name::{OutputName, StageName};

/// The outputs that a local run kept.
#[derive(Debug, Default)]
pub struct LocalOutputs {
    /// The directory of their content, named by hash.
    pub(crate) from: PathBuf,
    pub(crate) kept: BTreeMap<(StageName, OutputName), ArtifactContent>,
}

impl LocalOutputs {
    /// Copies all of them to `to`, over those of an earlier run; returns how many. Blocking.
    ///
    /// # Errors
    /// An output cannot be written; the error names its path.
    pub fn copy(&self, dag: &Dag, to: &Path) -> io::Result<usize> {
        let mut all = Vec::new();
        for stage in dag.stages() {
            for (name, path) in &stage.program().outputs {
                if let Some(content) = self.kept.get(&(stage.name.clone(), name.clone())) {
                    all.push((
                        to.join(stage.name.as_str()).join(path.path.as_str()),
                        content,
                    ));
                }
            }
        }
        // A folder before the outputs that are declared inside it.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, content) in &all {
            put(&self.from.join(&content.sha256), content.kind, path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
        Ok(all.len())
    }
}

fn put(from: &Path, kind: ArtifactKind, to: &Path) -> io::Result<()> {
    // Otherwise, files of an earlier run would look like outputs of this one.
    match to.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(to)?,
        Ok(_) => fs::remove_file(to)?,
        Err(_) => {}
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    match kind {
        ArtifactKind::File => copy_file(from, to, 0o644),
        ArtifactKind::Executable => copy_file(from, to, 0o755),
        ArtifactKind::Folder => {
            fs::create_dir(to)?;
            let mut archive = tar::Archive::new(File::open(from)?);
            // The archive has no times.
            archive.set_preserve_mtime(false);
            archive.unpack(to)
        }
    }
}

/// The copy in the run's folder is for its owner alone, and may not be executed: its mode is not the file's.
fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use trainyard_core::name::StageName;

    use super::*;

    #[test]
    fn outputs_lie_as_in_their_stage_and_replace_those_of_an_earlier_run() {
        let text = "stages: {make: {image: i, run: x, outputs: {model: out/model.bin, tool: tool, days: days}}}";
        let dag = trainyard_dagfile::parse("dag.yaml", text).dag.unwrap();
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("kept");
        let to = place.path().join("here");
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(to.join("make/days")).unwrap();
        fs::write(to.join("make/days/old.csv"), "").unwrap();
        fs::write(from.join("file"), "weights").unwrap();
        fs::set_permissions(from.join("file"), Permissions::from_mode(0o600)).unwrap();
        let mut archive = tar::Builder::new(File::create(from.join("folder")).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, "mon.csv", &b"1"[..])
            .unwrap();
        archive.into_inner().unwrap();
        let kept = [
            ("model", ArtifactKind::File, "file"),
            ("tool", ArtifactKind::Executable, "file"),
            ("days", ArtifactKind::Folder, "folder"),
        ];
        let kept = kept.map(|(name, kind, sha256)| {
            let key = (
                StageName::new("make").unwrap(),
                OutputName::new(name).unwrap(),
            );
            (
                key,
                ArtifactContent {
                    kind,
                    size: 1,
                    sha256: sha256.to_owned(),
                },
            )
        });
        let outputs = LocalOutputs {
            from,
            kept: kept.into_iter().collect(),
        };
        assert_eq!(outputs.copy(&dag, &to).unwrap(), 3);
        let mode = |path: &str| to.join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("make/out/model.bin"), mode("make/tool")),
            (0o644, 0o755)
        );
        assert_eq!(
            fs::read_to_string(to.join("make/out/model.bin")).unwrap(),
            "weights"
        );
        assert_eq!(
            fs::read_to_string(to.join("make/days/mon.csv")).unwrap(),
            "1"
        );
        assert!(!to.join("make/days/old.csv").exists());
    }
}
