//! The Postgres of all tests: one that they share, each with a database of its own, and clusters of a test's own, to be
//! restarted, killed and filled up.
//!
//! `cluster.sh` starts both, and stops them when its standard input is closed: they end with the test, however that
//! ends.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics with the place and the error"
)]

mod private;
mod shared;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub use crate::private::Cluster;
pub use crate::shared::{empty_database, migrated_database, named_database};

/// A running `cluster.sh`.
#[derive(Debug)]
struct Script {
    child: Child,
    folder: PathBuf,
    /// Open for as long as Postgres is to be there.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Starts it for `folder`, or for many tests.
    fn start(folder: Option<&Path>) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/cluster.sh"))
            .args(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let input = child.stdin.take();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "Postgres did not start: `make setup` installs it"
        );
        Self {
            child,
            folder: line.trim().into(),
            input,
            output,
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// One database of a running Postgres.
#[derive(Debug, Clone)]
pub struct Database {
    /// Of the Postgres: its socket and programs.
    folder: PathBuf,
    name: String,
}

impl Database {
    #[must_use]
    pub fn url(&self) -> String {
        let folder = self.folder.display().to_string().replace('/', "%2F");
        format!("postgres://trainyard@{folder}/{}", self.name)
    }

    /// Runs SQL and returns what it printed, unaligned.
    ///
    /// # Panics
    /// When the SQL fails.
    #[must_use]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql)
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The same, of a database that may refuse it.
    ///
    /// # Errors
    /// What psql says.
    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.call("psql", &["--no-psqlrc", "-At", "-c", sql])
    }

    /// All that it holds, as text.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn dump(&self) -> String {
        self.call("pg_dump", &["--inserts"])
            .unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// All rows of all tables but `except`: two texts that are equal mean that nothing was changed.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn everything(&self, except: &[&str]) -> String {
        self.sql(&format!(
            "select table_name || query_to_xml(format('select t::text from %I t order by 1', table_name), true, true, '')
             from information_schema.tables
             where table_schema = 'public' and table_name <> all ('{{{}}}') order by 1",
            except.join(",")
        ))
    }

    fn call(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.folder.join("bin").join(program))
            .arg("--host")
            .arg(&self.folder)
            .args(["--username", "trainyard", "--dbname", &self.name])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            let reported = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program} {arguments:?}: {reported}"))
        }
    }
}
