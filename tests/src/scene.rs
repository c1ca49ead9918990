//! The usual scene: a remote with some files, and a daemon that follows it as `model`.

use std::time::Duration;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::place::Place;
use crate::remote::Remote;

/// How long a run of a few stages may take on a busy machine.
pub const BOUND: Duration = Duration::from_secs(600);

/// A daemon and the remote that it follows.
#[derive(Debug)]
pub struct Scene {
    /// The daemon; dropped before its folder.
    pub daemon: Daemon,
    pub remote: Remote,
    pub place: Place,
}

impl Scene {
    /// A daemon that knows these files of branch `main`.
    #[must_use]
    pub fn with(files: &[(&str, &str)]) -> Self {
        let place = Place::new();
        let remote = Remote::new(&place, "model");
        remote.push("main", files);
        let daemon = Daemon::dev(&place, &[]);
        let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
        let _ = daemon.cli(&["repo", "sync", "model"]).good();
        Self {
            daemon,
            remote,
            place,
        }
    }

    /// A daemon that knows one DAG named `dag`.
    #[must_use]
    pub fn with_dag(text: &str) -> Self {
        Self::with(&[("dags/dag.yaml", text)])
    }

    /// Starts a DAG by hand. Returns the run's number.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn trigger(&self, dag: &str, more: &[&str]) -> i64 {
        let mut arguments = vec!["dag", "trigger", dag];
        arguments.extend_from_slice(more);
        let run = self.daemon.json(&arguments);
        run["id"]
            .as_i64()
            .unwrap_or_else(|| panic!("no run in {run}"))
    }

    /// Starts a DAG by hand and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self, dag: &str, more: &[&str]) -> Value {
        let id = self.trigger(dag, more);
        self.daemon.finished_run(id, BOUND)
    }

    /// The whole log of a run.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn log(&self, run: &Value) -> String {
        self.daemon
            .cli(&["run", "logs", &run["id"].to_string()])
            .good()
            .stdout
    }
}
