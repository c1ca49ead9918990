//! SHA-256 as hex, as artifacts and registries are named by it.

use sha2::{Digest as _, Sha256};

/// The hash of these bytes.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
