//! The daemon that commands use, and its state.

use owo_colors::OwoColorize;
use trainyard_api::ReadyState;

use crate::commands::status::Report;
use crate::view::detail::Detail;
use crate::view::plain;
use crate::view::state::Coloured as _;
use trainyard_present::state::Mood;

/// One daemon, as the command line sees it.
pub(crate) fn show(report: &Report) -> String {
    let (word, mood) = match report.readiness.state {
        ReadyState::Ready => ("ready", Mood::Good),
        ReadyState::Degraded => ("degraded", Mood::Off),
        ReadyState::Unready => ("unready", Mood::Bad),
    };
    let mut detail = Detail::default();
    detail.line("asked because", &report.because);
    for reason in &report.readiness.reasons {
        detail.line("problem", reason);
    }
    if let Some(daemon) = &report.daemon {
        detail.line("version", version(&daemon.version));
        detail.line("slots", daemon.slots.to_string());
        let pools = daemon.pools.iter().flatten();
        let pools: Vec<String> = pools
            .map(|(name, slots)| format!("{name} {slots}"))
            .collect();
        detail.line_if("pools", (!pools.is_empty()).then(|| pools.join(", ")));
        detail.line("daemons", format!("{} alive", report.daemons_alive));
        let runs = format!(
            "{} running, {} queued",
            report.runs_running, report.runs_queued
        );
        detail.line("runs", runs);
    }
    let url = plain(&report.url);
    detail.text(&format!("{}: {}", url.bold(), word.style(mood.style())))
}

fn version(daemon: &str) -> String {
    let own = env!("CARGO_PKG_VERSION");
    if daemon == own {
        daemon.to_owned()
    } else {
        format!("{daemon} (this command is {own})")
    }
}
