//! DAGs and their ticks.

use std::time::Duration;

use owo_colors::OwoColorize;
use trainyard_api::{
    ConcurrencyRule, Dag, DagDetail, GateBounds, Param, PushRule, StageOutline, Tick,
};
use trainyard_core::measure::counted;

use trainyard_core::text::short_commit;

use crate::view::detail::Detail;
use crate::view::graph;
use crate::view::screen::Screen;
use crate::view::table::{Cell, Rows, bad, cell, moment, state};
use crate::view::{plain, repo};
use trainyard_present::graph::GraphNode;
use trainyard_present::quantity::{duration, number};
use trainyard_present::zone::Zone;

pub(crate) fn list(dags: &[Dag], screen: Screen) -> String {
    let heads = [
        "DAG",
        "LAST RUN",
        "STATE",
        "ACTIVE",
        "NEXT TICK",
        "COMMIT",
        "NOTE",
    ];
    let mut rows = Rows::new(&heads, screen)
        .right(1)
        .right(3)
        .moments(4)
        .names(&[0])
        .droppable(&[5, 3]);
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
            moment(dag.next_tick, screen),
            cell(dag.commit.as_deref().map_or("-", short_commit)),
            note(dag, screen.zone),
        ]);
    }
    rows.text("no DAGs; they are files `dags/*.yaml` on the followed branch of a repo")
}

fn note(dag: &Dag, zone: Zone) -> Cell {
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
    if dag.later_format.is_some() {
        notes.push("needs a newer daemon".to_owned());
    }
    if let Some(since) = dag.sync_failing_since {
        notes.push(format!("sync failing since {}", zone.moment(since)));
    }
    let text = notes.join(", ");
    if dag.has_faults || dag.later_format.is_some() || dag.sync_failing_since.is_some() {
        bad(text)
    } else {
        cell(text)
    }
}

/// One DAG in full.
pub(crate) fn show(dag: &DagDetail, screen: Screen) -> String {
    let summary = &dag.summary;
    let mut detail = Detail::default();
    detail.line_if("description", dag.description.as_deref());
    detail.line("file", &summary.path);
    match &summary.commit {
        Some(hash) => detail.line("commit", short_commit(hash)),
        None => detail.line(
            "commit",
            format!(
                "none: it is not on the followed branch; `trainyard dag remove {}` deletes it with its runs",
                summary.dag
            ),
        ),
    }
    detail.line("starts", starts(dag));
    detail.line_if("concurrency", dag.concurrency.as_ref().map(concurrency));
    let timeout = dag.timeout_seconds.map(Duration::from_secs_f64);
    detail.line_if("timeout", timeout.map(duration));
    if summary.paused {
        detail.line(
            "paused",
            "its triggers start nothing; it can still be started by hand",
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
            "its repo has failed to sync since {}; `trainyard repo show {}` says why",
            screen.zone.moment_in_full(since),
            summary.repo
        );
        detail.line("warning", warning);
    }
    for pool in &dag.undefined_pools {
        let warning =
            format!("the daemon defines no pool `{pool}`: stages that need it wait for ever");
        detail.line("warning", warning);
    }
    for warning in warnings(dag) {
        detail.line("warning", warning);
    }
    let mut text = detail.text(&plain(&summary.dag).bold().to_string());
    if !dag.schedules.is_empty() {
        let has_params = dag.schedules.iter().any(|one| !one.params.is_empty());
        let heads = ["SCHEDULE", "TIME ZONE", "MISSED", "NEXT TICK", "PARAMS"];
        let shown = if has_params { &heads[..] } else { &heads[..4] };
        let mut rows = Rows::new(shown, screen).moments(3);
        for schedule in &dag.schedules {
            let mut row = vec![
                cell(&schedule.cron),
                cell(&schedule.timezone),
                cell(&schedule.missed),
                moment(schedule.next_tick, screen),
            ];
            if has_params {
                let params = schedule.params.iter();
                let params = params.map(|(name, given)| format!("{name}={}", value(given)));
                row.push(cell(params.collect::<Vec<_>>().join("  ")));
            }
            rows.add(row);
        }
        text.push_str(&format!("\n{}", rows.text("")));
    }
    if !dag.params.is_empty() {
        text.push_str(&format!("\n{}", params(&dag.params, screen)));
    }
    let nodes = dag.stages.iter().map(|stage| GraphNode {
        name: stage.name.clone(),
        needs: stage.needs.clone(),
        note: notes(stage),
    });
    text.push_str(&format!("\n{}", graph::draw(&nodes.collect::<Vec<_>>())));
    text.push_str(&repo::faults(&dag.faults));
    text
}

