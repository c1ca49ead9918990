//! The data folder: locked against a second daemon, and used only if it is ours.
//!
//! The lock is the kernel's (`flock`), so it ends with the process, however that ends. Programs that the daemon
//! starts do not inherit it.
//!
//! An existing folder is not trusted: a checkout can contain one with a key, links and a database in it. So the
//! daemon requires that
//! 1. it belongs to the daemon's user and is closed to others;
//! 2. it contains no links, and git does not track it;
//! 3. a daemon of this user made it ([`KnownFolders`]), unless the operator gave its whole path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;
use thiserror::Error;

use crate::known_folders::KnownFolders;
use crate::postgres::is_open_place;

/// Names that daemons use in a data folder. A folder with none of these contains nothing that the daemon would trust.
const OURS: [&str; 10] = [
    "artifacts",
    "endpoint.json",
    "id",
    "lock",
    "mirrors",
    "postgres",
    "processes",
    "secret.key",
    "sources",
    "token",
];

/// How a data folder was chosen.
#[derive(Debug, Clone, Copy)]
pub enum Said<'a> {
    /// The operator gave its absolute path.
    ByItsPath,
    /// By default: it lies in the folder that the daemon was started in. It has to be known, or new.
    ByNobody(&'a KnownFolders),
}

/// A locked data folder: this process alone uses it while this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The reason why a data folder cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// It cannot be made or written.
    #[error(
        "the data folder {} cannot be used: {source}; give another with --data-dir, or its user the right to write it",
        path.display()
    )]
    Unusable {
        /// The folder, or the file in it that has the problem.
        path: PathBuf,
        source: io::Error,
    },
    /// It exists, and is not ours.
    #[error(
        "the data folder {} is not used: {why}; {}",
        path.display(),
        what_to_do.as_deref().unwrap_or("give another with --data-dir")
    )]
    NotOurs {
        path: PathBuf,
        /// The problem.
        why: String,
        /// What to do; without it, the advice is to give another folder.
        what_to_do: Option<String>,
    },
    /// Another daemon uses it.
    #[error(
        "another Trainyard{} uses the data folder {}; stop it, or give another folder with --data-dir",
        pid.as_ref().map(|pid| format!(" (process {pid})")).unwrap_or_default(),
        path.display()
    )]
    InUse {
        path: PathBuf,
        /// The other daemon's process, where it is known.
        pid: Option<String>,
    },
}

impl DataDir {
    /// Creates the folder if it is missing, and takes its lock.
    ///
    /// # Errors
    /// It cannot be made or written, is not ours, or another daemon uses it.
    pub fn open(path: &Path, said: Said<'_>) -> Result<Self, DataDirError> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Unusable { path, source }
        };
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(fault(parent))?;
                }
                DirBuilder::new()
                    .mode(mode())
                    .create(path)
                    .map_err(fault(path))?;
            }
            found => judge(path, &found.map_err(fault(path))?, said)?,
        }
        let path = path.canonicalize().map_err(fault(path))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(&file)
            .map_err(fault(&file))?;
        let found = lock.metadata().map_err(fault(&file))?;
        if !found.is_file() || found.uid() != geteuid().as_raw() || found.nlink() > 1 {
            return Err(DataDirError::NotOurs {
                path,
                why: "`lock` in it is not a file that a daemon of this user made".to_owned(),
                what_to_do: None,
            });
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut lock).take(32).read_to_string(&mut pid);
                let pid = pid.trim();
                let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
                let pid = is_number.then(|| pid.to_owned());
                return Err(DataDirError::InUse { path, pid });
            }
            Err(TryLockError::Error(source)) => return Err(fault(&file)(source)),
        }
        // The process id is only for users and for the message above; the lock itself decides.
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(fault(&file))?;
        Ok(Self { path, _lock: lock })
    }

    /// Makes git, and tools that follow its rules, ignore the folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn hide_from_git(&self) -> Result<(), DataDirError> {
        let path = self.path.join(".gitignore");
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"*\n"));
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(DataDirError::Unusable { path, source })
            }
            _ => Ok(()),
        }
    }

    /// The folder, as an absolute path without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder in it that only this user can access, created if it is missing.
    ///
    /// # Errors
    /// It cannot be created, or something else has its name.
    pub fn folder(&self, name: &str) -> Result<PathBuf, DataDirError> {
        let path = self.path.join(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(DataDirError::Unusable { path, source }),
        }
        let narrowed = open_folder(&path).and_then(|folder| {
            let found = folder.metadata()?;
            if found.mode() & 0o077 == 0 {
                return Ok(());
            }
            folder.set_permissions(Permissions::from_mode(0o700))
        });
        match narrowed {
            Ok(()) => Ok(path),
            Err(source) => Err(DataDirError::Unusable { path, source }),
        }
    }
}

