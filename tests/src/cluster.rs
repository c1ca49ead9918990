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
    settings: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Makes and starts a cluster below `place`, reached by a Unix socket.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start(place: &Place) -> Self {
        Self::start_with(place, Vec::new())
    }

    /// As [`Cluster::start`], with settings of Postgres by name.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start_with(place: &Place, settings: Vec<(&'static str, String)>) -> Self {
        let cluster = Self {
            binaries: binaries(),
            data: place.join("cluster"),
            sockets: place.join("sockets"),
            settings,
        };
        for folder in [&cluster.data, &cluster.sockets] {
            std::fs::create_dir_all(folder).unwrap();
            chown(folder);
        }
        let data = cluster.data.display().to_string();
        if let Some(shared) = shared() {
            copy(&shared.join("template"), &cluster.data);
            cluster.control("start", &[]);
            return cluster;
        }
        cluster.call(
            "initdb",
            &["-D", &data, "-U", "trainyard", "-A", "trust", "-E", "UTF8"],
        );
        cluster.control("start", &[]);
        let _ = cluster.sql("postgres", "create database trainyard");
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

    /// Starts it after it was stopped, or killed.
    ///
    /// # Errors
    /// It does not come up: processes of a killed one may still be ending.
    pub fn try_up(&self) -> Result<(), String> {
        self.try_control("start", &[])
    }

    /// Stops it, `fast` or `immediate`.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn down(&self, mode: &str) {
        self.control("stop", &["-m", mode]);
    }

    /// The process id of its postmaster; none where it is down.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn sockets(&self) -> &Path {
        &self.sockets
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Changes a setting, from the next start on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    /// All that it printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.data.join("log")).unwrap_or_default()
    }

    /// Runs SQL and returns what it printed, unaligned.
    ///
    /// # Panics
    /// When the SQL fails.
    #[must_use]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The same, of a database that may refuse it.
    ///
    /// # Errors
    /// The log of Postgres.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let sockets = self.sockets.display().to_string();
        self.try_call(
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
        self.try_control(what, more)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    fn try_control(&self, what: &str, more: &[&str]) -> Result<(), String> {
        let data = self.data.display().to_string();
        let log = self.data.join("log").display().to_string();
        let mut options = format!("-k {} -c listen_addresses=''", self.sockets.display());
        for (name, value) in &self.settings {
            // The last one counts.
            options.push_str(&format!(" -c {name}='{value}'"));
        }
        let mut arguments = vec!["-D", &data, "-w", "-l", &log, "-o", &options];
        arguments.extend_from_slice(more);
        arguments.push(what);
        self.try_call("pg_ctl", &arguments).map(drop)
    }

    fn call(&self, program: &str, arguments: &[&str]) -> String {
        self.try_call(program, arguments)
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn try_call(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
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
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let reported = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} {arguments:?}: {reported}"))
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.control("stop", &["-m", "immediate"]);
        }));
    }
}

/// The folder of the Postgres that `deploy/test.sh` starts for all tests: its socket and the template of a cluster.
fn shared() -> Option<PathBuf> {
    std::env::var_os("TRAINYARD_TEST_POSTGRES").map(PathBuf::from)
}

/// The URL of a place's database in the Postgres that all tests share, made when it is first asked for.
///
/// # Panics
/// When it cannot be made.
pub(crate) fn shared_database(place: &Place) -> Option<String> {
    let sockets = shared()?.display().to_string();
    let name = place.path().file_name().unwrap().to_string_lossy();
    let created = Command::new(binaries().join("psql"))
        .args(["-h", &sockets, "-U", "trainyard", "-d", "postgres", "-qc"])
        .arg(format!("create database \"{name}\""))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&created.stderr);
    let is_there = created.status.success() || said.contains("already exists");
    assert!(is_there, "{said}");
    Some(format!(
        "postgres://trainyard@{}/{name}",
        sockets.replace('/', "%2F")
    ))
}

/// Copies a folder's content, with its owners.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(
        done.is_ok_and(|status| status.success()),
        "cp {} {}",
        from.display(),
        to.display()
    );
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
