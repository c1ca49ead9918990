//! Daemons on one database.

use trainyard_api::{DaemonState, DaemonSummary};

use crate::view::plain;
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
            cell(word(daemon)),
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
    let mut text = rows.text("no daemons");
    for daemon in daemons.iter().filter(|daemon| is_degraded(daemon)) {
        for trouble in &daemon.troubles {
            text.push_str(&format!("{}: {trouble}\n", plain(&daemon.host)));
        }
    }
    text
}

/// What a daemon that is gone said last is of no interest.
fn is_degraded(daemon: &DaemonSummary) -> bool {
    daemon.state == DaemonState::Alive && !daemon.troubles.is_empty()
}

fn word(daemon: &DaemonSummary) -> &'static str {
    match daemon.state {
        DaemonState::Alive if is_degraded(daemon) => "degraded",
        DaemonState::Alive => "alive",
        DaemonState::Silent => "silent",
        DaemonState::Stopped => "stopped",
    }
}
