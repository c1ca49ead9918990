//! Following continues from the same place after a broken connection or a restart of the daemon.

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json as value;
use trainyard_api::ClientError;

use crate::server::{Server, json, status};

fn run(state: &str, finished: bool) -> String {
    let at = "2026-11-23T15:00:00Z";
    value!({
        "id": 7, "dag": "model/churn", "state": state, "reason": null, "cancelling": false,
        "cause": {"kind": "manual", "summary": "started by ada", "actor": "ada"},
        "branch": "main", "commit": "0123", "commit_summary": "Train",
        "logical_time": at, "created_at": at, "started_at": at,
        "finished_at": finished.then_some(at),
        "stages_total": 1, "stages_finished": 0, "stages_failed": 0,
        "params": {}, "stages": [],
    })
    .to_string()
}

fn events(ids: &[i64], more: bool) -> String {
    let items: Vec<_> = ids
        .iter()
        .map(|id| {
            value!({"id": id, "at": "2026-11-23T15:00:00Z", "kind": "run_started",
                "stage": null, "attempt": null, "detail": null})
        })
        .collect();
    value!({"items": items, "more": more}).to_string()
}

fn page(text: &str, next: u64, complete: bool) -> String {
    let lines: Vec<_> = text
        .split_terminator('\n')
        .map(|line| value!({"at": "2026-11-23T15:00:00Z", "stream": "stdout", "text": line}))
        .collect();
    value!({"attempt": 1, "lines": lines, "dropped_bytes": 0, "next_offset": next,
        "complete": complete})
    .to_string()
}

#[tokio::test]
async fn a_run_is_reported_at_once_then_at_each_change_and_at_its_end() {
    let server = Server::new(|place, _| match place {
        0 => json(&events(&[1, 2], true)),
        1 => json(&events(&[3], false)),
        2 => json(&run("queued", false)),
        3 => json(&events(&[], false)),
        4 => json(&run("queued", false)),
        5 => json(&events(&[4, 5], false)),
        6 => json(&run("running", false)),
        7 => json(&events(&[6], false)),
        8 => json(&run("succeeded", true)),
        _ => status(500, ""),
    })
    .await;
    let runs: Vec<_> = server.client().watch_run(7).try_collect().await.unwrap();
    let states: Vec<&str> = runs.iter().map(|run| run.summary.state.as_str()).collect();
    assert_eq!(states, ["queued", "running", "succeeded"]);
    let targets = server.targets();
    assert_eq!(targets[0], "/api/v1/runs/7/events?after=0&wait_seconds=0");
    assert_eq!(targets[1], "/api/v1/runs/7/events?after=2&wait_seconds=0");
    assert_eq!(targets[3], "/api/v1/runs/7/events?after=3&wait_seconds=25");
    assert_eq!(targets[7], "/api/v1/runs/7/events?after=5&wait_seconds=25");
}

#[tokio::test]
async fn a_log_goes_on_from_its_offset_when_the_daemon_comes_back() {
    let server = Server::new(|place, _| match place {
        0 => status(503, r#"{"code":"unavailable","message":"restarting"}"#),
        1 => json(&page("one\ntwo\n", 40, false)),
        2 => status(503, r#"{"code":"unavailable","message":"restarting"}"#),
        3 => json(&page("", 40, false)),
        4 => json(&page("three\n", 60, true)),
        _ => status(500, ""),
    })
    .await;
    let pages: Vec<_> = server
        .client()
        .follow_log(7, "train", 1, 0)
        .try_collect()
        .await
        .unwrap();
    let lines: Vec<&str> = pages
        .iter()
        .flat_map(|page| &page.lines)
        .map(|line| line.text.as_str())
        .collect();
    assert_eq!(
        lines,
        ["one", "two", "three"],
        "no line lost, none repeated"
    );
    let target = |offset: u64| {
        format!("/api/v1/runs/7/stages/train/log?attempt=1&offset={offset}&wait_seconds=25")
    };
    assert_eq!(
        server.targets(),
        [target(0), target(0), target(40), target(40), target(40)]
    );
}

#[tokio::test]
async fn events_go_on_when_the_daemon_comes_back_before_the_first_of_them() {
    let server = Server::new(|place, _| match place {
        0 => json(&events(&[], false)),
        1 => status(503, r#"{"code":"unavailable","message":"restarting"}"#),
        2 => json(&events(&[1, 2], false)),
        3 => json(&events(&[], false)),
        4 => json(&run("succeeded", true)),
        _ => status(500, ""),
    })
    .await;
    let batches: Vec<_> = server
        .client()
        .follow_events(7)
        .try_collect()
        .await
        .unwrap();
    let ids: Vec<i64> = batches.iter().flatten().map(|event| event.id).collect();
    assert_eq!(ids, [1, 2]);
    let target =
        |after: i64, wait: u64| format!("/api/v1/runs/7/events?after={after}&wait_seconds={wait}");
    assert_eq!(
        server.targets()[..4],
        [target(0, 0), target(0, 25), target(0, 25), target(2, 25)]
    );
}

#[tokio::test]
async fn a_run_that_cannot_be_followed_is_reported_at_once() {
    let server = Server::new(|_, _| status(404, r#"{"code":"not_found","message":"run 7"}"#)).await;
    let client = server.client();
    let mut runs = Box::pin(client.watch_run(7));
    let error = runs.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, ClientError::Refused { status: 404, .. }),
        "{error:?}"
    );
    assert!(runs.next().await.is_none());
    assert_eq!(server.asked().len(), 1);
}
