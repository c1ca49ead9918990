//! The artifact store as a folder of files named by their hash, `ab/cd/abcd…`. Several daemons may share it.
//!
//! Content arrives by rename, after it was flushed to the disk, so a file that exists is complete. Its age is that of
//! the file, which is new each time.

use std::fs::Metadata;
use std::io::{self, ErrorKind, Read, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use uuid::Uuid;

use crate::db::error::{Error, Result};
use crate::files::blobs::{BlobEntry, Blobs, OpenBlob};

/// The folder for incoming content; on the same file system, so that it can be renamed.
const INCOMING: &str = "incoming";

/// A folder of content. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct BlobFolder {
    root: Arc<Path>,
}

impl BlobFolder {
    /// Opens the folder, and creates it if it is missing.
    ///
    /// # Errors
    /// `Storage`, `StorageFull`.
    pub async fn open(root: &Path) -> Result<Self> {
        let incoming = root.join(INCOMING);
        // Only the owner may list the folder: names are hashes, and show which known files are in the store.
        tokio::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&incoming)
            .await
            .map_err(|error| failed(&incoming, error))?;
        let root = tokio::fs::canonicalize(root)
            .await
            .map_err(|error| failed(root, error))?;
        Ok(Self { root: root.into() })
    }

    /// An empty folder for the incoming files of one process, from where [`put`](Blobs::put) moves them. Files that
    /// an earlier process of this `name` left there are removed.
    ///
    /// # Errors
    /// `Storage`, `StorageFull`.
    pub async fn incoming_of(&self, name: &str) -> Result<PathBuf> {
        let hash = hex::encode(Sha256::digest(name.as_bytes()));
        let folder = self.root.join(INCOMING).join(&hash[..16]);
        match tokio::fs::remove_dir_all(&folder).await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed(&folder, error));
            }
            _ => {}
        }
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|error| failed(&folder, error))?;
        Ok(folder)
    }

    /// The place of content; `None` where `sha256` is not a hash.
    fn place_of(&self, sha256: &str) -> Option<PathBuf> {
        let is_hash = sha256.len() == 64
            && sha256
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        is_hash.then(|| {
            self.root
                .join(&sha256[..2])
                .join(&sha256[2..4])
                .join(sha256)
        })
    }

    /// The name of a file in listings: its hash, or its path where it is not in the place of content.
    fn name_of(&self, path: &Path) -> Option<String> {
        let file = path.file_name()?.to_str()?;
        if self.place_of(file).as_deref() == Some(path) {
            return Some(file.to_owned());
        }
        Some(path.strip_prefix(&self.root).ok()?.to_str()?.to_owned())
    }

    fn path_of(&self, name: &str) -> Option<PathBuf> {
        let within = || {
            let path = Path::new(name);
            let is_plain = |part| matches!(part, Component::Normal(_));
            path.components()
                .all(is_plain)
                .then(|| self.root.join(path))
        };
        self.place_of(name).or_else(within)
    }

    async fn move_in(&self, file: &Path, sha256: &str, size: u64) -> Result<()> {
        let to = self
            .place_of(sha256)
            .ok_or_else(|| Error::conflict(format!("`{sha256}` is not a SHA-256 in hex")))?;
        let opened = tokio::fs::File::open(file)
            .await
            .map_err(|error| failed(file, error))?;
        let found = opened
            .metadata()
            .await
            .map_err(|error| failed(file, error))?
            .len();
        if found != size {
            return Err(Error::conflict(format!(
                "an artifact of {size} bytes has {found} bytes on disk"
            )));
        }
        opened
            .sync_all()
            .await
            .map_err(|error| failed(file, error))?;
        drop(opened);
        let folder = to.parent().unwrap_or(&self.root).to_owned();
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|error| failed(&folder, error))?;
        tokio::fs::rename(file, &to)
            .await
            .map_err(|error| failed(&to, error))?;
        // The rename itself must survive a power cut as well.
        let folder_file = tokio::fs::File::open(&folder)
            .await
            .map_err(|error| failed(&folder, error))?;
        folder_file
            .sync_all()
            .await
            .map_err(|error| failed(&folder, error))
    }

    async fn open_range(&self, sha256: &str, range: Range<u64>) -> Result<Option<OpenBlob>> {
        let Some(path) = self.place_of(sha256) else {
            return Ok(None);
        };
        let open = async || {
            let mut file = tokio::fs::File::open(&path).await?;
            let size = file.metadata().await?.len();
            file.seek(SeekFrom::Start(range.start)).await?;
            let length = range.end.saturating_sub(range.start);
            let bytes = Box::new(file.take(length));
            Ok(OpenBlob { size, bytes })
        };
        found(open().await).map_err(|error| failed(&path, error))
    }

    async fn move_out(&self, name: &str, older_than: Duration) -> Result<bool> {
        let Some(path) = self.path_of(name) else {
            return Ok(false);
        };
        let is_old = async |path: &Path| {
            let metadata = found(tokio::fs::metadata(path).await);
            let metadata = metadata.map_err(|error| failed(path, error))?;
            Ok::<_, Error>(metadata.is_some_and(|metadata| is_old(&metadata, older_than)))
        };
        if !is_old(&path).await? {
            return Ok(false);
        }
        // Its content may come again right now, from this or another daemon. So it is moved out first: a file that
        // turns out to be new there goes back, and one that comes after the move stays.
        let out = self.root.join(INCOMING).join(Uuid::now_v7().to_string());
        let moved = found(tokio::fs::rename(&path, &out).await);
        if moved.map_err(|error| failed(&path, error))?.is_none() {
            return Ok(false);
        }
        let is_old = is_old(&out).await?;
        let done = match is_old {
            true => tokio::fs::remove_file(&out).await,
            false => tokio::fs::rename(&out, &path).await,
        };
        done.map_err(|error| failed(&out, error))?;
        Ok(is_old)
    }

    /// The old files in one of the folders below the root. Blocking.
    fn old_files(&self, folder: &str, older_than: Duration) -> Result<Vec<BlobEntry>> {
        let mut entries = Vec::new();
        let mut folders = vec![self.root.join(folder)];
        while let Some(folder) = folders.pop() {
            let mut read = || {
                for entry in std::fs::read_dir(&folder)? {
                    let entry = entry?;
                    // Another sweep may remove it meanwhile.
                    let Some(metadata) = found(entry.metadata())? else {
                        continue;
                    };
                    if metadata.is_dir() {
                        folders.push(entry.path());
                    } else if is_old(&metadata, older_than)
                        && let Some(name) = self.name_of(&entry.path())
                    {
                        let size = metadata.len();
                        entries.push(BlobEntry { name, size });
                    }
                }
                Ok(())
            };
            found(read()).map_err(|error| failed(&folder, error))?;
        }
        Ok(entries)
    }
}

