//! The session that a wrapper leads: finding it again, and signalling all in it.
//!
//! A process id alone proves nothing, since ids are used again. Together with the time of its start,
//! in clock ticks since boot, it names one process.

use std::fs;

pub(super) use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// The leader of a session, as its line of `/proc/PID/stat` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    pid: u32,
    started: u64,
}

impl Session {
    /// Reads a line of `/proc/PID/stat`.
    pub(super) fn parse(stat: &str) -> Option<Self> {
        let (session, _) = read(stat)?;
        Some(session)
    }

    /// Whether this very process is there and has not ended.
    pub(super) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|(found, state)| found == self && !is_over(state))
    }

    /// Whether the wrapper has come so far that its program notices signals: there is a child of it
    /// that is no longer a copy of it. Where the kernel does not tell, it is taken for granted.
    pub(super) fn has_program(self) -> bool {
        let pid = self.pid;
        let Ok(children) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) else {
            return true;
        };
        let command = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let own = command(&pid.to_string());
        children
            .split_whitespace()
            .map(command)
            .any(|other| !other.is_empty() && other != own)
    }

    /// Sends a signal to the group that came with the session: all that did not leave it.
    pub(super) fn signal(self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid) {
            // It may have ended on its own: that is as good.
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }
}

/// Whether a process of this id is there and has not ended.
pub(super) fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(_, state)| !is_over(state))
}

/// The id of this boot of the host; ids and ticks of another one mean nothing.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

fn stat(pid: u32) -> Option<(Session, char)> {
    read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Ended and not yet reaped.
fn is_over(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// `PID (NAME) STATE …`, where the name may hold anything; the start is the 22nd field.
fn read(stat: &str) -> Option<(Session, char)> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    let pid = pid.parse().ok()?;
    Some((Session { pid, started }, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 1 1";
        let (session, state) = read(stat).unwrap();
        assert_eq!((session.pid, session.started, state), (42, 987_654, 'S'));
    }

    #[test]
    fn a_process_id_used_again_is_another_process() {
        let me = std::process::id();
        let (session, _) = stat(me).unwrap();
        assert!(session.is_alive());
        let earlier = Session {
            started: session.started - 1,
            ..session
        };
        assert!(!earlier.is_alive());
    }
}
