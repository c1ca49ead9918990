//! Copying outputs out of an attempt's folder.
//!
//! The program owned the folder, so nothing in it is trusted: links are followed to what is in it, and to
//! nothing else.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use trainyard_core::stage::RelativePath;

use crate::archive::{FolderArchive, HashingFile, storage, unfit};
use crate::contract::{Collected, CollectedKind, Error};

/// Copies an output to the file `to`; `None` where there is none.
pub(super) fn collect(
    outputs: &Path,
    output: &RelativePath,
    to: &Path,
    limit: u64,
) -> Result<Option<Collected>, Error> {
    let root = fs::canonicalize(outputs).map_err(|error| storage(&error))?;
    let declared = root.join(output.as_str());
    let path = match fs::canonicalize(&declared) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if declared.is_symlink() {
                let what = "a symbolic link to something that does not exist";
                return Err(unfit(output, None, what));
            }
            return Ok(None);
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => {
            let what = format!("reached in a way that cannot be followed ({error})");
            return Err(unfit(output, None, &what));
        }
    };
    if !path.starts_with(&root) {
        let what = "a symbolic link to something outside of $OUTPUTS";
        return Err(unfit(output, None, what));
    }
    let found = fs::symlink_metadata(&path).map_err(|error| storage(&error))?;
    if !found.is_file() && !found.is_dir() {
        return Err(unfit(output, None, "neither a file nor a folder"));
    }
    let mut file = HashingFile::create(to, output, limit)?;
    if found.is_file() {
        let mut content = File::open(&path).map_err(|error| storage(&error))?;
        file.copy(&mut content, found.len())?;
        return file.finish(CollectedKind::File).map(Some);
    }
    let mut walk = Walk {
        archive: FolderArchive::new(file, &outputs.join(output.as_str())),
        linked: HashMap::new(),
    };
    walk.folder(&path, Path::new(""))?;
    walk.archive.finish().map(Some)
}

struct Walk {
    archive: FolderArchive,
    /// Files with more than one name, by device and number, and the name that came first.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Walk {
    fn folder(&mut self, path: &Path, name: &Path) -> Result<(), Error> {
        let entries = fs::read_dir(path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name()))
                .collect::<io::Result<Vec<_>>>()
        });
        let mut entries = entries.map_err(|error| storage(&error))?;
        entries.sort();
        for entry in entries {
            let (path, name) = (path.join(&entry), name.join(&entry));
            let found = fs::symlink_metadata(&path).map_err(|error| storage(&error))?;
            if found.is_dir() {
                self.archive.folder(&name)?;
                self.folder(&path, &name)?;
            } else if found.is_symlink() {
                let target = fs::read_link(&path).map_err(|error| storage(&error))?;
                self.archive.symlink(&name, &target)?;
            } else if found.is_file() {
                self.file(&path, &name, &found)?;
            } else {
                return Err(self.archive.unfit(&name, "a device, a pipe or a socket"));
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &Path, found: &Metadata) -> Result<(), Error> {
        if found.nlink() > 1 {
            let number = (found.dev(), found.ino());
            if let Some(first) = self.linked.get(&number) {
                return self.archive.hard_link(name, first);
            }
            self.linked.insert(number, name.to_owned());
        }
        let executable = found.permissions().mode() & 0o111 != 0;
        let mut content = File::open(path).map_err(|error| storage(&error))?;
        self.archive
            .file(name, executable, found.len(), &mut content)
    }
}
