//! The artifact store: content by the SHA-256 of its bytes.
//!
//! [`Blobs`] is all that the daemon asks of it, so that content can be files in a folder ([`BlobFolder`]) or objects in
//! a bucket. It promises no paths of this machine.
//!
//! [`BlobFolder`]: crate::files::blob_folder::BlobFolder

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::AsyncRead;

use crate::db::error::Result;

/// The range of all bytes.
pub const ALL_BYTES: Range<u64> = 0..u64::MAX;

/// Content that is being read.
pub struct OpenBlob {
    /// The number of all its bytes.
    pub size: u64,
    /// The bytes of the range that was asked for.
    pub bytes: Box<dyn AsyncRead + Send + Unpin>,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobEntry {
    /// The hash of the content. What is left of an arrival that was cut short has another name.
    pub name: String,
    pub size: u64,
}

/// Keeps content. Content never changes, and what can be read is complete. What is not a SHA-256 in lower-case hex is
/// the hash of no content.
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Keeps the content of a file of this machine, durably. The file may be gone afterwards. Content that is there
    /// already becomes as young as if it came for the first time.
    ///
    /// # Errors
    /// `Conflict` where the file does not have the given size or `sha256` is not a hash, `Storage`, `StorageFull`.
    fn put<'a>(&'a self, file: &'a Path, sha256: &'a str, size: u64) -> BoxFuture<'a, Result<()>>;

    /// The number of bytes; `None` where the content is missing.
    ///
    /// # Errors
    /// `Storage`.
    fn size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>>>;

    /// Opens a part of the content; `None` where it is missing.
    ///
    /// # Errors
    /// `Storage`.
    fn open<'a>(
        &'a self,
        sha256: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<OpenBlob>>>;

    /// Opens the content for a thread that may block, and that must not wait for another such thread.
    ///
    /// # Errors
    /// `NotFound` where it is missing.
    fn open_blocking(&self, sha256: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Everything that came longer ago than this.
    fn list(&self, older_than: Duration) -> BoxStream<'_, Result<BlobEntry>>;

    /// Removes an entry that came longer ago than this; `false` where it came again, or is gone. Content that comes at
    /// the same moment stays.
    ///
    /// # Errors
    /// `Storage`.
    fn remove_old<'a>(&'a self, name: &'a str, older_than: Duration)
    -> BoxFuture<'a, Result<bool>>;
}
