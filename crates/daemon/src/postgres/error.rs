//! Errors of the private Postgres.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// The reason why the private Postgres cannot be started or stopped, and what to do.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There are no programs.
    #[error(
        "no Postgres programs (initdb, pg_ctl, postgres) {}; install them (Debian: `apt install postgresql`), \
         give their folder with --pg-bin, run Postgres in a container with --pg-image postgres:17, or give a \
         database with --database-url",
        given.as_ref().map_or_else(
            || "in /usr/lib/postgresql and $PATH".to_owned(),
            |folder| format!("in {}", folder.display()),
        )
    )]
    NotInstalled {
        /// The folder that was given.
        given: Option<PathBuf>,
    },
    /// There are no programs, and a container cannot be used instead.
    #[error(
        "there are no Postgres programs in /usr/lib/postgresql and $PATH (Debian: `apt install postgresql`), \
         and Postgres cannot run in a container: {0}. Fix one of the two, give the folder of the programs with \
         --pg-bin, or give a database with --database-url"
    )]
    NeitherProgramsNorContainer(trainyard_executor::Error),
    /// Postgres cannot run in a container.
    #[error("Postgres cannot run in a container: {0}")]
    Engine(#[from] trainyard_executor::Error),
    /// The container's port would be open on another machine.
    #[error(
        "Postgres in a container needs a Docker engine on this machine, and {host} may be elsewhere; \
         give a database with --database-url"
    )]
    RemoteEngine { host: String },
    /// The container's password cannot be read or made.
    #[error(transparent)]
    Key(#[from] crate::secret_key::KeyError),
    /// All installed versions are too old.
    #[error(
        "Postgres {newest} is too old: {} or newer is needed; install it, or give a database with --database-url",
        super::binaries::OLDEST
    )]
    TooOld {
        /// The newest installed version.
        newest: u32,
    },
    /// The cluster was made by a version that is not installed.
    #[error(
        "the database in {} was made by Postgres {made_by}, and {}; install Postgres {made_by} again, or give the \
         folder of its programs with --pg-bin. To start with an empty database instead, move the folder away",
        cluster.display(), installed_in_words(installed)
    )]
    OtherVersion {
        cluster: PathBuf,
        /// The version that made it.
        made_by: u32,
        installed: Vec<u32>,
    },
    /// Root has no user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody`; make one \
         (`useradd --system postgres`), start as another user, or give a database with --database-url"
    )]
    NoUser,
    /// The cluster belongs to another user.
    #[error(
        "the database in {} belongs to user {owner}, and this is user {user}; start as that user, or give \
         another folder with --data-dir",
        folder.display()
    )]
    NotOurs {
        folder: PathBuf,
        owner: u32,
        user: u32,
    },
    /// The user who runs Postgres cannot reach the cluster.
    #[error(
        "user {user}, who runs Postgres because root may not, cannot get through {}; run `chmod o+x` on it, \
         or give a folder elsewhere with --data-dir",
        closed.display()
    )]
    Closed {
        user: String,
        /// The first folder on the path that is closed to that user.
        closed: PathBuf,
    },
    /// A place for the socket is not safe to use.
    #[error("{} is not a folder that only user {owner} can use; remove it", path.display())]
    UnsafeSockets { path: PathBuf, owner: u32 },
    /// Files cannot be read or written.
    #[error("{} cannot be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// A program could not be started.
    #[error("{} cannot be started: {source}", program.display())]
    Spawn { program: PathBuf, source: io::Error },
    /// A program failed.
    #[error("{program} failed: {said}")]
    Program {
        program: &'static str,
        /// The end of what it printed, or of Postgres' log.
        said: String,
    },
    /// Postgres neither started nor stopped in time.
    #[error(
        "the Postgres in {} has been {doing} for more than {seconds} s; its log is {}",
        cluster.display(), log.display()
    )]
    TooSlow {
        cluster: PathBuf,
        /// `starting` or `stopping`.
        doing: &'static str,
        seconds: u64,
        log: PathBuf,
    },
    /// The thread that waited for Postgres panicked.
    #[error("starting or stopping Postgres panicked; this is a bug in Trainyard")]
    Panicked,
}

impl ClusterError {
    /// For `map_err`: an error with a file.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

fn installed_in_words(installed: &[u32]) -> String {
    if installed.is_empty() {
        return "none is installed".to_owned();
    }
    let versions: Vec<String> = installed.iter().map(ToString::to_string).collect();
    format!("only these versions are installed: {}", versions.join(", "))
}
