//! Artifacts: the outputs that stages leave, by their content.

use crate::name::OutputName;

/// The form in which an output is kept, and in which it becomes an input again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArtifactKind {
    /// The bytes of a file, unchanged.
    File,
    /// The same of a file that may be executed.
    Executable,
    /// A tar archive of a folder's content.
    Folder,
}

impl ArtifactKind {
    pub const ALL: [Self; 3] = [Self::File, Self::Executable, Self::Folder];

    /// The word as stored and as shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Executable => "executable",
            Self::Folder => "folder",
        }
    }

    /// Reads the stored word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// What an artifact is, wherever its bytes are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactContent {
    pub kind: ArtifactKind,
    /// SHA-256 of the kept bytes, in lower-case hex.
    pub sha256: String,
    /// The number of kept bytes.
    pub size: u64,
}

/// An output whose bytes are in the artifact store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOutput {
    pub name: OutputName,
    pub content: ArtifactContent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read_back_from_its_word() {
        for kind in ArtifactKind::ALL {
            assert_eq!(ArtifactKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(ArtifactKind::from_word("link"), None);
    }
}
