//! Location and owner of a cluster, and location of its socket.
//!
//! Everything is in `postgres/` of the data folder: `cluster/`, `socket/` and `postgres.log`. There are two
//! exceptions:
//! 1. Postgres refuses to run as root, so root gives the folder to the user `postgres` or `nobody`, who has to be
//!    able to traverse all folders above it. If one of them is closed, such as `/root`, the folder is made in
//!    [`OPEN_PLACE`] and linked.
//! 2. The path of a Unix socket has at most 107 bytes. If the data folder's path is longer, the socket is in a short
//!    folder that is named after its hash.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, symlink};
use std::path::{Path, PathBuf};

use nix::libc::{O_DIRECTORY, O_NOFOLLOW};
use nix::unistd::{User, geteuid};
use sha2::{Digest, Sha256};
use tracing::{debug, info};

use super::error::ClusterError;

/// The folder for root's clusters whose data folder is closed to the user who runs Postgres.
const OPEN_PLACE: &str = "/var/lib/trainyard-dev";

/// The longest path of a socket's folder: 107 bytes without `/.s.PGSQL.5432`.
const LONGEST_FOLDER: usize = 107 - "/.s.PGSQL.5432".len();

/// The place of one cluster.
#[derive(Debug, Clone)]
pub(super) struct DataFolder {
    pub(super) home: PathBuf,
    /// The user who runs Postgres, if not the daemon's user.
    pub(super) runner: Option<Runner>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl DataFolder {
    /// Finds the place of a data folder's cluster, or creates it.
    pub(super) fn prepare(data: &Path) -> Result<Self, ClusterError> {
        let link = data.join("postgres");
        match link.symlink_metadata() {
            Err(_) => make_home(&link)?,
            Ok(found) if found.is_dir() || is_open_place(&link) => {}
            Ok(_) => {
                let problem = "it is neither a folder nor the link that a daemon made";
                return Err(ClusterError::file(&link)(std::io::Error::other(problem)));
            }
        }
        let home = link.canonicalize().map_err(ClusterError::file(&link))?;
        let owner = home.metadata().map_err(ClusterError::file(&home))?;
        let user = geteuid();
        let runner = if user.is_root() {
            let runner = if owner.uid() == 0 {
                // A start that was killed before it changed the owner leaves an empty folder. A folder with content
                // is not given to another user.
                let mut content = std::fs::read_dir(&home).map_err(ClusterError::file(&home))?;
                if content.next().is_some() {
                    let problem = "it belongs to root, who does not run Postgres, and is not empty";
                    return Err(ClusterError::file(&home)(std::io::Error::other(problem)));
                }
                let runner = Runner::choose()?;
                runner.own(&home)?;
                runner
            } else {
                Runner::owning(owner.uid(), owner.gid())
            };
            if let Some(closed) = runner.closed_on_the_way_to(&home) {
                return Err(ClusterError::Closed {
                    user: runner.name,
                    closed,
                });
            }
            Some(runner)
        } else if owner.uid() == user.as_raw() {
            None
        } else {
            return Err(ClusterError::NotOurs {
                folder: home,
                owner: owner.uid(),
                user: user.as_raw(),
            });
        };
        Ok(Self { home, runner })
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.home.join("cluster")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.home.join("postgres.log")
    }

    /// The folder of the socket, created if it is missing.
    pub(super) fn sockets(&self) -> Result<PathBuf, ClusterError> {
        let owner = self
            .runner
            .as_ref()
            .map_or_else(|| geteuid().as_raw(), |runner| runner.uid);
        let path = self.sockets_path(owner);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => self.give_away(&path)?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                // In /tmp, another user may have created it first.
                let found = path.symlink_metadata().map_err(ClusterError::file(&path))?;
                if !found.is_dir() || found.uid() != owner || found.mode() & 0o077 != 0 {
                    return Err(ClusterError::UnsafeSockets { path, owner });
                }
            }
            Err(error) => return Err(ClusterError::file(path)(error)),
        }
        Ok(path)
    }

    /// Removes the folder of the socket if it is outside of the cluster's folder. Call it when Postgres is stopped; a
    /// folder that is not empty stays.
    pub(super) fn remove_sockets(&self, sockets: &Path) {
        if !sockets.starts_with(&self.home)
            && let Err(error) = std::fs::remove_dir(sockets)
        {
            debug!(path = %sockets.display(), error = %error, "could not remove the socket's folder");
        }
    }

    fn sockets_path(&self, owner: u32) -> PathBuf {
        let own = self.home.join("socket");
        if fits(&own) {
            return own;
        }
        let hash = hex::encode(&Sha256::digest(self.home.as_os_str().as_bytes())[..6]);
        let name = format!("trainyard-{owner}-{hash}");
        // Root's runtime folder is closed to the user who runs Postgres.
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        runtime
            .filter(|folder| self.runner.is_none() && folder.is_absolute() && folder.is_dir())
            .map(|folder| folder.join(&name))
            .filter(|folder| fits(folder))
            .unwrap_or_else(|| Path::new("/tmp").join(&name))
    }

    /// Changes the owner of root's files to the user who runs Postgres.
    fn give_away(&self, path: &Path) -> Result<(), ClusterError> {
        match &self.runner {
            None => Ok(()),
            Some(runner) => runner.own(path),
        }
    }
}

