//! The events of a run, in words.

use serde_json::Value;
use trainyard_api::{RunEvent, Timestamp};

use crate::zone::Zone;

/// The kind of an event in words, and its details. A kind that only newer daemons know is shown as it is.
pub fn described(event: &RunEvent, zone: Zone) -> (&str, String) {
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

/// The outcome that an event reports.
#[must_use]
pub fn outcome(event: &RunEvent) -> Option<&str> {
    text(event.detail.as_ref()?, "outcome")
}

fn text<'a>(detail: &'a Value, key: &str) -> Option<&'a str> {
    detail.get(key).and_then(Value::as_str)
}