impl Blobs for BlobFolder {
    fn put<'a>(&'a self, file: &'a Path, sha256: &'a str, size: u64) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.move_in(file, sha256, size))
    }

    fn size<'a>(&'a self, sha256: &'a str) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let Some(path) = self.place_of(sha256) else {
                return Ok(None);
            };
            let metadata = found(tokio::fs::metadata(&path).await);
            let metadata = metadata.map_err(|error| failed(&path, error))?;
            Ok(metadata.map(|metadata| metadata.len()))
        })
    }

    fn open<'a>(
        &'a self,
        sha256: &'a str,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Option<OpenBlob>>> {
        Box::pin(self.open_range(sha256, range))
    }

    fn open_blocking(&self, sha256: &str) -> io::Result<Box<dyn Read + Send>> {
        let path = self.place_of(sha256).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(std::fs::File::open(path)?))
    }

    fn list(&self, older_than: Duration) -> BoxStream<'_, Result<BlobEntry>> {
        let content = (0..=u8::MAX).map(|byte| format!("{byte:02x}"));
        let folders = std::iter::once(INCOMING.to_owned()).chain(content);
        let entries = stream::iter(folders).then(move |folder| async move {
            let root = self.clone();
            let read = move || root.old_files(&folder, older_than);
            let entries = tokio::task::spawn_blocking(read).await;
            entries.unwrap_or(Err(Error::Interrupted))
        });
        let entries = entries.map_ok(|entries| stream::iter(entries.into_iter().map(Ok)));
        entries.try_flatten().boxed()
    }

    fn remove_old<'a>(
        &'a self,
        name: &'a str,
        older_than: Duration,
    ) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.move_out(name, older_than))
    }
}

fn is_old(metadata: &Metadata, older_than: Duration) -> bool {
    // A file whose age is not known is not removed.
    let modified = metadata.modified();
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age >= older_than))
}

/// `None` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::StorageFull { path, source },
        _ => Error::Storage { path, source },
    }
}
