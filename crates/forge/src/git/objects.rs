//! Reads trees and files out of a mirror, with sizes checked before anything is loaded.
//!
//! A few kilobytes on the wire can unpack to gigabytes, or to a tree that names itself a million times over. Callers
//! that walk trees bound the walk; this module bounds the size of one object.

use git2::{ErrorCode, ObjectType, Odb, OdbObject, Oid, Repository, Tree};

use super::{CommitSha, Error};

/// The largest tree object, in bytes: some 500,000 names in one folder.
const TREE_BYTES: usize = 32 << 20;

/// The largest commit or tag, in bytes: the text of its author, and all of it is read at once.
const COMMIT_BYTES: usize = 1 << 20;

/// How many tags may lead to one another before a commit.
const TAGS_IN_A_ROW: usize = 32;

/// The kind of an entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File { executable: bool },
    Link,
    Folder,
    Submodule,
}

impl Kind {
    pub(super) fn of(mode: i32) -> Self {
        match mode & 0o170_000 {
            0o040_000 => Self::Folder,
            0o120_000 => Self::Link,
            0o160_000 => Self::Submodule,
            _ => Self::File {
                executable: mode & 0o100 != 0,
            },
        }
    }
}

/// The objects of one mirror.
pub(super) struct Objects<'r> {
    repository: &'r Repository,
    odb: Odb<'r>,
}

impl<'r> Objects<'r> {
    pub(super) fn of(repository: &'r Repository) -> Result<Self, Error> {
        let odb = repository.odb().map_err(|error| unreadable(&error))?;
        Ok(Self { repository, odb })
    }

    /// The tree of a commit.
    pub(super) fn root(&self, commit: &CommitSha) -> Result<Oid, Error> {
        Ok(find_commit(self.repository, commit)?.tree_id())
    }

    /// The commit that an object is, or that its tags lead to; `None` if there is none.
    pub(super) fn peel(&self, mut id: Oid) -> Result<Option<Oid>, Error> {
        for _ in 0..TAGS_IN_A_ROW {
            let Ok((size, kind)) = self.odb.read_header(id) else {
                return Ok(None);
            };
            if !matches!(kind, ObjectType::Commit | ObjectType::Tag) {
                return Ok(None);
            }
            refuse_large(id, size)?;
            if kind == ObjectType::Commit {
                return Ok(Some(id));
            }
            let tag = self.repository.find_tag(id);
            id = tag.map_err(|error| unreadable(&error))?.target_id();
        }
        Ok(None)
    }

    pub(super) fn tree(&self, id: Oid) -> Result<Tree<'r>, Error> {
        if self.size(id, ObjectType::Tree)? > TREE_BYTES {
            let why = format!("its list of names may take {} MiB", TREE_BYTES >> 20);
            return Err(Error::TooLarge {
                what: format!("the folder {id}"),
                why,
            });
        }
        self.repository
            .find_tree(id)
            .map_err(|error| unreadable(&error))
    }

    /// The size of a file, in bytes.
    pub(super) fn file_size(&self, id: Oid) -> Result<usize, Error> {
        self.size(id, ObjectType::Blob)
    }

    pub(super) fn file(&self, id: Oid) -> Result<OdbObject<'_>, Error> {
        self.odb.read(id).map_err(|error| unreadable(&error))
    }

    fn size(&self, id: Oid, expected: ObjectType) -> Result<usize, Error> {
        let (size, kind) = self
            .odb
            .read_header(id)
            .map_err(|error| unreadable(&error))?;
        if kind != expected {
            return Err(Error::Corrupt {
                what: "the repo".to_owned(),
                why: format!("{id} is a {kind} where a {expected} belongs"),
            });
        }
        Ok(size)
    }
}

fn refuse_large(id: Oid, size: usize) -> Result<(), Error> {
    if size <= COMMIT_BYTES {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!("the commit {id}"),
        why: format!(
            "its text has {size} bytes, and may have {} MiB",
            COMMIT_BYTES >> 20
        ),
    })
}

pub(super) fn find_commit<'r>(
    repository: &'r Repository,
    commit: &CommitSha,
) -> Result<git2::Commit<'r>, Error> {
    let id = object_id(commit)?;
    let odb = repository.odb().map_err(|error| unreadable(&error))?;
    if let Ok((size, _)) = odb.read_header(id) {
        refuse_large(id, size)?;
    }
    repository
        .find_commit(id)
        .map_err(|error| match error.code() {
            ErrorCode::NotFound => Error::unknown(
                commit.as_str(),
                "the repo has no such commit, or it was not fetched",
            ),
            _ => unreadable(&error),
        })
}

/// The hash in libgit2's form.
pub(super) fn object_id(commit: &CommitSha) -> Result<Oid, Error> {
    Oid::from_str(commit.as_str()).map_err(|_| {
        Error::unknown(
            commit.as_str(),
            "SHA-256 repositories are not supported yet",
        )
    })
}

pub(super) fn unreadable(error: &git2::Error) -> Error {
    Error::of_mirror("the mirror", error)
}
