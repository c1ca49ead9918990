//! Looks up the entries at given paths of a commit's tree.

use std::collections::HashMap;

use git2::Oid;
use serde::{Deserialize, Serialize};

use super::objects::{Kind, Objects};
use super::{CommitSha, Error, Mirror};

/// The most folders that one call may read.
const FOLDERS_AT_MOST: usize = 10_000;

/// The entry at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathEntry {
    /// Nothing.
    Missing,
    Folder,
    File,
    /// A link or a submodule, or something below one; or it was not looked up, as there are too many paths.
    Unknown,
}

impl Mirror {
    /// The entries at these paths, relative to the root and with `/`.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`], [`Error::Corrupt`].
    pub fn entries(&self, commit: &CommitSha, paths: &[String]) -> Result<Vec<PathEntry>, Error> {
        let repository = self.open()?;
        let objects = Objects::of(&repository)?;
        let mut walk = Walk {
            root: objects.root(commit)?,
            objects,
            known: HashMap::new(),
            read: 0,
        };
        paths.iter().map(|path| walk.entry(path)).collect()
    }
}

struct Walk<'r> {
    objects: Objects<'r>,
    root: Oid,
    /// The entries at the paths that were passed, with the tree of a folder.
    known: HashMap<String, (PathEntry, Option<Oid>)>,
    read: usize,
}

impl Walk<'_> {
    fn entry(&mut self, path: &str) -> Result<PathEntry, Error> {
        let mut at = (PathEntry::Folder, Some(self.root));
        let mut passed = String::new();
        for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let (entry, Some(folder)) = at else {
                // Nothing is below a file.
                return Ok(match at.0 {
                    PathEntry::Unknown => PathEntry::Unknown,
                    _ => PathEntry::Missing,
                });
            };
            debug_assert_eq!(entry, PathEntry::Folder);
            if !passed.is_empty() {
                passed.push('/');
            }
            passed.push_str(part);
            at = match self.known.get(&passed) {
                Some(known) => *known,
                None => self.child(folder, part)?,
            };
            self.known.insert(passed.clone(), at);
        }
        Ok(at.0)
    }

    fn child(&mut self, folder: Oid, name: &str) -> Result<(PathEntry, Option<Oid>), Error> {
        self.read += 1;
        if self.read > FOLDERS_AT_MOST {
            return Ok((PathEntry::Unknown, None));
        }
        let tree = self.objects.tree(folder)?;
        let Some(entry) = tree.get_name(name) else {
            return Ok((PathEntry::Missing, None));
        };
        Ok(match Kind::of(entry.filemode()) {
            Kind::Folder => (PathEntry::Folder, Some(entry.id())),
            Kind::File { .. } => (PathEntry::File, None),
            Kind::Link | Kind::Submodule => (PathEntry::Unknown, None),
        })
    }
}
