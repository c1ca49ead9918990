//! Daemons on one database.

use trainyard_api::{DaemonState, DaemonSummary};

use crate::view::plain;
use crate::view::screen::Screen;
use crate::view::table::{Rows, cell, moment};

/// The list of daemons, and below it their attempts and problems.
pub(crate) fn list(daemons: &[DaemonSummary], screen: Screen) -> String {
    let heads = [
        "DAEMON",
        "STATE",
        "HOLDS",
        "LEASE UNTIL",
        "STARTED",
        "VERSION",
        "PID",
        "LEADS (TERM)",
    ];
    let mut rows = Rows::new(&heads, screen)
        .right(2)
        .moments(3)
        .moments(4)
        .names(&[0])
        .droppable(&[6, 5, 4]);
    for daemon in daemons {
        rows.add(vec![
            cell(&daemon.host),
            cell(word(daemon)),
            cell(daemon.attempts.to_string()),
            moment(daemon.lease_until, screen),
            moment(daemon.started_at, screen),
            cell(&daemon.version),
            cell(daemon.pid.to_string()),
            cell(leads(daemon)),
        ]);
    }
    let mut text = rows.text("no daemons");
    for daemon in daemons {
        if let Some(held) = held(daemon, screen.width) {
            text.push_str(&format!("{held}\n"));
        }
        if is_degraded(daemon) {
            for trouble in &daemon.troubles {
                text.push_str(&format!("{}: {}\n", plain(&daemon.host), plain(trouble)));
            }
        }
    }
    text
}

fn leads(daemon: &DaemonSummary) -> String {
    if daemon.leads.is_empty() {
        return "-".to_owned();
    }
    let leads = daemon
        .leads
        .iter()
        .map(|lead| format!("{} ({})", lead.role, lead.term));
    leads.collect::<Vec<_>>().join(", ")
}

/// The attempts of a daemon, in one line: as many as fit into `width`, at least one, and the number of the others.
fn held(daemon: &DaemonSummary, width: Option<u16>) -> Option<String> {
    let names = daemon
        .holds
        .iter()
        .map(|held| plain(&format!("{}.{}", held.run, held.stage)));
    let names: Vec<String> = names.collect();
    let all = usize::try_from(daemon.attempts).unwrap_or(usize::MAX);
    let line = |shown: usize| {
        let line = format!(
            "{}: holds {}",
            plain(&daemon.host),
            names[..shown].join(", ")
        );
        match all.saturating_sub(shown) {
            0 => line,
            more => format!("{line} and {more} more"),
        }
    };
    let fits = |line: &str| width.is_none_or(|width| line.chars().count() <= usize::from(width));
    let most = (2..=names.len()).rev().map(line).find(|line| fits(line));
    most.or_else(|| (!names.is_empty()).then(|| line(1)))
}

/// Whether to show a daemon's problems: the last report of a daemon that is gone is outdated.
fn is_degraded(daemon: &DaemonSummary) -> bool {
    daemon.state == DaemonState::Alive && !daemon.troubles.is_empty()
}

fn word(daemon: &DaemonSummary) -> &'static str {
    match daemon.state {
        DaemonState::Alive if is_degraded(daemon) => "degraded",
        DaemonState::Alive => "alive",
        DaemonState::Silent => "silent",
        DaemonState::Replaced => "replaced",
        DaemonState::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use trainyard_api::HeldAttempt;

    use super::*;

    fn daemon(attempts: u64, listed: u64) -> DaemonSummary {
        let at = "2026-11-23T15:00:00Z".parse().unwrap();
        let holds = (1..=listed).map(|stage| HeldAttempt {
            run: 42,
            stage: format!("s{stage}"),
            attempt: 1,
            state: "running".to_owned(),
            since: at,
        });
        DaemonSummary {
            id: "01a2".to_owned(),
            host: "here".to_owned(),
            pid: 7,
            version: "0.1.0".to_owned(),
            state: DaemonState::Alive,
            started_at: at,
            lease_until: at,
            stopped_at: None,
            attempts,
            holds: holds.collect(),
            leads: Vec::new(),
            troubles: Vec::new(),
        }
    }

    #[test]
    fn a_terminal_shows_as_many_attempts_as_go_into_a_line() {
        let line = |width| held(&daemon(9, 9), Some(width)).unwrap();
        assert_eq!(line(45), "here: holds 42.s1, 42.s2, 42.s3 and 6 more");
        assert_eq!(line(3), "here: holds 42.s1 and 8 more");
        let whole = held(&daemon(2, 2), Some(24));
        assert_eq!(whole.unwrap(), "here: holds 42.s1, 42.s2");
    }

    #[test]
    fn without_a_terminal_all_listed_attempts_are_shown_and_the_rest_is_counted() {
        let line = held(&daemon(1_003, 3), None).unwrap();
        assert_eq!(line, "here: holds 42.s1, 42.s2, 42.s3 and 1000 more");
    }

    #[test]
    fn an_older_daemon_that_lists_none_shows_only_its_count() {
        assert_eq!(held(&daemon(3, 0), None), None);
    }
}
