//! Bounds the mirrors of a repo's submodules: a commit names their addresses, and each commit may name others.
//!
//! A mirror that a source tree is being read from is marked by a lock on a file next to it, whose date is that of the
//! last use. Before another submodule is fetched, the mirrors used longest ago are removed until the rest fits.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Error, Mirror};

/// How much is kept for the submodules of one repo, in bytes.
pub(super) const KEPT: u64 = 16 << 30;

/// A mirror that is being read. It is not removed while this exists.
#[derive(Debug)]
pub(super) struct InUse(#[expect(dead_code, reason = "it is locked until it is dropped")] File);

impl InUse {
    /// Marks a submodule's mirror, whether it was fetched yet or not.
    pub(super) fn mark(mirror: &Mirror) -> Result<Self, Error> {
        let failed = |error: &io::Error| {
            Error::disk("the mark of a submodule's mirror cannot be made", error)
        };
        fs::create_dir_all(&mirror.root).map_err(|error| failed(&error))?;
        let file = File::create(mark_of(&mirror.path())).map_err(|error| failed(&error))?;
        file.lock_shared().map_err(|error| failed(&error))?;
        // A write dates it.
        (&file)
            .write_all(b"used\n")
            .map_err(|error| failed(&error))?;
        Ok(Self(file))
    }
}

fn mark_of(mirror: &Path) -> PathBuf {
    mirror.with_extension("used")
}

/// Removes mirrors of submodules next to `mirror` until they have at most `kept` bytes together. Those in use stay.
pub(super) fn trim(mirror: &Mirror, kept: u64) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(&mirror.root) else {
        return Ok(());
    };
    let mut mirrors: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "git"))
        .map(|path| {
            let used = fs::metadata(mark_of(&path)).and_then(|found| found.modified());
            (
                used.unwrap_or(SystemTime::UNIX_EPOCH),
                bytes_in(&path),
                path,
            )
        })
        .collect();
    let mut total: u64 = mirrors.iter().map(|(_, bytes, _)| bytes).sum();
    mirrors.sort();
    for (_, bytes, path) in mirrors {
        if total <= kept {
            break;
        }
        let id = path.file_stem().and_then(|stem| stem.to_str());
        let Some(repo) = id.and_then(|id| id.parse().ok()) else {
            continue;
        };
        let mut options = File::options();
        let mark = options.write(true).create(true).truncate(false);
        let mark = mark.open(mark_of(&path));
        if mark.as_ref().is_ok_and(|mark| mark.try_lock().is_ok()) {
            let unused = Mirror {
                repo,
                ..mirror.clone()
            };
            unused.remove()?;
            // A user who marks it meanwhile keeps the lock of a file that has no name; it fetches what it needs again.
            let _ = fs::remove_file(mark_of(&path));
            total -= bytes;
        }
    }
    Ok(())
}

/// The sizes of all files below a folder.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => bytes_in(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::super::Mirrors;
    use super::*;

    fn mirror(root: &Path, number: u128, bytes: usize) -> Mirror {
        let mut mirror = Mirrors::new(root.to_owned())
            .mirror(trainyard_core::id::RepoId(uuid::Uuid::from_u128(number)));
        mirror.root = root.to_owned();
        fs::create_dir_all(mirror.path().join("objects")).unwrap();
        fs::write(mirror.path().join("objects/pack"), vec![0; bytes]).unwrap();
        mirror
    }

    fn used(mirror: &Mirror, seconds: u64) {
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        File::create(mark_of(&mirror.path()))
            .unwrap()
            .set_modified(at)
            .unwrap();
    }

    #[test]
    fn mirrors_that_were_used_longest_ago_go_first_and_only_as_many_as_have_to() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<Mirror> = (1..=3).map(|n| mirror(folder.path(), n, 1000)).collect();
        for (number, mirror) in all.iter().enumerate() {
            used(mirror, 100 - number as u64);
        }
        trim(&all[0], 2000).unwrap();
        let left: Vec<bool> = all.iter().map(|mirror| mirror.path().exists()).collect();
        assert_eq!(left, [true, true, false]);
    }

    #[test]
    fn a_mirror_in_use_stays() {
        let folder = tempfile::tempdir().unwrap();
        let all: Vec<Mirror> = (1..=2).map(|n| mirror(folder.path(), n, 1000)).collect();
        let _in_use = InUse::mark(&all[0]).unwrap();
        trim(&all[1], 0).unwrap();
        let left: Vec<bool> = all.iter().map(|mirror| mirror.path().exists()).collect();
        assert_eq!(left, [true, false]);
    }
}
