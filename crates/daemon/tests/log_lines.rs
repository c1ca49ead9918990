//! The daemon's log lines, for users and for programs.

#![expect(
    clippy::unwrap_used,
    reason = "a test panics where something is not as it should be"
)]

use std::process::Command;

use serde_json::Value;
use trainyard_daemon::config::{Log, LogFormat};
use trainyard_daemon::telemetry;

/// No test by itself: the others run it in a process of its own, since logging is set up once per process.
#[test]
fn child_that_logs_and_panics() {
    let format = match std::env::var("LOG_TEST_FORMAT").as_deref() {
        Ok("json") => LogFormat::Json,
        Ok("text") => LogFormat::Text,
        _ => return,
    };
    telemetry::install(&Log {
        format,
        level: std::env::var("LOG_TEST_LEVEL").unwrap_or_else(|_| "info".to_owned()),
    })
    .unwrap();
    tracing::info!(run.id = 7, "run 7 started");
    tracing::debug!(target: "trainyard_orchestrator::loops::watcher", "ours at debug");
    tracing::debug!(target: "bollard::docker", body = "KEY=canary-5577", "request");
    tracing::trace!(target: "sqlx::query", "canary-5577");
    tracing::trace!(target: "trainyardish", "canary-5577");
    tracing::info!(target: "hyper", "a library at info");
    let panicked = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(|| panic!("the sky fell"))
        .unwrap()
        .join();
    assert!(panicked.is_err());
}

fn logged(format: &str) -> Vec<String> {
    let lines = logged_at("info,hyper=warn", format);
    assert!(
        lines.iter().all(|line| !line.contains("at debug")),
        "{lines:#?}"
    );
    lines
}

fn logged_at(level: &str, format: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_logs_and_panics", "--nocapture"])
        .env("LOG_TEST_FORMAT", format)
        .env("LOG_TEST_LEVEL", level)
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

#[test]
fn libraries_are_silent_below_info_even_where_the_filter_names_them() {
    // The target of this test's own events is not the daemon's.
    for level in [
        "trace",
        "bollard=trace,sqlx=trace,trainyardish=trace,hyper=info",
    ] {
        for format in ["text", "json"] {
            let text = logged_at(level, format).join("\n");
            assert!(!text.contains("canary"), "{level}: {text}");
            assert!(text.contains("a library at info"), "{level}: {text}");
        }
    }
    let text = logged_at("log_lines=trace,trainyard_daemon=trace", "text").join("\n");
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn our_own_crates_are_heard_at_every_level() {
    let text = logged_at("debug", "text").join("\n");
    assert!(text.contains("ours at debug"), "{text}");
}
