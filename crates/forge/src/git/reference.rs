//! Resolves what people call a commit, and reads a commit's metadata.

use git2::{ErrorCode, Repository};
use serde::{Deserialize, Serialize};
use trainyard_core::Timestamp;

use super::objects::{Objects, find_commit, object_id, unreadable};
use super::{CommitSha, Error, Mirror};
use crate::one_line::one_line;

/// The fewest digits that a hash may be abbreviated to, as in git.
const FEWEST_DIGITS: usize = 4;

/// The most characters of a summary or a name that are shown.
const LONGEST: usize = 200;

/// The metadata of a commit. The texts are its author's: data, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitInfo {
    pub sha: CommitSha,
    /// The message's first line, shortened.
    pub summary: String,
    /// The author's name, or address where there is none, shortened.
    pub author: String,
    /// When it was committed, by the committer's clock.
    pub at: Timestamp,
}

impl Mirror {
    /// The commit that `reference` names: a full hash, a branch, a tag (or either in full, such as
    /// `refs/heads/main`), or the beginning of a hash that only one commit has. A branch comes before a tag of the
    /// same name. Git's other forms (`main~2`, `:/fix`) are not supported.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`].
    pub fn resolve(&self, reference: &str) -> Result<CommitSha, Error> {
        let repository = self.open()?;
        let reference = reference.trim();
        // A full hash is never read as a name, so that a branch named like a commit cannot shadow it.
        if let Ok(sha) = CommitSha::new(reference) {
            find_commit(&repository, &sha)?;
            return Ok(sha);
        }
        for name in full_names(reference) {
            if let Some(sha) = lead(&repository, &name)? {
                return Ok(sha);
            }
        }
        by_beginning(&repository, reference)
    }

    /// The metadata of a commit.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`].
    pub fn commit(&self, commit: &CommitSha) -> Result<CommitInfo, Error> {
        let repository = self.open()?;
        let found = find_commit(&repository, commit)?;
        let author = found.author();
        let name = match author.name_bytes() {
            [] => author.email_bytes(),
            name => name,
        };
        Ok(CommitInfo {
            sha: CommitSha::of(found.id()),
            summary: one_line(
                &String::from_utf8_lossy(found.summary_bytes().unwrap_or_default()),
                LONGEST,
            ),
            author: one_line(&String::from_utf8_lossy(name), LONGEST),
            at: Timestamp::from_timestamp(found.time().seconds(), 0).unwrap_or_default(),
        })
    }

    /// Whether `older` is `newer` or one of the commits that led to it. Also false if the two have nothing in common.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`].
    pub fn is_ancestor(&self, older: &CommitSha, newer: &CommitSha) -> Result<bool, Error> {
        let repository = self.open()?;
        let _ = find_commit(&repository, older)?;
        let _ = find_commit(&repository, newer)?;
        if older == newer {
            return Ok(true);
        }
        repository
            .graph_descendant_of(object_id(newer)?, object_id(older)?)
            .map_err(|error| unreadable(&error))
    }
}

/// The full names that `reference` may stand for, in the order in which they are tried.
fn full_names(reference: &str) -> Vec<String> {
    let names = if reference.starts_with("refs/heads/") || reference.starts_with("refs/tags/") {
        vec![reference.to_owned()]
    } else {
        vec![
            format!("refs/heads/{reference}"),
            format!("refs/tags/{reference}"),
        ]
    };
    names
        .into_iter()
        .filter(|name| git2::Reference::is_valid_name(name))
        .collect()
}

fn lead(repository: &Repository, name: &str) -> Result<Option<CommitSha>, Error> {
    match repository.find_reference(name) {
        Ok(found) => {
            let commit = match found.target() {
                Some(id) => Objects::of(repository)?.peel(id)?,
                None => None,
            };
            let commit = commit.ok_or_else(|| {
                Error::unknown(name, "it points to an object that is not a commit")
            })?;
            Ok(Some(CommitSha::of(commit)))
        }
        // A folder of branches, such as `release` where there is `release/1`, is not a branch.
        Err(error)
            if matches!(
                error.code(),
                ErrorCode::NotFound | ErrorCode::InvalidSpec | ErrorCode::BufSize
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(unreadable(&error)),
    }
}

fn by_beginning(repository: &Repository, reference: &str) -> Result<CommitSha, Error> {
    let is_beginning = (FEWEST_DIGITS..40).contains(&reference.len())
        && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_beginning {
        return Err(Error::unknown(
            reference,
            "the repo has nothing of this name",
        ));
    }
    let unknown = || Error::unknown(reference, "the repo has nothing of this name");
    // Padded with zeros, as libgit2 expects an abbreviated hash.
    let beginning = git2::Oid::from_str(&format!("{reference:0<40}")).map_err(|_| unknown())?;
    let odb = repository.odb().map_err(|error| unreadable(&error))?;
    match odb.exists_prefix(beginning, reference.len()) {
        Ok(id) => match odb.read_header(id) {
            Ok((_, git2::ObjectType::Commit)) => Ok(CommitSha::of(id)),
            _ => Err(unknown()),
        },
        Err(error) => Err(match error.code() {
            ErrorCode::Ambiguous => Error::unknown(
                reference,
                "several commits begin like this; give more digits",
            ),
            ErrorCode::NotFound => unknown(),
            _ => unreadable(&error),
        }),
    }
}
