//! Logs, complete or followed.

use serde_json::{Value, json};

use crate::daemon::Daemon;

const AT: &str = "2026-11-23T15:00:00Z";

fn page(lines: &[(&str, &str)], next: u64, complete: bool) -> String {
    let lines: Vec<Value> = lines
        .iter()
        .map(|(stream, text)| json!({"at": AT, "stream": stream, "text": text}))
        .collect();
    json!({"attempt": 1, "lines": lines, "dropped_bytes": 0, "next_offset": next,
        "complete": complete})
    .to_string()
}

fn stage(name: &str, state: &str, attempts: u32) -> Value {
    let attempts: Vec<Value> = (1..=attempts)
        .map(|number| {
            json!({"number": number, "id": "0", "state": "running", "reason": null,
                "queued_at": AT, "started_at": AT, "finished_at": null, "executor": null,
                "host": null, "container": null, "log_bytes": 0})
        })
        .collect();
    json!({
        "name": name, "needs": [], "state": state, "reason": null, "why": "", "started_at": AT,
        "finished_at": null, "duration_seconds": null, "image": null, "reused_from": null,
        "metrics": {}, "attempts": attempts, "artifacts": [],
    })
}

fn run(state: &str, stages: &[Value]) -> String {
    let finished = !matches!(state, "queued" | "running");
    json!({
        "id": 7, "dag": "model/churn", "state": state, "reason": null, "cancelling": false,
        "cause": {"kind": "manual", "summary": "started by ada", "actor": "ada"},
        "branch": "main", "commit": "0123", "commit_summary": "Train", "logical_time": AT,
        "created_at": AT, "started_at": AT, "finished_at": finished.then_some(AT),
        "stages_total": 2, "stages_finished": 0, "stages_failed": 0, "params": {},
        "stages": stages,
    })
    .to_string()
}

fn events(id: i64) -> String {
    let event = json!({"id": id, "at": AT, "kind": "x", "stage": null, "attempt": null,
        "detail": null});
    json!({"items": [event], "more": false}).to_string()
}

fn both() -> Vec<Value> {
    vec![
        stage("extract", "succeeded", 1),
        stage("train", "failed", 1),
    ]
}