/// Root's private Postgres runs as another user, who has to traverse the folder. Other users can neither list nor
/// read it.
fn mode() -> u32 {
    if geteuid().is_root() { 0o711 } else { 0o700 }
}

/// Opens a folder without following a link.
fn open_folder(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECTORY | O_NOFOLLOW)
        .open(path)
}

/// Refuses an existing folder that is not ours, and closes ours to other users.
fn judge(path: &Path, found: &Metadata, said: Said<'_>) -> Result<(), DataDirError> {
    let refused = |why: String, what_to_do: Option<String>| {
        Err(DataDirError::NotOurs {
            path: path.to_owned(),
            why,
            what_to_do,
        })
    };
    let unusable = |source| DataDirError::Unusable {
        path: path.to_owned(),
        source,
    };
    // An operator may give a link of their own to a larger disk.
    let real = match said {
        Said::ByItsPath => path.canonicalize().map_err(unusable)?,
        Said::ByNobody(_) if found.is_symlink() => {
            return refused("it is a symbolic link".to_owned(), None);
        }
        Said::ByNobody(_) => path.to_owned(),
    };
    let folder = open_folder(&real).map_err(unusable)?;
    let found = folder.metadata().map_err(unusable)?;
    let user = geteuid();
    if found.uid() != user.as_raw() {
        let why = format!(
            "it belongs to another user ({}), and this is {user}",
            found.uid()
        );
        return refused(why, None);
    }
    let names = names_in(&real).map_err(unusable)?;
    if let Some(link) = names.iter().find_map(|(name, link)| link.then_some(name)) {
        return refused(format!("{link:?} in it is a symbolic link"), None);
    }
    if trainyard_forge::is_tracked(&real) {
        let why =
            "git tracks files in it, so its key and its database come from a commit".to_owned();
        let what_to_do = "remove it from the repository with `git rm -r --cached`, or give another with --data-dir";
        return refused(why, Some(what_to_do.to_owned()));
    }
    let has_ours = names
        .keys()
        .any(|name| OURS.iter().any(|ours| *ours == name));
    if let Said::ByNobody(known) = said
        && has_ours
        && !known.has(&real)
    {
        let why = "it was not made by a daemon of this user".to_owned();
        let what_to_do = format!(
            "if you trust its content, give its whole path: --data-dir {}",
            real.display()
        );
        return refused(why, Some(what_to_do));
    }
    if found.mode() & 0o022 != 0 && has_ours {
        let why = format!(
            "other users may write it (its mode is {:03o})",
            found.mode() & 0o777
        );
        let what_to_do = "check its content, then run `chmod 700` on it".to_owned();
        return refused(why, Some(what_to_do));
    }
    if found.mode() & 0o077 & !mode() != 0 {
        folder
            .set_permissions(Permissions::from_mode(mode()))
            .map_err(unusable)?;
    }
    Ok(())
}

