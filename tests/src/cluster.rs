//! A Postgres cluster of a test's own, that the test may restart under the daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::Place;

/// A running cluster; stopped when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    binaries: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
}

impl Cluster {
    /// Makes and starts a cluster below `place`, reached by a Unix socket.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        let cluster = Self {
            binaries: binaries(),
            data: place.join("cluster"),
            sockets: place.join("sockets"),
        };
        for folder in [&cluster.data, &cluster.sockets] {
            std::fs::create_dir_all(folder).unwrap();
            chown(folder);
        }
        let data = cluster.data.display().to_string();
        cluster.call(
            "initdb",
            &["-D", &data, "-U", "trainyard", "-A", "trust", "-E", "UTF8"],
        );
        cluster.control("start", &[]);
        cluster.call(
            "createdb",
            &[
                "-h",
                &cluster.sockets.display().to_string(),
                "-U",
                "trainyard",
                "trainyard",
            ],
        );
        cluster
    }

    /// The URL of its database `name`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let sockets = self.sockets.display().to_string().replace('/', "%2F");
        format!("postgres://trainyard@{sockets}/{name}")
    }

    /// Restarts it, `fast` or `immediate`.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn restart(&self, mode: &str) {
        self.control("restart", &["-m", mode]);
    }

    /// Runs SQL and returns what it printed, unaligned.
    ///
    /// # Panics
    /// When the SQL fails.
    #[must_use]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let sockets = self.sockets.display().to_string();
        self.call(
            "psql",
            &[
                "-h",
                &sockets,
                "-U",
                "trainyard",
                "-d",
                database,
                "-At",
                "-c",
                sql,
            ],
        )
    }

    /// All that a database holds, as text.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn dump(&self, database: &str) -> String {
        let sockets = self.sockets.display().to_string();
        self.call(
            "pg_dump",
            &["-h", &sockets, "-U", "trainyard", "--inserts", database],
        )
    }

    fn control(&self, what: &str, more: &[&str]) {
        let data = self.data.display().to_string();
        let log = self.data.join("log").display().to_string();
        let options = format!("-k {} -c listen_addresses=''", self.sockets.display());
        let mut arguments = vec!["-D", &data, "-w", "-l", &log, "-o", &options];
        arguments.extend_from_slice(more);
        arguments.push(what);
        self.call("pg_ctl", &arguments);
    }

    fn call(&self, program: &str, arguments: &[&str]) -> String {
        let binary = self.binaries.join(program);
        let output = if is_root() {
            // Postgres refuses to run as root.
            Command::new("setpriv")
                .args([
                    "--reuid",
                    "postgres",
                    "--regid",
                    "postgres",
                    "--clear-groups",
                    "--",
                ])
                .arg(&binary)
                .args(arguments)
                .current_dir("/")
                .output()
        } else {
            Command::new(&binary).args(arguments).output()
        }
        .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.control("stop", &["-m", "immediate"]);
        }));
    }
}

fn binaries() -> PathBuf {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries
                .flatten()
                .map(|entry| entry.path().join("bin"))
                .collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions
        .pop()
        .expect("Postgres' server binaries; `make setup` installs them")
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

fn chown(folder: &Path) {
    if is_root() {
        let done = Command::new("chown")
            .arg("postgres:postgres")
            .arg(folder)
            .status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "chown {}",
            folder.display()
        );
    }
}