fn written() -> Daemon {
    Daemon::new(|_, what, query| {
        let text = match what {
            "GET /runs/7" => run("failed", &both()),
            "GET /runs/7/stages/extract/log" => page(&[("stdout", "569 rows")], 20, true),
            "GET /runs/7/stages/train/log" if query.contains("offset=0") => {
                page(&[("stdout", "epoch 1"), ("stderr", "a warning")], 40, false)
            }
            "GET /runs/7/stages/train/log" => page(&[("trainyard", "the end")], 60, true),
            _ => return (404, format!(r#"{{"code":"not_found","message":"{what}"}}"#)),
        };
        (200, text)
    })
}

#[test]
fn logs_of_several_stages_say_which_line_is_whose() {
    insta::assert_snapshot!(written().call(&["run", "logs", "7"]).whole(), @"
    exit code 0
    --- stdout
    extract | 569 rows
    train   | epoch 1
    train   | a warning
    train   | the end
    --- stderr
    ");
}

#[test]
fn the_log_of_one_stage_is_what_it_wrote() {
    let answer = written().call(&["run", "logs", "7", "train"]);
    assert_eq!(answer.stdout, "epoch 1\na warning\nthe end\n");
    let answer = written().call(&["run", "logs", "7", "train", "extract"]);
    assert!(
        answer.stdout.starts_with("extract | 569 rows\ntrain   | "),
        "{answer:?}"
    );
    let answer = written().call(&["run", "logs", "7", "train", "nosuch"]);
    assert_eq!(answer.code, Some(4));
    assert!(
        answer.stderr.contains("it has extract, train"),
        "{answer:?}"
    );
}

#[test]
fn a_tail_is_the_last_lines_of_each_stage() {
    let answer = written().call(&["run", "logs", "7", "--tail", "2"]);
    let lines = "extract | 569 rows\ntrain   | a warning\ntrain   | the end\n";
    assert_eq!(answer.stdout, lines);
}

/// A run that is followed while it is running: `train` fails once and is retried.
fn followed(states: &'static [(&'static str, u32)]) -> Daemon {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    Daemon::new(move |_, what, query| {
        let first = query.contains("attempt=1");
        let text = match what {
            "POST /dags/-/churn/runs" | "POST /runs/6/retry" => {
                return (201, r#"{"id":7,"existed":false}"#.to_owned());
            }
            "GET /runs/7/events" if query.contains("after=0") => events(1),
            "GET /runs/7/events" if query.contains("after=1&") => events(2),
            "GET /runs/7/events" => events(3),
            "GET /runs/7" => {
                let look = looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let (state, attempts) = states[look.min(states.len() - 1)];
                run(state, &[stage("train", state, attempts)])
            }
            "GET /runs/7/stages/train/log" if first => page(&[("stdout", "no")], 9, true),
            "GET /runs/7/stages/train/log" => page(&[("stdout", "yes")], 9, true),
            _ => page(&[], 0, true),
        };
        (200, text)
    })
}

#[test]
fn following_shows_every_attempt_to_the_end_of_the_run() {
    let daemon = followed(&[("queued", 0), ("running", 1), ("succeeded", 2)]);
    let answer = daemon.call(&["run", "logs", "7", "--follow"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stdout, "no\nattempt 2\nyes\n");
}

#[test]
fn following_a_tail_begins_with_its_last_lines_and_shows_later_attempts_whole() {
    let log = page(
        &[("stdout", "1"), ("stdout", "2"), ("stdout", "3")],
        9,
        true,
    );
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let daemon = Daemon::new(move |_, what, query| {
        let text = match what {
            "GET /runs/7/events" if query.contains("after=0") => events(1),
            "GET /runs/7/events" => events(2),
            "GET /runs/7" => match looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => run("running", &[stage("train", "running", 1)]),
                _ => run("succeeded", &[stage("train", "succeeded", 2)]),
            },
            _ => log.clone(),
        };
        (200, text)
    });
    let answer = daemon.call(&["run", "logs", "7", "--follow", "--tail", "1"]);
    assert_eq!(answer.stdout, "3\nattempt 2\n1\n2\n3\n");
}

#[test]
fn ctrl_c_ends_the_following_and_says_how_to_resume_it() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let daemon = Daemon::new(move |place, what, _| {
        let _ = sender.send(());
        let text = match what {
            "GET /runs/7/events" => events(i64::try_from(place).unwrap() + 1),
            _ => run("running", &[stage("train", "running", 0)]),
        };
        (200, text)
    });
    let child = daemon
        .place()
        .command(&["run", "logs", "7", "--follow"])
        .envs([
            ("TRAINYARD_URL", daemon.url().as_str()),
            ("TRAINYARD_TOKEN", "x"),
        ])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    receiver.recv().unwrap();
    let id = child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(kill.unwrap().success());
    let answer = crate::binary::Answer::from(child.wait_with_output().unwrap());
    assert_eq!(answer.code, Some(130), "{answer:?}");
    assert_eq!(
        answer.stderr,
        "\nrun 7 continues: `trainyard run logs 7 --follow` follows it again, `trainyard run cancel 7` cancels it\n"
    );
}

#[test]
fn a_followed_trigger_or_retry_ends_as_the_run_does() {
    for (end, code) in [("succeeded", 0), ("failed", 1), ("cancelled", 1)] {
        for start in [["dag", "trigger", "churn"], ["run", "retry", "6"]] {
            let states: &'static [(&str, u32)] = vec![("running", 1), (end, 2)].leak();
            let answer = followed(states).call(&[&start[..], &["--follow"]].concat());
            assert_eq!(answer.code, Some(code), "{answer:?}");
            assert_eq!(answer.stdout, "no\nattempt 2\nyes\n");
            assert_eq!(answer.stderr, format!("run 7 started\nrun 7 {end}\n"));
        }
    }
}