/// The names in a folder, and which are links. The link from root's data folder to its cluster elsewhere is left out.
fn names_in(folder: &Path) -> io::Result<BTreeMap<OsString, bool>> {
    std::fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            let is_link = entry.file_type()?.is_symlink()
                && !(entry.file_name() == "postgres" && is_open_place(&entry.path()));
            Ok((entry.file_name(), is_link))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn named(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(path, Said::ByItsPath)
    }

    /// A checkout with files in `.trainyard`, as git creates them, and the user's list.
    fn checkout(files: &[&str]) -> (tempfile::TempDir, PathBuf, KnownFolders) {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("checkout/.trainyard");
        std::fs::create_dir_all(&data).unwrap();
        for file in files {
            std::fs::write(data.join(file), "x").unwrap();
        }
        let known = KnownFolders::at(Some(place.path().join("config")));
        (place, data, known)
    }

    #[track_caller]
    fn refused(path: &Path, said: Said<'_>, word: &str) {
        let error = DataDir::open(path, said).unwrap_err().to_string();
        assert!(
            error.contains(word) && error.contains("is not used"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_that_a_checkout_brings_along_is_refused() {
        for file in OURS {
            let (_place, data, known) = checkout(&[file]);
            refused(&data, Said::ByNobody(&known), "not made by a daemon");
        }
    }

    #[test]
    fn a_folder_of_ours_is_taken_again_and_one_with_nothing_of_ours_too() {
        let (_place, data, known) = checkout(&["notes.txt"]);
        let held = DataDir::open(&data, Said::ByNobody(&known)).unwrap();
        known.note(held.path()).unwrap();
        drop(held);
        DataDir::open(&data, Said::ByNobody(&known)).unwrap();
    }

    #[test]
    fn links_are_refused_and_what_they_lead_to_stays() {
        for name in ["lock", "postgres", "token", "mirrors"] {
            let (place, data, known) = checkout(&[]);
            let victim = place.path().join("victim");
            std::fs::write(&victim, "precious").unwrap();
            symlink(&victim, data.join(name)).unwrap();
            refused(&data, Said::ByNobody(&known), "symbolic link");
            refused(&data, Said::ByItsPath, "symbolic link");
            assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
        }
        let (place, data, known) = checkout(&[]);
        let link = place.path().join("link");
        symlink(&data, &link).unwrap();
        refused(&link, Said::ByNobody(&known), "symbolic link");
        named(&link).unwrap();
        let dangling = place.path().join("dangling");
        symlink(place.path().join("nowhere"), &dangling).unwrap();
        refused(&dangling, Said::ByNobody(&known), "symbolic link");
        assert!(!place.path().join("nowhere").exists());
    }

    #[test]
    fn a_lock_that_is_another_name_of_a_file_is_refused() {
        let (place, data, _) = checkout(&[]);
        let victim = place.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::fs::hard_link(&victim, data.join("lock")).unwrap();
        refused(&data, Said::ByItsPath, "lock");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused_and_one_that_they_may_read_is_closed() {
        let (_place, data, _) = checkout(&["token"]);
        std::fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        refused(&data, Said::ByItsPath, "chmod 700");
        std::fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        named(&data).unwrap();
        let found = data.metadata().unwrap().mode() & 0o777;
        assert_eq!(found, mode(), "{found:o}");
    }

    #[test]
    fn folders_in_it_that_were_open_are_closed() {
        let (_place, data, _) = checkout(&[]);
        std::fs::create_dir(data.join("artifacts")).unwrap();
        std::fs::set_permissions(data.join("artifacts"), Permissions::from_mode(0o755)).unwrap();
        let artifacts = named(&data).unwrap().folder("artifacts").unwrap();
        assert_eq!(artifacts.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn git_ignores_it_and_an_existing_file_stays() {
        let (_place, data, _) = checkout(&[]);
        let held = named(&data).unwrap();
        held.hide_from_git().unwrap();
        let file = data.join(".gitignore");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "*\n");
        std::fs::write(&file, "other").unwrap();
        held.hide_from_git().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "other");
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_process_that_has_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/data");
        let held = named(&path).unwrap();
        let error = named(&path).unwrap_err().to_string();
        let process = format!("(process {})", std::process::id());
        assert!(
            error.contains("another Trainyard") && error.contains(&process),
            "{error}"
        );
        drop(held);
        named(&path).unwrap();
    }

    #[test]
    fn folders_in_it_are_for_its_user_only() {
        let place = tempfile::tempdir().unwrap();
        let data = named(&place.path().join("data")).unwrap();
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
        let error = named(&place.path().join("file/data"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file") && error.contains("--data-dir"),
            "{error}"
        );
    }
}
