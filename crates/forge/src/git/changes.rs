//! Computes which paths differ between two commits.
//!
//! It walks both trees in parallel and skips equal folders by their hash, so the cost is that of the difference.
//! libgit2's own diff cannot be stopped early, which a hostile tree would exploit.

use std::collections::BTreeMap;

use git2::Oid;

use super::objects::{Kind, Objects, find_commit};
use super::{CommitSha, Error, Mirror};

/// With more paths than this, a difference counts as unknown.
pub const MAX_CHANGED_PATHS: usize = 3000;

/// With more compared folders than this, a difference counts as unknown.
const MAX_FOLDERS: usize = 50_000;

/// How many bytes the paths may have together.
const PATHS_BYTES: usize = 4 << 20;

/// The longest path that is followed, in bytes; git itself has no bound.
const LONGEST_PATH: usize = 4096;

/// The paths that differ, sorted; a renamed file counts under both names. `None` if unknown: a new branch, a commit
/// that is no longer in the mirror, or too many paths.
pub type ChangedPaths = Option<Vec<String>>;

/// The old and the new state of one folder; one of the two may be missing.
struct Pair {
    path: String,
    before: Option<Oid>,
    after: Option<Oid>,
}

impl Mirror {
    /// The paths that differ between `before` and `after`, whatever the history between them.
    ///
    /// # Errors
    /// [`Error::UnknownReference`] for `after`, [`Error::NotFetched`], [`Error::Corrupt`].
    pub fn changed_paths(
        &self,
        before: Option<&CommitSha>,
        after: &CommitSha,
    ) -> Result<ChangedPaths, Error> {
        let repository = self.open()?;
        let after = find_commit(&repository, after)?.tree_id();
        let Some(before) = before.and_then(|before| find_commit(&repository, before).ok()) else {
            return Ok(None);
        };
        compare(&Objects::of(&repository)?, before.tree_id(), after)
    }
}

fn compare(objects: &Objects<'_>, before: Oid, after: Oid) -> Result<ChangedPaths, Error> {
    let mut paths = Vec::new();
    let mut left = vec![Pair {
        path: String::new(),
        before: Some(before),
        after: Some(after),
    }];
    let mut folders = 0;
    while let Some(pair) = left.pop() {
        folders += 1;
        if folders > MAX_FOLDERS || pair.path.len() > LONGEST_PATH {
            return Ok(None);
        }
        let was = entries(objects, pair.before)?;
        let is = entries(objects, pair.after)?;
        let gone = was.keys().filter(|name| !is.contains_key(*name));
        for name in is.keys().chain(gone) {
            let (was, is) = (was.get(name).copied(), is.get(name).copied());
            if was == is {
                continue;
            }
            let path = format!("{}{}", pair.path, String::from_utf8_lossy(name));
            if was.is_some_and(Entry::is_file) || is.is_some_and(Entry::is_file) {
                paths.push(path.clone());
            }
            let (before, after) = (was.and_then(Entry::folder), is.and_then(Entry::folder));
            if before.is_some() || after.is_some() {
                left.push(Pair {
                    path: format!("{path}/"),
                    before,
                    after,
                });
            }
        }
        let bytes: usize = paths.iter().map(String::len).sum();
        if paths.len() > MAX_CHANGED_PATHS || bytes > PATHS_BYTES {
            return Ok(None);
        }
    }
    paths.sort_unstable();
    Ok(Some(paths))
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    id: Oid,
}

impl Entry {
    fn folder(self) -> Option<Oid> {
        (self.kind == Kind::Folder).then_some(self.id)
    }

    fn is_file(self) -> bool {
        self.kind != Kind::Folder
    }
}

fn entries(objects: &Objects<'_>, folder: Option<Oid>) -> Result<BTreeMap<Vec<u8>, Entry>, Error> {
    let Some(id) = folder else {
        return Ok(BTreeMap::new());
    };
    let tree = objects.tree(id)?;
    Ok(tree
        .iter()
        .map(|entry| {
            let kind = Kind::of(entry.filemode());
            (
                entry.name_bytes().to_vec(),
                Entry {
                    kind,
                    id: entry.id(),
                },
            )
        })
        .collect())
}
