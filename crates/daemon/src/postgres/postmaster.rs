//! Whether a cluster is running, read from `postmaster.pid`.
//!
//! The file outlives a Postgres that was killed. Its process id may by then belong to another program, or to a zombie
//! (common in containers whose first process is not an init). Postgres trusts such a file and refuses to start, so
//! this module detects files that are provably stale. Postgres itself then checks, by its shared memory, that no
//! process of the old server still uses the files.

use std::io;
use std::path::{Path, PathBuf};

/// The state of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It does not run.
    Stopped,
    /// The file exists, but the process that it names is another program, or dead.
    Stale,
    /// It does not accept connections yet.
    Starting,
    /// It accepts connections.
    Ready {
        /// The folder of its socket.
        sockets: PathBuf,
    },
    /// It no longer accepts connections.
    Stopping,
}

pub(super) fn inspect(cluster: &Path) -> io::Result<State> {
    let text = match std::fs::read_to_string(pid_file(cluster)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Stopped),
        text => text?,
    };
    Ok(judge(&text, |pid| is_postgres_of(pid, cluster)))
}

/// The file in which Postgres records its process and state.
pub(super) fn pid_file(cluster: &Path) -> PathBuf {
    cluster.join("postmaster.pid")
}

/// Lines: process, folder, start, port, folder of the socket, address, shared memory, status.
fn judge(text: &str, is_ours: impl FnOnce(u32) -> Process) -> State {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // Without a process id, the file is just being written; the next poll finds it complete.
    let Some(pid) = lines.first().and_then(|line| line.parse().ok()) else {
        return State::Starting;
    };
    match is_ours(pid) {
        Process::Gone => State::Stopped,
        Process::Other => State::Stale,
        Process::Postgres => match (lines.get(7), lines.get(4)) {
            (Some(&"ready"), Some(sockets)) => State::Ready {
                sockets: sockets.into(),
            },
            (Some(&"stopping"), _) => State::Stopping,
            _ => State::Starting,
        },
    }
}

enum Process {
    Postgres,
    /// No such process. Postgres detects that by itself, and cleans its file up more carefully than we could.
    Gone,
    Other,
}

fn is_postgres_of(pid: u32, cluster: &Path) -> Process {
    let about = PathBuf::from(format!("/proc/{pid}"));
    // `15 (postgres) S ...`
    let Ok(stat) = std::fs::read_to_string(about.join("stat")) else {
        return Process::Gone;
    };
    let name_and_state = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(") "));
    let is_alive = name_and_state.is_some_and(|(name, rest)| {
        matches!(name, "postgres" | "postmaster") && !rest.starts_with(['Z', 'X'])
    });
    // The working directory of Postgres is its cluster. If that is not readable, the name of the process decides.
    let works_elsewhere = about
        .join("cwd")
        .read_link()
        .is_ok_and(|folder| folder != cluster);
    if is_alive && !works_elsewhere {
        Process::Postgres
    } else {
        Process::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str =
        "4711\n/d/cluster\n1763913600\n5432\n/d/socket\n\n  5432001 98304\nready   \n";

    #[test]
    fn a_running_cluster_says_where_its_socket_is() {
        let sockets = PathBuf::from("/d/socket");
        assert_eq!(judge(FILE, |_| Process::Postgres), State::Ready { sockets });
        assert_eq!(
            judge(&FILE.replace("ready   ", "starting"), |_| Process::Postgres),
            State::Starting
        );
        assert_eq!(
            judge(&FILE.replace("ready   ", "stopping"), |_| Process::Postgres),
            State::Stopping
        );
    }

    #[test]
    fn a_file_that_is_half_written_is_a_start() {
        for text in ["", "4711\n/d/cluster\n"] {
            assert_eq!(
                judge(text, |_| Process::Postgres),
                State::Starting,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_process_id_that_another_program_has_by_now_is_stale() {
        let own = std::process::id();
        let text = FILE.replace("4711", &own.to_string());
        let state = judge(&text, |pid| is_postgres_of(pid, Path::new("/d/cluster")));
        assert_eq!(state, State::Stale);
    }

    #[test]
    fn a_zombie_process_is_stale() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        let text = FILE.replace("4711", &child.id().to_string());
        let state = judge(&text, |pid| is_postgres_of(pid, Path::new("/d/cluster")));
        assert_eq!(state, State::Stale);
        child.wait().unwrap();
    }
}
