//! The private Postgres of `trainyard dev`, from the programs found on the machine.
//!
//! 1. Its cluster lies in the data folder and listens on a Unix socket only. A second daemon cannot use it, since it
//!    cannot lock the [`DataDir`].
//! 2. It runs in a session of its own, so that Ctrl-C does not stop it before the daemon has disconnected. The daemon
//!    stops it in order.
//! 3. If the daemon is killed, Postgres keeps running, and the next daemon uses it. If Postgres itself is killed, it
//!    recovers at its next start.
//!
//! It is for one machine and one user. For backups, upgrades to another major version and tuning, run a Postgres of
//! your own and give it with `--database-url`.

use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tracing::info;

use super::binaries::{self, Binaries};
use super::data_folder::DataFolder;
use super::error::ClusterError;
use super::postmaster::{self, State};
use super::programs::{self, Programs};
use crate::data_dir::DataDir;

/// The cluster's one user. The database is `postgres`, which `initdb` creates: the cluster is ours alone, so it needs
/// no other.
pub(super) const USER: &str = "trainyard";

/// How long a start may take; after a crash it replays the log of at most 512 MB.
const START: Duration = Duration::from_secs(120);

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);

/// How long an immediate stop may take.
const HALT: Duration = Duration::from_secs(5);

/// The interval for polling the state of Postgres.
const LOOK: Duration = Duration::from_millis(20);

/// A larger log of Postgres is rotated at the next start; one old log is kept.
const LOG_LIMIT: u64 = 16 << 20;

/// Characters that are not encoded in a URL's parameter.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.');

/// A running private Postgres. After a drop it keeps running, and the next start uses it.
#[derive(Debug)]
pub struct PrivateCluster {
    place: DataFolder,
    binaries: Binaries,
    sockets: PathBuf,
    url: String,
    was_running: bool,
}

impl PrivateCluster {
    /// Starts the data folder's Postgres, or uses it if it still runs. Creates the cluster at the first call, which
    /// takes about a second.
    ///
    /// # Errors
    /// There are no programs, the cluster belongs to another version or user, or Postgres does not start. Each error
    /// says what to do.
    pub async fn start(data: &DataDir, pg_bin: Option<&Path>) -> Result<Self, ClusterError> {
        let (data, pg_bin) = (data.path().to_owned(), pg_bin.map(Path::to_owned));
        off_the_runtime(move || start(&data, pg_bin.as_deref())).await
    }

    /// Ends all connections and stops Postgres. Close the pool first.
    ///
    /// # Errors
    /// It does not stop in time, or `pg_ctl` fails.
    pub async fn stop(self) -> Result<(), ClusterError> {
        off_the_runtime(move || {
            let programs = Programs {
                binaries: &self.binaries,
                place: &self.place,
            };
            stop(&programs)?;
            self.place.remove_sockets(&self.sockets);
            Ok(())
        })
        .await
    }

    /// Stops Postgres without waiting for its connections and without a checkpoint; its next start recovers. Returns
    /// a sentence about the result.
    pub fn halt(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let (binaries, place) = (self.binaries.clone(), self.place.clone());
        move || {
            let programs = Programs {
                binaries: &binaries,
                place: &place,
            };
            let folder = place.cluster();
            match is_stopped_by(programs.halt(HALT.as_secs()), &folder) {
                Ok(()) => "its Postgres was stopped, too".to_owned(),
                Err(_) => format!(
                    "its Postgres still runs: `{} stop --pgdata {} --mode immediate` stops it",
                    binaries.folder.join("pg_ctl").display(),
                    folder.display()
                ),
            }
        }
    }

    /// Where to connect; contains no secret.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.place.log()
    }

    #[must_use]
    pub fn version(&self) -> u32 {
        self.binaries.major
    }

    /// Whether it was running already, left by a daemon that was killed.
    #[must_use]
    pub fn was_running(&self) -> bool {
        self.was_running
    }
}

/// The programs that a start on this data folder would use. Changes nothing.
///
/// # Errors
/// No suitable programs are installed. The error says what to do.
pub fn programs_for(data: &Path, pg_bin: Option<&Path>) -> Result<Binaries, ClusterError> {
    let cluster = data.join("postgres/cluster");
    binaries::choose(pg_bin, made_by(&cluster)?, &cluster)
}

/// Runs blocking work (waiting for programs, file locks) outside the runtime's threads.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(ClusterError::Panicked))
}

fn start(data: &Path, pg_bin: Option<&Path>) -> Result<PrivateCluster, ClusterError> {
    let place = DataFolder::prepare(data)?;
    let cluster = place.cluster();
    let binaries = binaries::choose(pg_bin, made_by(&cluster)?, &cluster)?;
    let programs = Programs {
        binaries: &binaries,
        place: &place,
    };
    if !cluster.exists() {
        make(&programs)?;
    }
    let (sockets, was_running) = match settle(&programs)? {
        Some(sockets) => (sockets, true),
        None => (launch(&programs)?, false),
    };
    let host = percent_encode(sockets.as_os_str().as_bytes(), PLAIN);
    let url = format!("postgres:///postgres?host={host}&port=5432&user={USER}");
    if was_running {
        info!(path = %cluster.display(), "using the private Postgres that is still running");
    }
    Ok(PrivateCluster {
        place,
        binaries,
        sockets,
        url,
        was_running,
    })
}

