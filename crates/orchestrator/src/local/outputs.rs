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
        let mut all: Vec<(PathBuf, &ArtifactContent)> = Vec::new();
        for stage in dag.stages() {
            for (name, path) in &stage.program().outputs {
                if let Some(content) = self.kept.get(&(stage.name.clone(), name.clone())) {
                    let path = Path::new(stage.name.as_str()).join(path.path.as_str());
                    all.push((path, content));
                }
            }
        }
        // A folder before the outputs that are declared inside it.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (path, content) in &all {
            let from = self.from.join(&content.sha256);
            put(&from, content.kind, to, path).map_err(|error| {
                let path = to.join(path);
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
        Ok(all.len())
    }
}

/// Copies an output to `path` below `root`.
fn put(from: &Path, kind: ArtifactKind, root: &Path, path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        create_folders(root, folder)?;
    }
    let to = root.join(path);
    // Otherwise, files of an earlier run would look like outputs of this one.
    match to.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&to)?,
        Ok(_) => fs::remove_file(&to)?,
        Err(_) => {}
    }
    match kind {
        ArtifactKind::File => copy_file(from, &to, 0o644),
        ArtifactKind::Executable => copy_file(from, &to, 0o755),
        ArtifactKind::Folder => {
            fs::create_dir(&to)?;
            let mut archive = tar::Archive::new(File::open(from)?);
            // The archive has no times.
            archive.set_preserve_mtime(false);
            archive.unpack(&to)
        }
    }
}

/// Creates the folders of `path` below `root`. The root is the user's choice, and may be a link; a link below it may
/// come with a checkout, and would lead to other files of the user.
fn create_folders(root: &Path, path: &Path) -> io::Result<()> {
    let mut folder = root.to_owned();
    for part in path.components() {
        folder.push(part);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => created?,
        }
        if !folder.symlink_metadata()?.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::NotADirectory,
                format!(
                    "{} is a link or a file, not a folder: remove it, or name another folder for the outputs",
                    folder.display()
                ),
            ));
        }
    }
    Ok(())
}

/// The copy in the run's folder is for its owner alone, and may not be executed: its mode is not the file's.
fn copy_file(from: &Path, to: &Path, mode: u32) -> io::Result<()> {
    let mut copy = File::create_new(to)?;
    io::copy(&mut File::open(from)?, &mut copy)?;
    copy.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    #[test]
    fn class_12_a_link_in_the_folder_of_outputs_leads_to_no_other_file() {
        let place = tempfile::tempdir().unwrap();
        let (root, victim) = (place.path().join("out"), place.path().join("victim"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(victim.join("documents")).unwrap();
        fs::write(victim.join("keys"), "mine").unwrap();
        fs::write(place.path().join("output"), "theirs").unwrap();
        symlink("../victim", root.join("train")).unwrap();
        let put = |root: &Path, path: &str, kind| {
            put(&place.path().join("output"), kind, root, Path::new(path))
        };
        for (path, kind) in [
            ("train/keys", ArtifactKind::File),
            ("train/new/keys", ArtifactKind::File),
            ("train/documents", ArtifactKind::Folder),
        ] {
            let refused = put(&root, path, kind).unwrap_err().to_string();
            assert!(
                refused.contains("out/train is a link or a file"),
                "{refused}"
            );
        }
        assert_eq!(fs::read_to_string(victim.join("keys")).unwrap(), "mine");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 2);
        // The last part is replaced, as a file of an earlier run is, and the root may be a link.
        symlink("out", place.path().join("elsewhere")).unwrap();
        symlink("../victim/keys", root.join("keys")).unwrap();
        put(&place.path().join("elsewhere"), "keys", ArtifactKind::File).unwrap();
        assert_eq!(fs::read_to_string(root.join("keys")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(victim.join("keys")).unwrap(), "mine");
    }
}
