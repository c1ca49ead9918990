//! Fetching artifacts: completely and with the hash that the run kept, or not at all.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::daemon::Daemon;

/// Of `content` and a line break.
const SHA256: &str = "434728a410a78f56fc1b5899c3593436e61ab0c731e9072d95e96db290205e53";

fn daemon(content: &'static str) -> Daemon {
    Daemon::new(move |_, what, _| {
        let artifact = |output: &str, kind: &str| {
            json!({"run": 42, "stage": "train", "output": output, "kind": kind, "sha256": SHA256,
                "size_bytes": 8, "created_at": "2026-11-23T15:00:00Z"})
        };
        let text = match what {
            "GET /runs/42/artifacts" => {
                let kinds = [
                    ("model", "file"),
                    ("tool", "executable"),
                    ("tree", "folder"),
                ];
                let items = kinds.map(|(output, kind)| artifact(output, kind));
                json!({"items": items}).to_string()
            }
            _ => content.to_owned(),
        };
        (200, text)
    })
}

#[test]
fn an_artifact_is_saved_under_its_name_or_where_one_says() {
    let daemon = daemon("content\n");
    let place = daemon.place();
    std::fs::create_dir(place.path("folder")).unwrap();
    for (artifact, to, path) in [
        ("train.model", None, "train.model"),
        ("train.tree", None, "train.tree.tar"),
        ("train.model", Some("m.bin"), "m.bin"),
        ("train.model", Some("folder"), "folder/train.model"),
        ("train.tree", Some("folder"), "folder/train.tree.tar"),
        ("train.tree", Some("tree"), "tree.tar"),
        ("train.tree", Some("t.tar"), "t.tar"),
    ] {
        let mut arguments = vec!["artifact", "get", "42", artifact];
        arguments.extend(to.iter().flat_map(|to| ["--to", to]));
        let answer = daemon.call(&arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.stdout.contains(path), "{answer:?}");
        let kept = std::fs::read_to_string(place.path(path)).unwrap();
        assert_eq!(kept, "content\n");
    }
}

#[test]
fn what_could_be_executed_can_be_again() {
    let daemon = daemon("content\n");
    let place = daemon.place();
    for (artifact, mode) in [("train.model", 0o644), ("train.tool", 0o755)] {
        let answer = daemon.call(&["artifact", "get", "42", artifact]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let found = place.path(artifact).metadata().unwrap().permissions();
        assert_eq!(found.mode() & 0o777, mode, "{artifact}");
    }
}

#[test]
fn a_file_that_is_there_is_written_over_by_force_alone() {
    let daemon = daemon("content\n");
    let file = daemon.place().path("m.bin");
    std::fs::write(&file, "mine").unwrap();
    let get = ["artifact", "get", "42", "train.model", "--to", "m.bin"];
    insta::assert_snapshot!(daemon.call(&get).whole(), @"
    exit code 2
    --- stdout
    --- stderr
    error: m.bin already exists
    help: `--force` overwrites it; `--to` gives another destination
    ");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let answer = daemon.call(&[&get[..], &["--force"]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "content\n");
}

#[test]
fn a_dash_is_standard_output() {
    let answer = daemon("content\n").call(&["artifact", "get", "42", "train.model", "--to", "-"]);
    assert_eq!(
        (answer.code, answer.stdout.as_str()),
        (Some(0), "content\n")
    );
}

#[test]
fn content_with_another_hash_is_not_saved() {
    let daemon = daemon("something else");
    let answer = daemon.call(&["artifact", "get", "42", "train.model", "--to", "m.bin"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(answer.stderr.contains("hash differs"), "{answer:?}");
    let left = std::fs::read_dir(daemon.place().path(".")).unwrap();
    assert_eq!(left.count(), 0, "nothing is left behind");
}

#[test]
fn an_unknown_artifact_is_named_with_the_one_that_was_meant() {
    let answer = daemon("").call(&["artifact", "get", "42", "train.modell"]);
    insta::assert_snapshot!(answer.whole(), @"
    exit code 4
    --- stdout
    --- stderr
    error: run 42 has no artifact train.modell
    help: did you mean `train.model`?
    ");
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let answer = daemon("content\n").call(&[
        "artifact",
        "get",
        "42",
        "train.model",
        "--to",
        "nowhere/m.bin",
    ]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.stderr.contains("nowhere/m.bin cannot be written"),
        "{answer:?}"
    );
}
