//! What the daemon prints, as people and machines read it.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::process::Command;

use serde_json::Value;
use trainyard_daemon::config::{Log, LogFormat};
use trainyard_daemon::telemetry;

/// Not a promise by itself: the others run it in a process of its own, as logging is set up once in each.
#[test]
fn child_that_logs_and_panics() {
    let format = match std::env::var("LOG_TEST_FORMAT").as_deref() {
        Ok("json") => LogFormat::Json,
        Ok("text") => LogFormat::Text,
        _ => return,
    };
    telemetry::install(&Log {
        format,
        level: "info".to_owned(),
    })
    .unwrap();
    tracing::info!(run.id = 7, "run 7 started");
    tracing::debug!("not seen");
    let panicked = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(|| panic!("the sky fell"))
        .unwrap()
        .join();
    assert!(panicked.is_err());
}

fn logged(format: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_logs_and_panics", "--nocapture"])
        .env("LOG_TEST_FORMAT", format)
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stderr)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn people_read_lines_without_escapes_where_there_is_no_terminal() {
    let lines = logged("text");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(
        lines[0].contains("INFO run 7 started run.id=7"),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("ERROR panicked: the sky fell"),
        "{lines:#?}"
    );
    assert!(
        lines.iter().all(|line| !line.contains('\u{1b}')),
        "{lines:#?}"
    );
}

#[test]
fn machines_read_one_object_a_line_panics_included() {
    let lines: Vec<Value> = logged("json")
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert_eq!(lines[0]["message"], "run 7 started");
    assert_eq!(lines[0]["run.id"], 7);
    assert_eq!(lines[1]["level"], "ERROR");
    assert_eq!(lines[1]["panic.thread"], "worker");
    assert!(
        lines[1]["panic.place"]
            .as_str()
            .unwrap()
            .contains("log_lines.rs"),
        "{lines:#?}"
    );
}
