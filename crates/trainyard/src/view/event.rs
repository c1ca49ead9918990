//! The history of a run: its events, in words.

use owo_colors::OwoColorize;
use serde_json::Value;
use trainyard_api::{RunEvent, Timestamp};

use crate::view::plain;
use crate::view::screen::{Screen, Zone};
use crate::view::state::Mood;
use crate::view::table::{Cell, Rows, cell, moment};

/// The events of a run, one row each, in the given order.
pub(crate) fn list(events: &[RunEvent], screen: Screen) -> String {
    let heads = ["AT", "WHAT", "STAGE", "ATTEMPT", "DETAIL"];
    let mut rows = Rows::new(&heads, screen)
        .right(3)
        .moments(0)
        .names(&[2])
        .droppable(&[3]);
    for event in events {
        let (what, detail) = described(event, screen.zone);
        let attempt = event.attempt.map(|number| number.to_string());
        rows.add(vec![
            moment(event.at, screen),
            cell(what),
            cell(event.stage.as_deref().unwrap_or_default()),
            cell(attempt.unwrap_or_default()),
            coloured(cell(detail), event),
        ]);
    }
    rows.text("nothing happened to it yet")
}

/// An event as one line, for a history that is followed.
pub(crate) fn line(event: &RunEvent, zone: Zone) -> String {
    let (what, detail) = described(event, zone);
    let attempt = event.attempt.filter(|number| *number > 1);
    let place = match (&event.stage, attempt) {
        (Some(stage), Some(attempt)) => format!("{} (attempt {attempt}): ", plain(stage)),
        (Some(stage), None) => format!("{}: ", plain(stage)),
        (None, _) => String::new(),
    };
    let detail = match detail.as_str() {
        "" => String::new(),
        detail => format!(", {}", plain(detail)),
    };
    let at = zone.moment(event.at);
    format!("{}  {place}{}{detail}", at.bright_black(), plain(what))
}

/// The kind of an event in words, and its details. A kind that only newer daemons know is shown as it is.
fn described(event: &RunEvent, zone: Zone) -> (&str, String) {
    let read = |read: fn(&Value) -> Option<String>| event.detail.as_ref().and_then(read);
    let until = || event.detail.as_ref().and_then(|detail| until(detail, zone));
    let (what, detail) = match event.kind.as_str() {
        "run_started" => ("run started", None),
        "run_skipped" => ("run skipped", read(in_the_way)),
        "run_timed_out" => ("run reached its timeout", None),
        "run_finished" => ("run ended", read(end)),
        "run_held_back" => ("run quarantined", read(end)),
        "run_released" => ("run released", None),
        "cancel_requested" => ("cancel requested", read(asker)),
        "stage_backing_off" => ("stage backs off", until()),
        "stage_finished" => ("stage ended", read(end)),
        "attempt_queued" => ("attempt queued", None),
        "attempt_claimed" => ("attempt claimed", None),
        "attempt_released" => ("attempt released", None),
        "attempt_adopted" => ("attempt adopted", read(heir)),
        "attempt_started" => ("attempt started", read(image)),
        "stop_requested" => ("attempt asked to stop", read(end)),
        "attempt_withdrawn" => ("attempt withdrawn", read(end)),
        "attempt_finished" => ("attempt ended", read(end)),
        unknown => (unknown, None),
    };
    let as_it_is = || event.detail.as_ref().map(Value::to_string);
    (what, detail.or_else(as_it_is).unwrap_or_default())
}

/// An outcome, a reason, or both: `failed: exit code 3`.
fn end(detail: &Value) -> Option<String> {
    match (text(detail, "outcome"), text(detail, "message")) {
        (Some(outcome), Some(message)) => Some(format!("{outcome}: {message}")),
        (one, other) => one.or(other).map(ToOwned::to_owned),
    }
}

fn in_the_way(detail: &Value) -> Option<String> {
    let run = detail.get("because_of")?.as_i64()?;
    Some(format!("run {run} of the same DAG was in its way"))
}

/// The daemons of an adoption, by their hosts; one if a daemon adopts its own attempt again.
fn heir(detail: &Value) -> Option<String> {
    let host = text(detail, "host")?;
    let is_same = text(detail, "daemon") == text(detail, "from");
    Some(match text(detail, "from_host").filter(|_| !is_same) {
        Some(from) => format!("by {host}, from {from}"),
        None => format!("by {host}"),
    })
}

fn asker(detail: &Value) -> Option<String> {
    if let Some(name) = text(detail, "actor") {
        return Some(format!("by {name}"));
    }
    if let Some(run) = detail.get("newer").and_then(Value::as_i64) {
        return Some(format!("by the newer run {run}"));
    }
    let timed_out = detail.get("timeout")?.as_bool()?;
    timed_out.then(|| "the run reached its timeout".to_owned())
}

fn until(detail: &Value, zone: Zone) -> Option<String> {
    let until: Timestamp = text(detail, "until")?.parse().ok()?;
    Some(format!("until {}", zone.moment_in_full(until)))
}

/// Nothing if Docker reported no image.
fn image(detail: &Value) -> Option<String> {
    match detail.get("image")? {
        Value::Null => Some(String::new()),
        image => Some(format!("image {}", image.as_str()?)),
    }
}

fn text<'a>(detail: &'a Value, key: &str) -> Option<&'a str> {
    detail.get(key).and_then(Value::as_str)
}

fn coloured(cell: Cell, event: &RunEvent) -> Cell {
    let detail = event.detail.as_ref();
    match detail.and_then(|detail| text(detail, "outcome")) {
        Some(outcome) => cell.fg(Mood::of(outcome).colour()),
        None => cell,
    }
}
