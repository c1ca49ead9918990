//! DAGs and their ticks.

use owo_colors::OwoColorize;
use trainyard_api::{Dag, DagDetail, Param, Tick};

use crate::view::detail::Detail;
use crate::view::graph::{self, Node};
use crate::view::quantity::{commit, moment, moment_or_dash};
use crate::view::table::{Rows, bad, cell, state};
use crate::view::{plain, repo};

/// The list of DAGs.
pub(crate) fn list(dags: &[Dag], width: Option<u16>) -> String {
    let heads = [
        "DAG",
        "LAST RUN",
        "STATE",
        "ACTIVE",
        "NEXT TICK (UTC)",
        "COMMIT",
        "NOTE",
    ];
    let mut rows = Rows::new(&heads, width).right(1).right(3);
    for dag in dags {
        let (last, last_state) = match &dag.last_run {
            Some(run) => (cell(run.id.to_string()), state(&run.state)),
            None => (cell("-"), cell("-")),
        };
        rows.add(vec![
            cell(&dag.dag),
            last,
            last_state,
            cell(dag.active_runs.to_string()),
            cell(moment_or_dash(dag.next_tick)),
            cell(dag.commit.as_deref().map_or("-", commit)),
            note(dag),
        ]);
    }
    rows.text("no DAGs; they are files `dags/*.yaml` on the followed branch of a repo")
}

fn note(dag: &Dag) -> comfy_table::Cell {
    let mut notes = Vec::new();
    if dag.paused {
        notes.push("paused".to_owned());
    }
    if dag.commit.is_none() {
        notes.push("not on the followed branch".to_owned());
    }
    if dag.has_faults {
        notes.push("has faults".to_owned());
    }
    if let Some(since) = dag.sync_failing_since {
        notes.push(format!("sync failing since {}", moment(since)));
    }
    let text = notes.join(", ");
    if dag.has_faults || dag.sync_failing_since.is_some() {
        bad(text)
    } else {
        cell(text)
    }
}

/// One DAG in full.
pub(crate) fn show(dag: &DagDetail, width: Option<u16>) -> String {
    let summary = &dag.summary;
    let mut detail = Detail::default();
    detail.line_if("description", dag.description.as_deref());
    detail.line("file", &summary.path);
    match &summary.commit {
        Some(hash) => detail.line("commit", commit(hash)),
        None => detail.line(
            "commit",
            format!(
                "none: it is not on the followed branch; `trainyard dag remove {}` deletes it with its runs",
                summary.dag
            ),
        ),
    }
    detail.line("starts", starts(dag));
    if summary.paused {
        detail.line(
            "paused",
            "its triggers start nothing; by hand it can be started",
        );
    }
    if let Some(run) = &summary.last_run {
        let last = format!("{}, {}", run.id, run.state);
        detail.line("last run", last);
    }
    if summary.active_runs > 0 {
        detail.line("active runs", summary.active_runs.to_string());
    }
    if let Some(since) = summary.sync_failing_since {
        let warning = format!(
            "its repo has failed to sync since {} UTC; `trainyard repo show {}` says why",
            moment(since),
            summary.repo
        );
        detail.line("warning", warning);
    }
    for pool in &dag.undefined_pools {
        let warning =
            format!("the daemon defines no pool `{pool}`: stages that take of it wait for ever");
        detail.line("warning", warning);
    }
    let mut text = detail.text(&plain(&summary.dag).bold().to_string());
    if !dag.schedules.is_empty() {
        let heads = ["SCHEDULE", "TIME ZONE", "MISSED", "NEXT TICK (UTC)"];
        let mut rows = Rows::new(&heads, width);
        for schedule in &dag.schedules {
            rows.add(vec![
                cell(&schedule.cron),
                cell(&schedule.timezone),
                cell(&schedule.missed),
                cell(moment_or_dash(schedule.next_tick)),
            ]);
        }
        text.push_str(&format!("\n{}", rows.text("")));
    }
    if !dag.params.is_empty() {
        text.push_str(&format!("\n{}", params(&dag.params, width)));
    }
    let nodes = dag.stages.iter().map(|stage| Node {
        name: stage.name.clone(),
        needs: stage.needs.clone(),
        note: stage.image.clone(),
    });
    text.push_str(&format!("\n{}", graph::draw(&nodes.collect::<Vec<_>>())));
    text.push_str(&repo::faults(&dag.faults));
    text
}

fn starts(dag: &DagDetail) -> String {
    let mut ways = Vec::new();
    if dag.starts_on_push {
        ways.push("on pushes");
    }
    if !dag.schedules.is_empty() {
        ways.push("by schedule");
    }
    ways.push("by hand");
    ways.join(", ")
}

fn params(params: &[Param], width: Option<u16>) -> String {
    let mut rows = Rows::new(&["PARAMETER", "TYPE", "DEFAULT", "DESCRIPTION"], width);
    for param in params {
        let default = param.default.as_ref();
        rows.add(vec![
            cell(&param.name),
            cell(&param.kind),
            cell(default.map_or_else(|| "must be given".to_owned(), value)),
            cell(param.description.as_deref().unwrap_or_default()),
        ]);
    }
    rows.text("")
}

/// A parameter's value as people write it.
pub(crate) fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The ticks to come.
pub(crate) fn ticks(ticks: &[Tick], width: Option<u16>) -> String {
    let mut rows = Rows::new(&["LOCAL", "UTC", "SCHEDULE", "TIME ZONE", "NOTE"], width);
    for tick in ticks {
        rows.add(vec![
            cell(&tick.local),
            cell(moment(tick.at)),
            cell(&tick.cron),
            cell(&tick.timezone),
            cell(tick.note.as_deref().unwrap_or_default()),
        ]);
    }
    rows.text("no ticks to come; the DAG has no schedule")
}
