//! What of a source tree is to be fetched from elsewhere than the repo's objects.

use super::Credentials;

/// What is to be fetched for a source tree, and with what.
#[derive(Debug, Clone)]
pub struct Contents {
    pub url: String,
    pub credentials: Option<Credentials>,
    /// Whether files of Git LFS have their contents.
    pub lfs: bool,
    pub submodules: bool,
}
