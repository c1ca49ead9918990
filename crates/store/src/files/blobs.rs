//! The artifact store: a folder of files named by the hash of their content, `ab/cd/abcd…`.
//!
//! Content never changes and is never overwritten by other content. It arrives by rename, after it was flushed to the
//! disk, so a file that exists is complete. [`Store::sweep_blobs`] removes content that has no owner.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::RwLock;
use trainyard_failpoint::{Effect as _, Point};

use crate::care::retention::Retention;
use crate::db::error::{Error, Result};
use crate::store::Store;

/// How much older than any reference to come content has to be before it is swept. It bounds how much the clocks of
/// this machine, the folder and the database may differ.
const SWEEP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How many files one query of the database covers.
const SWEEP_AT_ONCE: usize = 500;

/// How many rows one transaction deletes.
const FORGET_AT_ONCE: i64 = 500;

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
    async fn remove_old(&self, path: &Path, older_than: Duration) -> Result<bool> {
        let _alone = self.sweep.write().await;
        if !is_old(path, older_than).await {
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
    /// Removes content that has no owner, and leftovers of arrivals. `dry_run` only counts what could be removed once
    /// the runs that this rule does not keep are gone.
    ///
    /// # Errors
    /// An error of the folder or the database.
    pub async fn sweep_blobs(&self, blobs: &Blobs, dry_run: Option<&Retention>) -> Result<Swept> {
        let gone = match dry_run {
            Some(rule) => self.old_runs(rule).await?.runs,
            None => {
                self.forget_blobs().await?;
                Vec::new()
            }
        };
        let dry_run = dry_run.is_some();
        let age = self.sweep_age().await?;
        let mut swept = Swept::default();
        for file in list(&blobs.incoming(), 1).await? {
            sweep_file(blobs, &file, age, dry_run, &mut swept).await?;
        }
        for folder in folders(&blobs.root).await? {
            let files = list(&folder, 1).await?;
            for files in files.chunks(SWEEP_AT_ONCE) {
                let hashes: Vec<String> = files.iter().filter_map(|file| hash_of(file)).collect();
                let kept = self.kept_blobs(&hashes, dry_run, &gone).await?;
                for file in files {
                    if hash_of(file).is_none_or(|hash| !kept.contains(&hash)) {
                        sweep_file(blobs, file, age, dry_run, &mut swept).await?;
                    }
                }
            }
        }
        Ok(swept)
    }

    /// Deletes the rows of content that has no owner.
    async fn forget_blobs(&self) -> Result<()> {
        loop {
            let mut transaction = self.core.begin().await?;
            let unowned = sqlx::query_scalar!(
                "select sha256 from blob b
                 where not exists (select from blob_reference r where r.sha256 = b.sha256)
                 order by sha256 limit $1 for update skip locked",
                FORGET_AT_ONCE
            )
            .fetch_all(&mut *transaction)
            .await?;
            // An owner may have come after the statement above began. This one sees it, and no further one can come.
            let forgotten = sqlx::query!(
                "delete from blob b where sha256 = any($1)
                    and not exists (select from blob_reference r where r.sha256 = b.sha256)",
                &unowned
            )
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            if forgotten == 0 {
                return Ok(());
            }
            transaction.commit().at(Point::SweepBlobs).await?;
        }
    }

    /// The age from which content without an owner is removed.
    async fn sweep_age(&self) -> Result<Duration> {
        let oldest = sqlx::query_scalar!(
            r#"select coalesce(extract(epoch from max(clock_timestamp() - queued_at)), 0)::float8 as "seconds!"
            from attempt where state in ('claimed', 'running')"#
        )
        .fetch_one(&self.core.pool)
        .await?;
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        Ok(oldest + SWEEP_AFTER)
    }

    /// Which of these blobs are kept; in a `dry_run`, which would be without the runs that are `gone`.
    async fn kept_blobs(
        &self,
        hashes: &[String],
        dry_run: bool,
        gone: &[i64],
    ) -> Result<HashSet<String>> {
        let kept = sqlx::query_scalar!(
            "select sha256 from blob b where sha256 = any($1) and (not $2 or exists (
                select from blob_reference r where r.sha256 = b.sha256 and (r.run is null or r.run <> all($3))))",
            hashes,
            dry_run,
            gone
        )
        .fetch_all(&self.core.pool)
        .await?;
        Ok(kept.into_iter().collect())
    }
}

async fn sweep_file(
    blobs: &Blobs,
    file: &Path,
    age: Duration,
    dry_run: bool,
    swept: &mut Swept,
) -> Result<()> {
    let Ok(metadata) = tokio::fs::metadata(file).await else {
        return Ok(());
    };
    let removed = if dry_run {
        is_old(file, age).await
    } else {
        blobs.remove_old(file, age).await?
    };
    if removed {
        swept.files += 1;
        swept.bytes += metadata.len();
    }
    Ok(())
}

fn hash_of(file: &Path) -> Option<String> {
    file.file_name()
        .and_then(|name| name.to_str())
        .map(ToOwned::to_owned)
}

async fn is_old(path: &Path, older_than: Duration) -> bool {
    // A file whose age is not known is not removed.
    let modified = tokio::fs::metadata(path)
        .await
        .and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > older_than))
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
