//! The artifact store: a folder of files named by the hash of their content, `ab/cd/abcd…`.
//!
//! Content never changes and is never overwritten by other content. It arrives by rename, after it was flushed to the
//! disk, so a file that exists is complete. Content that no artifact refers to is swept, but only once it is a day
//! old: an artifact may be about to refer to new content.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::RwLock;

use crate::care::retention::Retention;
use crate::db::error::{Error, Result};
use crate::store::Store;

/// The age from which a file may be swept.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How many files one query of the database covers.
const SWEEP_AT_ONCE: usize = 500;

/// The folder for incoming content; on the same file system, so that it can be renamed.
const INCOMING: &str = "incoming";

/// The artifact store's folder. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Blobs {
    root: Arc<Path>,
    /// Arrivals share it; the sweeper takes it exclusively while it checks and removes a file.
    sweep: Arc<RwLock<()>>,
}

/// What a sweep removed, or would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    pub files: u64,
    pub bytes: u64,
}

impl Blobs {
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
        Ok(Self {
            root: root.into(),
            sweep: Arc::default(),
        })
    }

    /// The folder for incoming files.
    #[must_use]
    pub fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    /// An empty folder for the incoming files of one process: files that an earlier
    /// process of this `name` left there are removed.
    ///
    /// # Errors
    /// `Storage`, `StorageFull`.
    pub async fn incoming_of(&self, name: &str) -> Result<PathBuf> {
        let hash = hex::encode(Sha256::digest(name.as_bytes()));
        let folder = self.incoming().join(&hash[..16]);
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

    /// The file of this content; `None` where it is missing, or `sha256` is not a hash in hex.
    #[must_use]
    pub fn path_of(&self, sha256: &str) -> Option<PathBuf> {
        self.place_of(sha256).filter(|path| path.is_file())
    }

    /// Moves a file into the store under its hash. The file is gone from its old place. Content that exists already
    /// is replaced by the same content, which resets its age.
    ///
    /// # Errors
    /// `Conflict` where the file does not have the given size, `Storage`, `StorageFull`.
    pub async fn ingest(&self, file: &Path, sha256: &str, size: u64) -> Result<()> {
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
        let _arriving = self.sweep.read().await;
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

    /// Removes a file that is still old. `false` where it was ingested again, or is gone.
    async fn remove_old(&self, path: &Path) -> Result<bool> {
        let _alone = self.sweep.write().await;
        if !is_old(path).await {
            return Ok(false);
        }
        match tokio::fs::remove_file(path).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed(path, error)),
        }
    }
}

impl Store {
    /// Removes content that no artifact refers to, and leftovers of arrivals, once they are a day old. `dry_run` only
    /// counts what could be removed once the runs that this rule does not keep are gone.
    ///
    /// # Errors
    /// An error of the folder or the database.
    pub async fn sweep_blobs(&self, blobs: &Blobs, dry_run: Option<&Retention>) -> Result<Swept> {
        let gone = match dry_run {
            Some(rule) => self.old_runs(rule).await?.runs,
            None => Vec::new(),
        };
        let dry_run = dry_run.is_some();
        let mut swept = Swept::default();
        for file in list(&blobs.incoming(), 1).await? {
            self.sweep_file(blobs, &file, dry_run, &mut swept).await?;
        }
        for folder in folders(&blobs.root).await? {
            let files = list(&folder, 1).await?;
            for files in files.chunks(SWEEP_AT_ONCE) {
                let hashes: Vec<String> = files.iter().filter_map(|file| hash_of(file)).collect();
                let used = sqlx::query!(
                    "select distinct sha256 from artifact where sha256 = any($1) and run <> all($2)",
                    &hashes,
                    &gone
                )
                .fetch_all(&self.core.pool)
                .await?;
                for file in files {
                    let hash = hash_of(file);
                    if !used.iter().any(|row| Some(&row.sha256) == hash.as_ref()) {
                        self.sweep_file(blobs, file, dry_run, &mut swept).await?;
                    }
                }
            }
        }
        Ok(swept)
    }

    async fn sweep_file(
        &self,
        blobs: &Blobs,
        file: &Path,
        dry_run: bool,
        swept: &mut Swept,
    ) -> Result<()> {
        let Ok(metadata) = tokio::fs::metadata(file).await else {
            return Ok(());
        };
        let removed = if dry_run {
            is_old(file).await
        } else {
            blobs.remove_old(file).await?
        };
        if removed {
            swept.files += 1;
            swept.bytes += metadata.len();
        }
        Ok(())
    }
}

fn hash_of(file: &Path) -> Option<String> {
    file.file_name()
        .and_then(|name| name.to_str())
        .map(ToOwned::to_owned)
}

async fn is_old(path: &Path) -> bool {
    // A file whose age is not known is not removed.
    let modified = tokio::fs::metadata(path)
        .await
        .and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > SWEEP_AFTER))
}

/// The folders that are named by the first two digits.
async fn folders(root: &Path) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    let mut entries = tokio::fs::read_dir(root)
        .await
        .map_err(|error| failed(root, error))?;
    while let Some(entry) = entries
        .next_entry()
        .await
        .map_err(|error| failed(root, error))?
    {
        if entry.file_name().len() == 2 {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// The files of a folder, or of the folders within it.
async fn list(folder: &Path, depth: u32) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), depth)];
    while let Some((folder, depth)) = open.pop() {
        let mut entries = tokio::fs::read_dir(&folder)
            .await
            .map_err(|error| failed(&folder, error))?;
        while let Some(entry) = entries
            .next_entry()
            .await
            .map_err(|error| failed(&folder, error))?
        {
            let Ok(kind) = entry.file_type().await else {
                continue;
            };
            if kind.is_file() {
                files.push(entry.path());
            } else if kind.is_dir() && depth > 0 {
                open.push((entry.path(), depth - 1));
            }
        }
    }
    Ok(files)
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::StorageFull { path, source },
        _ => Error::Storage { path, source },
    }
}
