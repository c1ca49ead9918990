//! Runs and their stages.

use owo_colors::OwoColorize;
use trainyard_api::{Attempt, Run, RunDetail, Stage, Timestamp};
use trainyard_core::measure::in_units;

use trainyard_core::text::short_commit;

use crate::view::detail::Detail;
use crate::view::screen::Screen;
use crate::view::state::Coloured as _;
use crate::view::table::{Rows, cell, lines, moment, state};
use crate::view::{dag, log, plain};
use trainyard_present::quantity::{between, duration, number};
use trainyard_present::state::Mood;
use trainyard_present::zone::Zone;

/// The list of runs, the newest first.
pub(crate) fn list(runs: &[Run], now: Timestamp, screen: Screen) -> String {
    let heads = [
        "RUN", "DAG", "STATE", "STAGES", "TIME", "MADE", "COMMIT", "CAUSE",
    ];
    let mut rows = Rows::new(&heads, screen)
        .right(0)
        .right(3)
        .right(4)
        .moments(5)
        .names(&[1])
        .droppable(&[6, 3, 4]);
    for run in runs {
        rows.add(vec![
            cell(run.id.to_string()),
            cell(&run.dag),
            state(&run.state),
            match run.state.as_str() {
                // None of its stages ran, though all of them have ended.
                "skipped" => cell("-"),
                _ => cell(format!("{}/{}", run.stages_finished, run.stages_total)),
            },
            cell(time(run.started_at, run.finished_at, now)),
            moment(run.created_at, screen),
            cell(short_commit(&run.commit)),
            cell(&run.cause.summary),
        ]);
    }
    rows.text("no runs")
}

/// One run in full.
pub(crate) fn show(run: &RunDetail, now: Timestamp, screen: Screen) -> String {
    let summary = &run.summary;
    let mut detail = Detail::default();
    detail.line_if(
        "reason",
        summary.reason.as_ref().map(|reason| &reason.message),
    );
    detail.line("cause", &summary.cause.summary);
    detail.line(
        "commit",
        format!(
            "{}  {}",
            short_commit(&summary.commit),
            summary.commit_summary
        ),
    );
    detail.line_if("branch", summary.branch.as_deref());
    detail.line_if("group", run.group.as_deref());
    detail.line("made", screen.zone.moment_in_full(summary.created_at));
    if summary.logical_time != summary.created_at {
        detail.line("for", screen.zone.moment_in_full(summary.logical_time));
    }
    if !run.params.is_empty() {
        let params = run
            .params
            .iter()
            .map(|(name, value)| format!("{name}={}", dag::value(value)));
        detail.line("params", params.collect::<Vec<_>>().join("  "));
    }
    let mut text = detail.text(&title(summary, now));
    let heads = ["STAGE", "STATE", "TIME", "AFTER", "NOTE"];
    let mut rows = Rows::new(&heads, screen)
        .right(2)
        .names(&[3, 0])
        .droppable(&[3]);
    for stage in &run.stages {
        rows.add(vec![
            cell(&stage.name),
            state(&stage.state),
            cell(time(stage.started_at, stage.finished_at, now)),
            cell(stage.needs.join(", ")),
            lines(&notes(stage)),
        ]);
    }
    text.push_str(&format!("\n{}", rows.text("no stages")));
    text
}

/// `run 42 of model/churn: failed after 1m 12s`.
pub(crate) fn title(run: &Run, now: Timestamp) -> String {
    let what = format!("run {} of {}", run.id, plain(&run.dag));
    let state = plain(&run.state);
    let mut text = format!("{}: {}", what.bold(), state.style(Mood::of(&state).style()));
    match (run.started_at, run.finished_at) {
        (Some(start), Some(end)) => {
            text.push_str(&format!(" after {}", duration(between(start, end))));
        }
        (Some(start), None) => {
            text.push_str(&format!(" for {}", duration(between(start, now))));
        }
        (None, _) => {}
    }
    if run.cancelling && run.finished_at.is_none() {
        text.push_str(", being cancelled");
    }
    text
}

