//! The events of a run, as a table and as JSON.

use serde_json::{Value, json};

use crate::daemon::Daemon;

fn event(id: u32, kind: &str, at: Value, detail: Value) -> Value {
    let (stage, attempt) = (at[0].clone(), at[1].clone());
    json!({"id": id, "at": format!("2026-11-23T15:00:{id:02}.250Z"), "kind": kind, "stage": stage,
        "attempt": attempt, "detail": detail})
}

fn page(events: &[Value], more: bool) -> String {
    json!({"items": events, "more": more}).to_string()
}

/// An event of each kind, and one of a kind that only newer daemons know.
fn of_each_kind() -> Vec<Value> {
    let (run, stage) = (json!([null, null]), json!(["train", null]));
    let attempt = |number: u32| json!(["train", number]);
    let exit = json!({"outcome": "failed", "code": "exit_code", "message": "exit code 3"});
    let stop = json!({"code": "cancel_requested", "message": "cancelled by ada"});
    let heir =
        |by: &str, from: &str| json!({"daemon": by, "host": by, "from": from, "from_host": from});
    let events = [
        ("run_skipped", &run, json!({"because_of": 41})),
        ("run_started", &run, Value::Null),
        ("attempt_queued", &attempt(1), Value::Null),
        ("attempt_claimed", &attempt(1), Value::Null),
        ("attempt_released", &attempt(1), Value::Null),
        (
            "attempt_started",
            &attempt(1),
            json!({"image": "alpine@sha256:1"}),
        ),
        ("attempt_started", &attempt(1), json!({"image": null})),
        ("attempt_adopted", &attempt(1), heir("b", "a")),
        ("attempt_adopted", &attempt(1), heir("a", "a")),
        (
            "run_held_back",
            &run,
            json!({"place": "planning", "message": "its row cannot be read"}),
        ),
        ("run_released", &run, Value::Null),
        ("attempt_finished", &attempt(1), exit),
        (
            "stage_backing_off",
            &stage,
            json!({"until": "2026-11-23T15:01:00.5Z"}),
        ),
        ("cancel_requested", &run, json!({"actor": "ada"})),
        ("cancel_requested", &run, json!({"newer": 43})),
        ("cancel_requested", &run, json!({"timeout": true})),
        ("run_timed_out", &run, Value::Null),
        ("stop_requested", &attempt(2), stop.clone()),
        ("attempt_withdrawn", &attempt(2), stop),
        ("stage_finished", &stage, json!({"outcome": "succeeded"})),
        ("stage_approved", &stage, json!({"by": "ada"})),
        ("run_finished", &run, json!({"outcome": "succeeded"})),
    ];
    (1..)
        .zip(events)
        .map(|(id, (kind, at, detail))| event(id, kind, at.clone(), detail))
        .collect()
}

#[test]
fn every_kind_of_event_is_shown_in_words_and_an_unknown_one_as_it_is() {
    let daemon = Daemon::with("GET /runs/7/events", page(&of_each_kind(), false));
    insta::assert_snapshot!(daemon.call(&["run", "events", "7"]).whole());
}

/// A history of three events in two pages.
fn in_pages() -> (Daemon, Vec<Value>) {
    let events = of_each_kind()[..3].to_vec();
    let sent = events.clone();
    let daemon = Daemon::new(move |_, _, query| {
        let text = if query.contains("after=0&") {
            page(&sent[..2], true)
        } else if query.contains("after=2&") {
            page(&sent[2..], false)
        } else {
            return (422, format!(r#"{{"code":"invalid","message":"{query}"}}"#));
        };
        (200, text)
    });
    (daemon, events)
}

#[test]
fn a_long_history_is_shown_completely_and_in_order() {
    let (daemon, _) = in_pages();
    let answer = daemon.call(&["run", "events", "7"]);
    let places =
        ["run skipped", "run started", "attempt queued"].map(|what| answer.stdout.find(what));
    assert!(places.is_sorted() && places[0].is_some(), "{answer:?}");
}

#[test]
fn json_has_the_events_of_all_pages() {
    let (daemon, events) = in_pages();
    let answer = daemon.call(&["run", "events", "7", "-o", "json"]);
    let printed: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(printed, json!({"items": events, "more": false}));
}

#[test]
fn a_run_that_waits_for_its_turn_has_no_history() {
    let daemon = Daemon::with("GET /runs/7/events", page(&[], false));
    let answer = daemon.call(&["run", "events", "7"]);
    assert_eq!(answer.stdout, "nothing happened to it yet\n");
}

#[test]
fn a_name_in_an_event_cannot_steer_the_terminal() {
    let by = json!({"actor": "ada\u{1b}]52;c;x\u{7}\nroot"});
    let evil = event(1, "cancel_requested", json!([null, null]), by);
    let daemon = Daemon::with("GET /runs/7/events", page(&[evil], false));
    let answer = daemon.call(&["run", "events", "7"]);
    assert_eq!(answer.stdout.lines().count(), 2, "{answer:?}");
    assert!(!answer.stdout.contains(['\u{7}', '\u{1b}']), "{answer:?}");
}

/// A run that ends after its third event, each of which arrives separately.
fn going_on() -> Daemon {
    let events = of_each_kind();
    Daemon::new(move |_, what, query| {
        let after = |id: &str| query.contains(&format!("after={id}&"));
        let text = match what {
            "GET /runs/7/events" if after("0") => page(&events[..2], false),
            "GET /runs/7/events" if after("2") => page(&events[5..6], false),
            "GET /runs/7/events" => page(&[], false),
            _ => {
                let mut run = crate::listings::run(7, "failed");
                run["params"] = json!({});
                run["stages"] = json!([]);
                run.to_string()
            }
        };
        (200, text)
    })
}

#[test]
fn a_followed_history_is_a_line_for_each_event_to_the_end_of_the_run() {
    insta::assert_snapshot!(going_on().call(&["run", "events", "7", "--follow"]).whole(), @"
    exit code 0
    --- stdout
    2026-11-23 15:00:01  run skipped, run 41 of the same DAG was in its way
    2026-11-23 15:00:02  run started
    2026-11-23 15:00:06  train: attempt started, image alpine@sha256:1
    --- stderr
    ");
}

#[test]
fn a_followed_history_in_json_is_an_object_a_line() {
    let answer = going_on().call(&["run", "events", "7", "--follow", "--output", "json"]);
    let ids = answer.stdout.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        event["id"].as_i64().unwrap()
    });
    assert_eq!(ids.collect::<Vec<_>>(), [1, 2, 6]);
}
