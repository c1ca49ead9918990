//! The parts of a source tree that are fetched from elsewhere than the repo's objects.

use super::Credentials;

/// Which of these parts to fetch for a source tree, and with which credentials.
#[derive(Debug, Clone)]
pub struct Contents {
    pub url: String,
    pub credentials: Option<Credentials>,
    /// Whether files of Git LFS have their contents.
    pub lfs: bool,
    pub submodules: bool,
}