/// The note of a stage: the reason for its state, its metrics, its outputs, and its attempts if it had several.
fn notes(stage: &Stage) -> Vec<String> {
    let mut notes = Vec::new();
    match (&stage.reason, stage.reused_from) {
        (Some(reason), _) => notes.push(reason.message.clone()),
        (None, Some(run)) => notes.push(format!("reused from run {run}")),
        (None, None) if stage.finished_at.is_none() => notes.push(stage.why.clone()),
        (None, None) => {}
    }
    if !stage.metrics.is_empty() {
        let metrics = stage.metrics.iter();
        let metrics = metrics.map(|(name, value)| format!("{name} {}", number(*value)));
        notes.push(metrics.collect::<Vec<_>>().join(", "));
    }
    if !stage.artifacts.is_empty() {
        let artifacts = stage.artifacts.iter();
        let kept = artifacts
            .map(|artifact| format!("{} ({})", artifact.output, in_units(artifact.size_bytes)));
        notes.push(format!("kept {}", kept.collect::<Vec<_>>().join(", ")));
    }
    if let Some(last) = stage.attempts.last() {
        notes.extend(last.notes.iter().cloned());
        notes.extend(log::missing(
            last.log_dropped_bytes,
            last.log_dropped_lines,
            last.log_removed_at,
        ));
    }
    if stage.attempts.len() > 1 {
        notes.extend(stage.attempts.iter().map(attempt));
    }
    notes
}

fn attempt(attempt: &Attempt) -> String {
    let mut text = format!("attempt {}: {}", attempt.number, attempt.state);
    if let (Some(start), Some(end)) = (attempt.started_at, attempt.finished_at) {
        text.push_str(&format!(" after {}", duration(between(start, end))));
    }
    if let Some(reason) = &attempt.reason {
        text.push_str(&format!(": {}", reason.message));
    }
    text
}

fn time(start: Option<Timestamp>, end: Option<Timestamp>, now: Timestamp) -> String {
    start.map_or_else(String::new, |start| {
        duration(between(start, end.unwrap_or(now)))
    })
}

/// The state of each stage, explained: one line each.
pub(crate) fn why(run: &RunDetail) -> String {
    let width = run.stages.iter().map(|stage| stage.name.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for stage in &run.stages {
        let name = format!("{:width$}", plain(&stage.name));
        let style = Mood::of(&stage.state).style();
        text.push_str(&format!("{}  {}\n", name.style(style), plain(&stage.why)));
    }
    text
}

/// The changes since `before`, one line each, for outputs that cannot be redrawn.
pub(crate) fn changes(
    before: Option<&RunDetail>,
    run: &RunDetail,
    now: Timestamp,
    zone: Zone,
) -> String {
    let mut text = String::new();
    for stage in &run.stages {
        let old = before
            .into_iter()
            .flat_map(|run| &run.stages)
            .find(|old| old.name == stage.name);
        let is_news = match old {
            Some(old) => old.state != stage.state || old.attempts.len() != stage.attempts.len(),
            None => stage.state != "waiting",
        };
        if is_news {
            text.push_str(&change(stage, now, zone));
        }
    }
    let is_news = before.is_none_or(|before| before.summary.state != run.summary.state);
    if is_news {
        text.push_str(&title(&run.summary, now));
        // No stage's line says it.
        if let (None, Some(reason)) = (run.summary.started_at, &run.summary.reason) {
            text.push_str(&format!(": {}", plain(&reason.message)));
        }
        text.push('\n');
    }
    text
}

fn change(stage: &Stage, now: Timestamp, zone: Zone) -> String {
    let last = stage.attempts.last();
    let started = last.and_then(|attempt| attempt.started_at);
    let at = match stage.state.as_str() {
        "running" => started,
        _ => stage.finished_at,
    };
    let at = zone.time_of_day(at.unwrap_or(now));
    let state = plain(&stage.state);
    let name = plain(&stage.name);
    let state = state.style(Mood::of(&state).style());
    let mut text = format!("{}  {name}: {state}", at.bright_black());
    if stage.attempts.len() > 1 && stage.finished_at.is_none() {
        text.push_str(&format!(", attempt {}", stage.attempts.len()));
    }
    if let (Some(start), Some(end)) = (started, stage.finished_at) {
        text.push_str(&format!(" after {}", duration(between(start, end))));
    }
    if let Some(reason) = &stage.reason {
        text.push_str(&format!(": {}", plain(&reason.message)));
    }
    text.push('\n');
    text
}