/// The major version that created the cluster; `None` if there is no cluster yet.
fn made_by(cluster: &Path) -> Result<Option<u32>, ClusterError> {
    if !cluster.exists() {
        return Ok(None);
    }
    let path = cluster.join("PG_VERSION");
    let text = std::fs::read_to_string(&path).map_err(ClusterError::file(&path))?;
    let major = text
        .trim()
        .parse()
        .map_err(|_| std::io::Error::other("it does not contain a version"));
    major.map(Some).map_err(ClusterError::file(path))
}

/// Creates the cluster under another name first, so that a killed start leaves no incomplete cluster.
fn make(programs: &Programs<'_>) -> Result<(), ClusterError> {
    const UNFINISHED: &str = "cluster.unfinished";
    let unfinished = programs.place.home.join(UNFINISHED);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(ClusterError::file(&unfinished))?;
    }
    programs.initdb(UNFINISHED)?;
    let cluster = programs.place.cluster();
    std::fs::rename(&unfinished, &cluster).map_err(ClusterError::file(&cluster))
}

/// Waits until the cluster accepts connections, and returns its socket, or until it is stopped.
fn settle(programs: &Programs<'_>) -> Result<Option<PathBuf>, ClusterError> {
    let cluster = programs.place.cluster();
    let deadline = Instant::now() + START;
    loop {
        let doing = match postmaster::inspect(&cluster).map_err(ClusterError::file(&cluster))? {
            State::Stopped => return Ok(None),
            State::Ready { sockets } if sockets.join(".s.PGSQL.5432").exists() => {
                return Ok(Some(sockets));
            }
            // Another program has deleted its socket (a clean-up of /tmp), so it is unreachable.
            State::Ready { .. } => {
                stop(programs)?;
                "stopping"
            }
            State::Stale => {
                remove(&postmaster::pid_file(&cluster))?;
                continue;
            }
            State::Starting => "starting",
            State::Stopping => "stopping",
        };
        if Instant::now() >= deadline {
            return Err(ClusterError::TooSlow {
                cluster,
                doing,
                seconds: START.as_secs(),
                log: programs.place.log(),
            });
        }
        std::thread::sleep(LOOK);
    }
}

/// Starts a stopped cluster, and returns its socket.
fn launch(programs: &Programs<'_>) -> Result<PathBuf, ClusterError> {
    let log = programs.place.log();
    put_aside(&log)?;
    let sockets = programs.place.sockets()?;
    // The folder belongs to this cluster alone, and the cluster is stopped: a lock file there is a leftover of a
    // killed Postgres. It names a process as well, and Postgres would trust it.
    remove(&sockets.join(".s.PGSQL.5432.lock"))?;
    let deadline = Instant::now() + START;
    loop {
        let from = log.metadata().map_or(0, |found| found.len());
        let Err(error) = programs.start(&sockets, START.as_secs()) else {
            return Ok(sockets);
        };
        let ClusterError::Program { program, said } = error else {
            return Err(error);
        };
        let grown = log.metadata().is_ok_and(|found| found.len() > from);
        let logged = if grown {
            programs::end_of_log(&log)
        } else {
            String::new()
        };
        // Child processes of a killed Postgres notice its end within moments, and exit.
        let is_dying = logged.contains("is still in use");
        if !is_dying || Instant::now() >= deadline {
            let said = format!("{said}\nthe end of {}:\n{logged}", log.display());
            return Err(ClusterError::Program { program, said });
        }
        std::thread::sleep(LOOK);
    }
}

fn remove(file: &Path) -> Result<(), ClusterError> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ClusterError::file(file)(error)),
        _ => Ok(()),
    }
}

fn put_aside(log: &Path) -> Result<(), ClusterError> {
    if log
        .symlink_metadata()
        .is_ok_and(|found| found.len() > LOG_LIMIT)
    {
        std::fs::rename(log, log.with_extension("log.old")).map_err(ClusterError::file(log))?;
    }
    Ok(())
}

fn stop(programs: &Programs<'_>) -> Result<(), ClusterError> {
    is_stopped_by(programs.stop(STOP.as_secs()), &programs.place.cluster())
}

fn is_stopped_by(stopped: Result<(), ClusterError>, cluster: &Path) -> Result<(), ClusterError> {
    match postmaster::inspect(cluster).map_err(ClusterError::file(cluster))? {
        // It may have stopped by itself in between, which is fine.
        State::Stopped | State::Stale => Ok(()),
        State::Starting | State::Ready { .. } | State::Stopping => stopped,
    }
}
