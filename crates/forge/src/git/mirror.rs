//! Mirrors: one bare repository on disk per followed repo.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{ErrorCode, Repository};
use trainyard_core::id::RepoId;

use super::limits::Watch;
use super::{Error, FetchLimits, UrlRules, settings};

/// How often to poll for a mirror that another process fetches.
const TURN: Duration = Duration::from_millis(50);

/// How long a killed process may take to be gone.
const TIDY: Duration = Duration::from_secs(10);

/// All mirrors, below one folder.
#[derive(Debug, Clone)]
pub struct Mirrors {
    root: PathBuf,
    rules: UrlRules,
    limits: FetchLimits,
}

impl Mirrors {
    /// Mirrors below `root`, which is created when it is first needed. Repositories on this machine's own disk are
    /// not followed unless [`Mirrors::with_rules`] permits it.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        // Early, before there are other threads; opening a mirror reports whether it succeeded.
        let _ = settings::apply();
        Self {
            root,
            rules: UrlRules::default(),
            limits: FetchLimits::default(),
        }
    }

    /// The same, with these rules for addresses.
    #[must_use]
    pub fn with_rules(self, rules: UrlRules) -> Self {
        Self { rules, ..self }
    }

    /// The same, with these limits for a fetch.
    #[must_use]
    pub fn with_limits(self, limits: FetchLimits) -> Self {
        Self { limits, ..self }
    }

    /// The rules for addresses.
    #[must_use]
    pub fn rules(&self) -> &UrlRules {
        &self.rules
    }

    #[must_use]
    pub fn limits(&self) -> FetchLimits {
        self.limits
    }

    /// The repos that have a mirror here, or a part of one.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn repos(&self) -> Result<BTreeSet<RepoId>, Error> {
        let fault = |error: &io::Error| Error::disk("the mirrors cannot be listed", error);
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
            entries => entries.map_err(|error| fault(&error))?,
        };
        let mut repos = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(|error| fault(&error))?.file_name();
            let id = Path::new(&name).file_stem().and_then(OsStr::to_str);
            repos.extend(id.and_then(|id| id.parse().ok()).map(RepoId));
        }
        Ok(repos)
    }

    /// The mirror of one repo, whether it was fetched yet or not.
    #[must_use]
    pub fn mirror(&self, repo: RepoId) -> Mirror {
        Mirror {
            repo,
            root: self.root.clone(),
            rules: self.rules.clone(),
            limits: self.limits,
        }
    }
}

/// The mirror of one repo. Its functions block; see [`super::Git`].
#[derive(Debug, Clone)]
pub struct Mirror {
    pub(super) repo: RepoId,
    pub(super) root: PathBuf,
    pub(super) rules: UrlRules,
    pub(super) limits: FetchLimits,
}

impl Mirror {
    /// The mirror's folder: a bare repository that git itself can read.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join(format!("{}.git", self.repo))
    }

    /// Removes the mirror from the disk, after a fetch in progress.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub fn remove(&self) -> Result<(), Error> {
        let watch = Watch::start(self.limits, super::CancelFlag::default());
        if !self.root.exists() {
            return Ok(());
        }
        let _lock = self.lock(&watch)?;
        let lock_file = self.lock_path();
        for (what, result) in [
            ("the mirror", fs::remove_dir_all(self.path())),
            ("the mirror's lock", fs::remove_file(&lock_file)),
            ("the mirror's mark", fs::remove_file(self.mark_path())),
        ] {
            match result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::disk(format!("{what} cannot be removed"), &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the files of a killed fetch, once it has released the mirror.
    pub(super) fn tidy(&self) {
        let watch = Watch::start(
            FetchLimits {
                time: TIDY,
                ..self.limits
            },
            super::CancelFlag::default(),
        );
        // The next fetch removes files that cannot be removed now.
        if let Ok(_lock) = self.lock(&watch) {
            self.sweep();
        }
    }

    /// The repository, for reading.
    pub(super) fn open(&self) -> Result<Repository, Error> {
        settings::apply().map_err(|why| self.damaged(why))?;
        Repository::open_bare(self.path()).map_err(|error| match error.code() {
            ErrorCode::NotFound => Error::NotFetched {
                repo: self.repo.to_string(),
            },
            _ => self.damaged(error.message().to_owned()),
        })
    }

    /// The repository, for fetching; created if it does not exist. Only under [`Mirror::lock`].
    pub(super) fn open_or_create(&self) -> Result<Repository, Error> {
        let repository = match self.open() {
            Err(Error::NotFetched { .. }) => Repository::init_bare(self.path())
                .map_err(|error| Error::of_mirror("the mirror cannot be made", &error))?,
            opened => opened?,
        };
        self.sweep();
        configure(&repository)
            .map_err(|error| Error::of_mirror("the mirror cannot be set up", &error))?;
        Ok(repository)
    }

    /// Waits until no other fetch of this mirror runs, in this process or another.
    pub(super) fn lock(&self, watch: &Watch) -> Result<File, Error> {
        let disk = |error: &io::Error| Error::disk("the mirror's lock cannot be acquired", error);
        // Other users of a shared machine must not read the sources.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|error| Error::disk("the folder for mirrors cannot be made", &error))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.lock_path())
            .map_err(|error| disk(&error))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if watch.goes_on(0) => std::thread::sleep(TURN),
                Err(TryLockError::WouldBlock) => return Err(Error::Cancelled),
                Err(TryLockError::Error(error)) => return Err(disk(&error)),
            }
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join(format!("{}.lock", self.repo))
    }

    pub(super) fn mark_path(&self) -> PathBuf {
        self.root.join(format!("{}.reading", self.repo))
    }

    /// Removes the files of a killed fetch: git's own lock files, which would block every later fetch, and
    /// half-written packs. The holder of [`Mirror::lock`] knows that they are not in use.
    fn sweep(&self) {
        let path = self.path();
        let is_lock = |name: &str| name.ends_with(".lock");
        sweep_folder(&path, false, &is_lock);
        sweep_folder(&path.join("refs"), true, &is_lock);
        let is_unfinished = |name: &str| name.contains("_git2_");
        sweep_folder(&path.join("objects/pack"), false, &is_unfinished);
        sweep_folder(&path.join("objects"), false, &is_unfinished);
    }

    fn damaged(&self, why: String) -> Error {
        let path = self.path();
        Error::Corrupt {
            what: format!("the mirror {}", path.display()),
            why: format!(
                "{why}; it is only a copy: remove the folder, and the next fetch creates it again"
            ),
        }
    }
}

fn configure(repository: &Repository) -> Result<(), git2::Error> {
    let mut config = repository.config()?;
    if !matches!(config.get_bool("core.fsyncObjectFiles"), Ok(true)) {
        config.set_bool("core.fsyncObjectFiles", true)?;
    }
    Ok(())
}

fn sweep_folder(folder: &Path, deep: bool, is_leftover: &impl Fn(&str) -> bool) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && deep {
            sweep_folder(&entry.path(), deep, is_leftover);
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_leftover) {
            tracing::warn!(file = %entry.path().display(), "removing a file that a killed fetch left");
            // A file that cannot be removed shows up as an error of the next fetch.
            let _ = fs::remove_file(entry.path());
        }
    }
}
