//! Watching a run without a terminal: every change is a line.

use serde_json::{Value, json};

use crate::daemon::Daemon;

fn at(second: u32) -> String {
    format!("2026-11-23T15:00:{second:02}Z")
}

fn run(state: &str, finished: bool, stages: &[(&str, &str)]) -> String {
    let stages: Vec<Value> = stages
        .iter()
        .map(|(name, state)| {
            let ended = !matches!(*state, "waiting" | "queued" | "running");
            let attempts = if *state == "waiting" || *state == "skipped" {
                json!([])
            } else {
                json!([{"number": 1, "id": "0", "state": state, "reason": null,
                    "queued_at": at(0), "started_at": at(1), "finished_at": ended.then(|| at(4)),
                    "executor": null, "host": null, "container": null, "log_bytes": 0}])
            };
            let reason = (*state == "failed")
                .then(|| json!({"code": "exit_code", "message": "exit code 3"}));
            json!({
                "name": name, "needs": [], "state": state, "reason": reason, "why": "",
                "started_at": null, "finished_at": ended.then(|| at(4)),
                "duration_seconds": null, "image": null, "reused_from": null, "metrics": {},
                "attempts": attempts, "artifacts": [],
            })
        })
        .collect();
    json!({
        "id": 7, "dag": "model/churn", "state": state, "reason": null, "cancelling": false,
        "cause": {"kind": "manual", "summary": "started by ada", "actor": "ada"},
        "branch": "main", "commit": "0123", "commit_summary": "Train", "logical_time": at(0),
        "created_at": at(0), "started_at": finished.then(|| at(0)),
        "finished_at": finished.then(|| at(5)), "stages_total": 2, "stages_finished": 0,
        "stages_failed": 0, "params": {}, "stages": stages,
    })
    .to_string()
}

fn watched(end: &'static str) -> Daemon {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    Daemon::new(move |place, what, _| {
        if what == "GET /runs/7/events" {
            let event = json!({"id": place + 1, "at": at(0), "kind": "x", "stage": null,
                "attempt": null, "detail": null});
            return (200, json!({"items": [event], "more": false}).to_string());
        }
        let after = if end == "failed" {
            "skipped"
        } else {
            "succeeded"
        };
        let text = match looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => run(
                "running",
                false,
                &[("train", "running"), ("release", "waiting")],
            ),
            // No visible change.
            1 => run(
                "running",
                false,
                &[("train", "running"), ("release", "waiting")],
            ),
            _ => run(end, true, &[("train", end), ("release", after)]),
        };
        (200, text)
    })
}

#[test]
fn every_change_is_printed_once_and_a_failed_run_is_exit_code_1() {
    insta::assert_snapshot!(watched("failed").call(&["run", "watch", "7"]).whole(), @"
    exit code 1
    --- stdout
    15:00:01  train: running
    run 7 of model/churn: running
    15:00:04  train: failed after 3.0s: exit code 3
    15:00:04  release: skipped
    run 7 of model/churn: failed after 5.0s
    --- stderr
    ");
}

#[test]
fn a_run_that_succeeds_is_exit_code_0() {
    let answer = watched("succeeded").call(&["run", "watch", "7"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

#[test]
fn a_run_that_was_skipped_is_exit_code_1_and_its_last_line_says_why() {
    let mut skipped: Value = serde_json::from_str(&run("skipped", false, &[])).unwrap();
    skipped["finished_at"] = at(5).into();
    skipped["reason"] = json!({"code": "superseded", "message": "run 6 was in its way"});
    let daemon = Daemon::new(move |place, what, _| match what {
        "GET /runs/7" => (200, skipped.to_string()),
        "GET /runs/7/events" => {
            let event = json!({"id": place + 1, "at": at(0), "kind": "x", "stage": null,
                "attempt": null, "detail": null});
            (200, json!({"items": [event], "more": false}).to_string())
        }
        "POST /dags/-/churn/runs" => (
            201,
            r#"{"id":7,"existed":false,"state":"queued"}"#.to_owned(),
        ),
        other => panic!("{other}"),
    });
    let watched = daemon.call(&["run", "watch", "7"]);
    assert_eq!(watched.code, Some(1), "{watched:?}");
    assert_eq!(
        watched.stdout.lines().last(),
        Some("run 7 of model/churn: skipped: run 6 was in its way")
    );
    let followed = daemon.call(&["dag", "trigger", "churn", "--follow"]);
    assert_eq!(followed.code, Some(1), "{followed:?}");
    assert_eq!(
        followed.stderr.lines().last(),
        Some("run 7 skipped: run 6 was in its way")
    );
}
