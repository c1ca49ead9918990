//! A cluster of a test's own.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::{Database, Script};

/// A running cluster; stopped when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    script: Mutex<Script>,
    database: Database,
    settings: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Makes and starts a cluster in `folder`, reached by a Unix socket.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start(folder: &Path) -> Self {
        Self::start_with(folder, Vec::new())
    }

    /// As [`Cluster::start`], with settings of Postgres by name.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    #[must_use]
    pub fn start_with(folder: &Path, settings: Vec<(&'static str, String)>) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let cluster = Self {
            script: Mutex::new(Script::start(Some(folder))),
            database: Database {
                folder: folder.to_owned(),
                name: "trainyard".to_owned(),
            },
            settings,
        };
        cluster.control("start");
        cluster
    }

    /// Its database.
    #[must_use]
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Restarts it, `fast` or `immediate`.
    ///
    /// # Panics
    /// When it does not come up again.
    pub fn restart(&self, mode: &str) {
        self.control(&format!("-m {mode} restart"));
    }

    /// Starts it after it was stopped, or killed.
    ///
    /// # Errors
    /// It does not come up: processes of a killed one may still be ending.
    pub fn try_up(&self) -> Result<(), String> {
        self.try_control("start")
    }

    /// Stops it, `fast` or `immediate`.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn down(&self, mode: &str) {
        self.control(&format!("-m {mode} stop"));
    }

    /// The process id of its postmaster; none where it is down.
    #[must_use]
    pub fn postmaster(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// The folder of its Unix socket.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.database.folder
    }

    /// The folder of its data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    /// Changes a setting, from the next start on.
    pub fn set(&mut self, name: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != name);
        self.settings.push((name, value.to_owned()));
    }

    /// All that it printed, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    fn control(&self, arguments: &str) {
        self.try_control(arguments)
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    fn try_control(&self, arguments: &str) -> Result<(), String> {
        let mut options = format!("-k {} -c listen_addresses=''", self.folder().display());
        for (name, value) in &self.settings {
            // The last one counts.
            options.push_str(&format!(" -c {name}='{value}'"));
        }
        let mut script = self.script.lock().unwrap();
        let mut input = script.input.as_ref().unwrap();
        writeln!(input, "-o \"{options}\" {arguments}").unwrap();
        let mut answer = String::new();
        script.output.read_line(&mut answer).unwrap();
        if answer.trim() == "ok" {
            return Ok(());
        }
        let said = std::fs::read_to_string(self.folder().join("control")).unwrap_or_default();
        Err(format!("pg_ctl {arguments}: {said}"))
    }
}
