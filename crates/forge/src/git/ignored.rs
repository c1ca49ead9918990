//! Walks a folder without the files that its `.gitignore` files name.
//!
//! A checkout may be hostile, and the library that reads `.gitignore` files follows links and reads to the end: a link
//! to an endless device would use up the memory, a pipe would hold the walk for ever. So each of these files is checked
//! before the walk enters its folder.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ignore::{DirEntry, WalkBuilder};

/// The largest `.gitignore` that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// The entries of a folder and of those below it, in no order. Files above the folder have no say.
pub struct Unignored {
    walk: ignore::Walk,
    fault: Arc<Mutex<Option<io::Error>>>,
}

impl fmt::Debug for Unignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unignored").finish_non_exhaustive()
    }
}

impl Unignored {
    /// Walks `root` without the entries for which `is_left_out`. `is_repository`: the exclude files of the repository
    /// and of its user count as well.
    ///
    /// # Errors
    /// A file of patterns in `root` is not a plain file.
    pub fn below(
        root: &Path,
        is_repository: bool,
        is_left_out: impl Fn(&DirEntry) -> bool + Send + Sync + 'static,
    ) -> io::Result<Self> {
        plain(&root.join(".gitignore"), LARGEST)?;
        if is_repository {
            plain(&root.join(".git/info/exclude"), LARGEST)?;
        }
        let fault = Arc::new(Mutex::new(None));
        let found = Arc::clone(&fault);
        let walk = WalkBuilder::new(root)
            .hidden(false)
            .parents(false)
            .ignore(false)
            .git_global(is_repository)
            .git_exclude(is_repository)
            .require_git(is_repository)
            .filter_entry(move |entry| {
                if is_left_out(entry) {
                    return false;
                }
                let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                let checked = match is_folder {
                    true => plain(&entry.path().join(".gitignore"), LARGEST),
                    false => Ok(()),
                };
                checked
                    .map_err(|error| {
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(error)
                    })
                    .is_ok()
            })
            .build();
        Ok(Self { walk, fault })
    }
}

impl Iterator for Unignored {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.walk.next();
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = fault.take() {
            return Some(Err(error));
        }
        // An error of the operating system keeps its kind.
        let failed = |error: ignore::Error| {
            let kind = error
                .io_error()
                .map_or(io::ErrorKind::Other, io::Error::kind);
            io::Error::new(kind, error)
        };
        entry.map(|entry| entry.map_err(failed))
    }
}

/// Checks that a path, through links, is a file or a folder, or not there: reading a pipe or a device may not end.
///
/// # Errors
/// It is something else; the error says what and where.
pub(super) fn readable(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_file() && !found.is_dir() => {
            Err(refused(path, "a pipe, a socket or a device"))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn refused(path: &Path, what: &str) -> io::Error {
    let path = path.display();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{path} is {what}, which is not read; replace it by a file, or remove it"),
    )
}

/// Checks that a path is a plain file of at most `largest` bytes, or not there.
///
/// # Errors
/// It is something else; the error says what and where.
pub(super) fn plain(path: &Path, largest: u64) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_symlink() => Err(refused(path, "a symbolic link")),
        // Git reads no patterns from a folder.
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if !found.is_file() => Err(refused(path, "a pipe, a socket or a device")),
        Ok(found) if found.len() > largest => Err(refused(path, "too large a file")),
        Ok(_) => Ok(()),
        // Not there, or in a folder that may not be opened: the walk says so.
        Err(_) => Ok(()),
    }
}
