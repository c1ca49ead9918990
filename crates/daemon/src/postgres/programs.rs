//! Runs `initdb` and `pg_ctl` as the user who runs Postgres.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::binaries::Binaries;
use super::data_folder::DataFolder;
use super::error::ClusterError;

/// How much output of a program goes into a message.
const LINES: usize = 12;

/// The programs for the cluster of one place.
#[derive(Debug)]
pub(super) struct Programs<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) place: &'a DataFolder,
}

impl Programs<'_> {
    /// Creates a cluster in `folder`, a name within the place.
    ///
    /// Postgres trusts every client of the socket: the socket's folder is closed to other users.
    pub(super) fn initdb(&self, folder: &str) -> Result<(), ClusterError> {
        let arguments = [
            "--pgdata",
            folder,
            "--username",
            super::cluster::USER,
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
            "--no-instructions",
        ];
        self.call("initdb", arguments).map(|_| ())
    }

    /// Starts Postgres in a session of its own, and waits until it accepts connections.
    pub(super) fn start(&self, sockets: &Path, seconds: u64) -> Result<(), ClusterError> {
        // The cluster's path is not an argument: pg_ctl would put it into a shell command.
        let options = super::parameters::command_line(sockets);
        let seconds = seconds.to_string();
        let arguments = [
            "start",
            "--wait",
            "--silent",
            "--timeout",
            &seconds,
            "--log=postgres.log",
            "--options",
            &options,
        ];
        self.call("pg_ctl", arguments).map(|_| ())
    }

    /// Ends all connections and stops Postgres.
    pub(super) fn stop(&self, seconds: u64) -> Result<(), ClusterError> {
        self.stop_in("--mode=fast", seconds)
    }

    /// Stops Postgres as a crash would: its next start recovers.
    pub(super) fn halt(&self, seconds: u64) -> Result<(), ClusterError> {
        self.stop_in("--mode=immediate", seconds)
    }

    fn stop_in(&self, mode: &str, seconds: u64) -> Result<(), ClusterError> {
        let seconds = seconds.to_string();
        let arguments = ["stop", "--wait", "--silent", mode, "--timeout", &seconds];
        self.call("pg_ctl", arguments).map(|_| ())
    }

    fn call<S: AsRef<OsStr>>(
        &self,
        program: &'static str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Output, ClusterError> {
        let path = self.binaries.folder.join(program);
        let mut command = Command::new(&path);
        command
            .args(arguments)
            .current_dir(&self.place.home)
            .env_clear()
            // Without the daemon's environment: it may contain secrets, and PG* variables would change the behaviour.
            .envs(
                ["PATH", "LD_LIBRARY_PATH"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("PGDATA", self.place.cluster())
            .stdin(Stdio::null())
            // Ctrl-C must reach only the daemon, which then stops Postgres in order.
            .process_group(0);
        if let Some(runner) = &self.place.runner {
            command.uid(runner.uid).gid(runner.gid);
        }
        let output = command.output().map_err(|source| ClusterError::Spawn {
            program: path,
            source,
        })?;
        if output.status.success() {
            return Ok(output);
        }
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        Err(ClusterError::Program {
            program,
            said: last_lines(&said),
        })
    }
}

/// The end of Postgres' log; empty if it cannot be read.
pub(super) fn end_of_log(log: &Path) -> String {
    const BYTES: i64 = 4096;
    let read = || -> std::io::Result<String> {
        // The user who runs Postgres could have put a link here, and the daemon may be root.
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(log)?;
        let back = i64::try_from(file.metadata()?.len())
            .unwrap_or(BYTES)
            .min(BYTES);
        file.seek(SeekFrom::End(-back))?;
        let mut bytes = Vec::new();
        file.take(BYTES.unsigned_abs()).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    last_lines(&read().unwrap_or_default())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
