//! The full name of a commit.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The full hash of a commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
///
/// A well-formed hash says nothing about whether a mirror has the commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct CommitSha(String);

/// A text that is not the full hash of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the full hash of a commit: 40 or 64 hexadecimal digits, not all zero")]
pub struct NotASha;

impl CommitSha {
    /// The hash in `text`, in lower case.
    ///
    /// # Errors
    /// It has another length, other characters, or is the all-zero hash that stands for no commit.
    pub fn new(text: &str) -> Result<Self, NotASha> {
        let is_full = matches!(text.len(), 40 | 64);
        if !is_full || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) || is_zero(text) {
            return Err(NotASha);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The hash as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The short form of the hash, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..10).unwrap_or(&self.0)
    }

    pub(super) fn of(id: git2::Oid) -> Self {
        Self(id.to_string())
    }
}

/// Whether `text` is the all-zero hash that git writes in place of a commit.
pub(crate) fn is_zero(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte == b'0')
}

impl fmt::Display for CommitSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CommitSha {
    type Error = NotASha;

    fn try_from(text: String) -> Result<Self, NotASha> {
        Self::new(&text)
    }
}

impl FromStr for CommitSha {
    type Err = NotASha;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_hashes_are_taken_in_either_length_and_case() {
        assert_eq!(
            CommitSha::new(&"Ab".repeat(20)).unwrap().as_str(),
            "ab".repeat(20)
        );
        assert!(CommitSha::new(&"ab".repeat(32)).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "main",
            "abcdef1",
            &"g".repeat(40),
            &"a".repeat(41),
            &"ä".repeat(20),
        ] {
            assert_eq!(CommitSha::new(text), Err(NotASha), "{text:?}");
        }
        assert_eq!(CommitSha::new(&"0".repeat(40)), Err(NotASha), "no commit");
    }
}