fn starts(dag: &DagDetail) -> String {
    let mut ways = Vec::new();
    match &dag.push {
        Some(push) => ways.push(pushes(push)),
        None if dag.starts_on_push => ways.push("on pushes".to_owned()),
        None => {}
    }
    if !dag.schedules.is_empty() {
        ways.push("by schedule".to_owned());
    }
    ways.push("by hand".to_owned());
    ways.join(", ")
}

fn pushes(push: &PushRule) -> String {
    let branches = match push.branches.as_slice() {
        [] => "the followed branch".to_owned(),
        branches => branches.join(" or "),
    };
    match push.paths.as_slice() {
        [] => format!("on pushes to {branches}"),
        paths => format!("on pushes to {branches} that change {}", paths.join(" or ")),
    }
}

/// The warnings of its file, as `validate` shows them.
fn warnings(dag: &DagDetail) -> Vec<String> {
    let Some(source) = &dag.source else {
        return Vec::new();
    };
    let found = trainyard_dagfile::parse(&dag.summary.dag, source).diagnostics;
    let found = found.into_iter().filter(|found| !found.is_error());
    found
        .map(|found| match found.help {
            Some(help) => format!("{} ({help})", found.message),
            None => found.message,
        })
        .collect()
}

fn concurrency(rule: &ConcurrencyRule) -> String {
    let each = match &rule.group {
        Some(group) => format!(" of the same {group}"),
        None => String::new(),
    };
    let runs = counted(rule.limit, "run");
    format!("at most {runs}{each} at a time (overlap: {})", rule.overlap)
}

fn params(params: &[Param], screen: Screen) -> String {
    let heads = ["PARAMETER", "TYPE", "DEFAULT", "ALLOWED", "DESCRIPTION"];
    let mut rows = Rows::new(&heads, screen);
    for param in params {
        let default = param.default.as_ref();
        rows.add(vec![
            cell(&param.name),
            cell(&param.kind),
            cell(default.map_or_else(|| "must be given".to_owned(), value)),
            cell(allowed(param)),
            cell(param.description.as_deref().unwrap_or_default()),
        ]);
    }
    rows.text("")
}

/// The allowed values of a parameter, if its type alone does not define them.
fn allowed(param: &Param) -> String {
    match (&param.minimum, &param.maximum) {
        (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}"),
        (Some(minimum), None) => format!("at least {minimum}"),
        (None, Some(maximum)) => format!("at most {maximum}"),
        (None, None) => param.choices.join(", "),
    }
}

/// The note of a stage: its image, its condition, and its gate.
fn notes(stage: &StageOutline) -> String {
    let mut notes = vec![stage.image.clone()];
    notes.extend(
        stage
            .condition
            .iter()
            .map(|condition| format!("if {condition}")),
    );
    notes.extend(stage.gate.iter().map(gate));
    notes.join("; ")
}

fn gate(rule: &GateBounds) -> String {
    let metric = &rule.metric;
    match (rule.min, rule.max) {
        (Some(min), Some(max)) => {
            format!("gate {metric} from {} to {}", number(min), number(max))
        }
        (Some(min), None) => format!("gate {metric} at least {}", number(min)),
        (None, Some(max)) => format!("gate {metric} at most {}", number(max)),
        (None, None) => format!("gate {metric}"),
    }
}

/// A parameter's value as users write it.
pub(crate) fn value(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The ticks to come.
pub(crate) fn ticks(ticks: &[Tick], screen: Screen) -> String {
    let heads = ["LOCAL", "UTC", "SCHEDULE", "TIME ZONE", "NOTE"];
    let mut rows = Rows::new(&heads, screen).droppable(&[3]);
    for tick in ticks {
        rows.add(vec![
            cell(&tick.local),
            cell(Zone::Utc.moment(tick.at)),
            cell(&tick.cron),
            cell(&tick.timezone),
            cell(tick.note.as_deref().unwrap_or_default()),
        ]);
    }
    rows.text("no ticks to come; the DAG has no schedule")
}
