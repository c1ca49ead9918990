//! Detects pipes, sockets and devices among the files of a repository on this machine's disk.
//!
//! libgit2 opens the files of a repository whatever they are, and opening a pipe waits for a writer. The owner of the
//! folder may have put one there. The files that every fetch opens are checked first; other files, such as a branch's
//! own, are bounded by the time limit of the fetch.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The files that are opened in a repository's folder.
const OPENED: [&str; 7] = [
    "HEAD",
    "commondir",
    "config",
    "index",
    "objects/info/alternates",
    "packed-refs",
    "shallow",
];

/// The longest file that only names a folder.
const NAME_BYTES: u64 = 4096;

/// The first file of a repository that is not a regular file, if any. Links are followed, as libgit2 does.
pub(super) fn find(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if is_odd(&git) {
        return Some(git);
    }
    let mut folder = root.to_owned();
    if git.is_dir() {
        folder = git;
    } else if git.is_file() {
        // A work tree next to the main one, or a submodule.
        folder = root.join(named_in(&git, "gitdir:")?);
    }
    odd_in(&folder).or_else(|| {
        let common = named_in(&folder.join("commondir"), "")?;
        odd_in(&folder.join(common).canonicalize().ok()?)
    })
}

fn odd_in(folder: &Path) -> Option<PathBuf> {
    let mut files = OPENED.iter().map(|name| folder.join(name));
    files.find(|file| is_odd(file))
}

fn is_odd(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// The folder that a file names.
fn named_in(file: &Path, before: &str) -> Option<PathBuf> {
    let mut text = String::new();
    let mut file = File::open(file).ok()?.take(NAME_BYTES);
    file.read_to_string(&mut text).ok()?;
    Some(PathBuf::from(text.strip_prefix(before)?.trim()))
}
