//! Reads the tree of a commit: commits with one tree have the same files.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::objects::find_commit;
use super::{CommitSha, Error, Mirror};

/// The hash of a tree, in full and in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TreeSha(String);

impl fmt::Display for TreeSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Mirror {
    /// The tree of a commit.
    ///
    /// # Errors
    /// [`Error::UnknownReference`], [`Error::NotFetched`].
    pub fn tree_of(&self, commit: &CommitSha) -> Result<TreeSha, Error> {
        let repository = self.open()?;
        let tree = find_commit(&repository, commit)?.tree_id();
        Ok(TreeSha(tree.to_string()))
    }
}
