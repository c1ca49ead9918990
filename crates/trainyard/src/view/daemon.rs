//! Daemons on one database.

use trainyard_api::{DaemonState, DaemonSummary};

use crate::view::quantity::moment;
use crate::view::table::{Rows, cell};

/// The list of daemons.
pub(crate) fn list(daemons: &[DaemonSummary], width: Option<u16>) -> String {
    let heads = [
        "DAEMON",
        "STATE",
        "HOLDS",
        "LEADS",
        "LEASE UNTIL (UTC)",
        "STARTED (UTC)",
        "VERSION",
        "PID",
    ];
    let mut rows = Rows::new(&heads, width);
    for daemon in daemons {
        let leads: Vec<&str> = daemon.leads.iter().map(|lead| lead.role.as_str()).collect();
        rows.add(vec![
            cell(&daemon.host),
            cell(word(daemon.state)),
            cell(daemon.attempts.to_string()),
            cell(if leads.is_empty() {
                "-".to_owned()
            } else {
                leads.join(" ")
            }),
            cell(moment(daemon.lease_until)),
            cell(moment(daemon.started_at)),
            cell(&daemon.version),
            cell(daemon.pid.to_string()),
        ]);
    }
    rows.text("no daemons")
}

fn word(state: DaemonState) -> &'static str {
    match state {
        DaemonState::Alive => "alive",
        DaemonState::Silent => "silent",
        DaemonState::Stopped => "stopped",
    }
}
