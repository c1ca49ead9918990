//! The data folder, held against a second daemon.
//!
//! The lock is the kernel's (`flock`), so it goes with the process however that ends. Programs that
//! the daemon starts do not inherit it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A data folder that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// It cannot be made or written.
    #[error(
        "the data folder {} cannot be used: {source}; give another with --data-dir, or its user the right to write it",
        path.display()
    )]
    Unusable {
        /// The folder, or what in it is at fault.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon uses it.
    #[error(
        "another Trainyard{} uses the data folder {}; stop it, or give another folder with --data-dir",
        pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    InUse {
        /// The folder.
        path: PathBuf,
        /// The other daemon's process, where it is known.
        pid: Option<String>,
    },
}

impl DataDir {
    /// Makes the folder where it is missing, and takes its lock.
    ///
    /// # Errors
    /// It cannot be made or written, or another daemon uses it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Unusable { path, source }
        };
        if !path.is_dir() {
            // Root's private Postgres runs as another user, who has to get through. There is nothing
            // to list or to read for anybody else.
            let mode = if nix::unistd::geteuid().is_root() {
                0o711
            } else {
                0o700
            };
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(fault(parent))?;
            }
            DirBuilder::new()
                .mode(mode)
                .create(path)
                .map_err(fault(path))?;
        }
        let path = path.canonicalize().map_err(fault(path))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .map_err(fault(&file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = lock.read_to_string(&mut pid);
                let pid = Some(pid.trim().to_owned()).filter(|pid| !pid.is_empty());
                return Err(DataDirError::InUse { path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(fault(&file)(source)),
        }
        // For people and the message above; the lock itself is what counts.
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(fault(&file))?;
        Ok(Self { path, _lock: lock })
    }

    /// The folder, as an absolute path without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it that only this user may look into, made where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(DataDirError::Unusable { path, source })
            }
            _ => Ok(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_has_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/data");
        let held = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        let process = format!("(process {})", std::process::id());
        assert!(
            error.contains("another Trainyard") && error.contains(&process),
            "{error}"
        );
        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn folders_in_it_are_for_its_user_only() {
        let place = tempfile::tempdir().unwrap();
        let data = DataDir::open(&place.path().join("data")).unwrap();
        let folder = data.folder("mirrors").unwrap();
        assert_eq!(data.folder("mirrors").unwrap(), folder);
        assert_eq!(
            folder.metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        let error = DataDir::open(&place.path().join("file/data"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file") && error.contains("--data-dir"),
            "{error}"
        );
    }
}