impl Runner {
    /// The user `postgres`, else `nobody`.
    fn choose() -> Result<Self, ClusterError> {
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten())
            .filter(|user| !user.uid.is_root())
            .map(|user| Self {
                name: user.name,
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
            })
            .ok_or(ClusterError::NoUser)
    }

    fn owning(uid: u32, gid: u32) -> Self {
        let user = User::from_uid(uid.into()).ok().flatten();
        Self {
            name: user.map_or_else(|| uid.to_string(), |user| user.name),
            uid,
            gid,
        }
    }

    fn own(&self, path: &Path) -> Result<(), ClusterError> {
        // The folder itself: a link in its place is not followed.
        OpenOptions::new()
            .read(true)
            .custom_flags(O_DIRECTORY | O_NOFOLLOW)
            .open(path)
            .and_then(|folder| fchown(folder, Some(self.uid), Some(self.gid)))
            .map_err(ClusterError::file(path))
    }

    /// The first folder above `path`, or `path` itself, that this user cannot traverse.
    fn closed_on_the_way_to(&self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        folders
            .into_iter()
            .find(|folder| !self.may_enter(folder))
            .map(Path::to_owned)
    }

    fn may_enter(&self, folder: &Path) -> bool {
        folder.metadata().is_ok_and(|found| {
            let bit = if found.uid() == self.uid {
                0o100
            } else if found.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            found.mode() & bit != 0
        })
    }
}

/// Whether this is the link that root makes from a data folder to the cluster in the open place.
pub(crate) fn is_open_place(link: &Path) -> bool {
    std::fs::read_link(link).is_ok_and(|home| {
        let is_folder = home.symlink_metadata().is_ok_and(|found| found.is_dir());
        geteuid().is_root() && home.parent() == Some(Path::new(OPEN_PLACE)) && is_folder
    })
}

/// Creates a cluster's folder, at `link` or in the open place that `link` then points to.
fn make_home(link: &Path) -> Result<(), ClusterError> {
    let make = |path: &Path| {
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(ClusterError::file(path))
    };
    if !geteuid().is_root() {
        return make(link);
    }
    let runner = Runner::choose()?;
    let data = link.parent().unwrap_or(link);
    if runner.closed_on_the_way_to(data).is_none() {
        make(link)?;
        return runner.own(link);
    }
    let open = Path::new(OPEN_PLACE);
    DirBuilder::new()
        .mode(0o755)
        .recursive(true)
        .create(open)
        .map_err(ClusterError::file(open))?;
    if let Some(closed) = runner.closed_on_the_way_to(open) {
        return Err(ClusterError::Closed {
            user: runner.name,
            closed,
        });
    }
    // Not named after the data folder: a later data folder with the same path is a different one.
    let home = open.join(format!("postgres-{}", uuid::Uuid::now_v7().simple()));
    make(&home)?;
    runner.own(&home)?;
    symlink(&home, link).map_err(ClusterError::file(link))?;
    info!(
        path = %home.display(),
        "user {} cannot reach the data folder; the database is in {}", runner.name, home.display()
    );
    Ok(())
}

fn fits(folder: &Path) -> bool {
    folder.as_os_str().len() <= LONGEST_FOLDER
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn place(home: &str) -> DataFolder {
        let runner = Runner {
            name: "postgres".to_owned(),
            uid: 101,
            gid: 104,
        };
        DataFolder {
            home: home.into(),
            runner: Some(runner),
        }
    }

    #[test]
    fn a_socket_is_in_the_data_folder_where_its_path_has_room() {
        let home = place("/srv/ty/postgres");
        assert_eq!(home.sockets_path(101), Path::new("/srv/ty/postgres/socket"));
    }

    #[test]
    fn a_long_data_folder_has_its_socket_under_a_short_name_of_its_own() {
        let long = |tail: &str| place(&format!("/{}/{tail}", "x".repeat(100))).sockets_path(101);
        assert!(
            long("a").starts_with("/tmp/") && fits(&long("a")),
            "{:?}",
            long("a")
        );
        assert_eq!(long("a"), long("a"));
        assert_ne!(long("a"), long("b"));
    }

    #[test]
    fn the_folder_that_is_in_the_way_is_found() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("closed/inner");
        std::fs::create_dir_all(&inner).unwrap();
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        open(outer.path(), 0o755);
        let stranger = Runner {
            name: "x".to_owned(),
            uid: 4_000_001,
            gid: 4_000_001,
        };
        open(&outer.path().join("closed"), 0o750);
        let found = stranger.closed_on_the_way_to(&inner);
        assert_eq!(found, Some(outer.path().join("closed")));
        open(&outer.path().join("closed"), 0o711);
        assert_eq!(stranger.closed_on_the_way_to(&inner), None);
    }
}
