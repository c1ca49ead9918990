//! Repos are added, changed and removed: the requests, the output, and the exit codes.

use serde_json::{Value, json};

use crate::binary::Place;
use crate::daemon::Daemon;

fn repo(last_error: Option<&str>) -> Value {
    let mut repo = json!({
        "name": "model", "url": "https://example.org/model.git", "branch": "main",
        "poll_every_seconds": 60, "takes_webhooks": true, "has_credentials": false,
        "created_at": "2026-11-23T15:00:00Z", "last_sync_at": null, "last_error": last_error, "dags": 2,
        "faults": 0,
    });
    if last_error.is_some() {
        repo["failing_since"] = "2026-11-23T15:00:01Z".into();
    }
    repo
}

/// A daemon that saves a repo, and then syncs it.
fn saves(secret: Option<&str>, last_error: Option<&'static str>) -> Daemon {
    let saved = json!({
        "repo": repo(None), "webhook_url": "http://127.0.0.1:8080/hooks/github/model",
        "webhook_secret": secret,
    });
    Daemon::new(move |_, what, _| match what {
        "POST /repos" | "PATCH /repos/model" => (200, saved.to_string()),
        "POST /repos/model/sync" => (200, repo(last_error).to_string()),
        other => panic!("{other}"),
    })
}

/// A daemon with one repo, and one DAG of it.
fn removes() -> Daemon {
    let history = json!({
        "dags": 2, "runs": 14, "artifacts": 1, "artifact_bytes": 1_288_490_189_u64, "log_bytes": 3_250_586,
        "secrets": 3,
    });
    Daemon::new(move |_, what, _| match what {
        "GET /repos/model/history" | "GET /dags/model/train/history" => (200, history.to_string()),
        "GET /dags/model/train" => (200, crate::listings::dag_detail(None).to_string()),
        "DELETE /repos/model" | "DELETE /dags/model/train" => (204, String::new()),
        other => panic!("{other}"),
    })
}

fn sent(daemon: &Daemon) -> Value {
    serde_json::from_str(&daemon.asked()[0].body).unwrap()
}

fn asked(daemon: &Daemon) -> Vec<String> {
    daemon.asked().into_iter().map(|asked| asked.what).collect()
}

const ADD: [&str; 4] = ["repo", "add", "model", "https://example.org/model.git"];

#[test]
fn a_made_webhook_secret_is_printed_once_with_where_webhooks_go() {
    let daemon = saves(Some("made-by-the-daemon"), None);
    insta::assert_snapshot!(daemon.call(&ADD).whole());
    assert_eq!(sent(&daemon).get("webhook_secret"), None);
}

#[test]
fn a_webhook_secret_of_ones_own_is_sent_and_not_printed() {
    for (input, given) in [("my-own-secret\n", "-"), ("", "my-own-secret")] {
        let daemon = saves(None, None);
        let arguments = [&ADD[..], &["--webhook-secret", given]].concat();
        let answer = daemon.call_with(input, &arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(!answer.whole().contains("my-own-secret"), "{answer:?}");
        assert_eq!(sent(&daemon)["webhook_secret"], "my-own-secret");
    }
}

#[test]
fn a_password_is_read_from_standard_input() {
    let daemon = saves(None, None);
    let more = [
        "--branch",
        "dev",
        "--username",
        "bot",
        "--password-stdin",
        "--poll-every",
        "30",
    ];
    let answer = daemon.call_with("hunter2\n", &[&ADD[..], &more].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    insta::assert_json_snapshot!(sent(&daemon));
}

#[test]
fn a_repo_whose_remote_cannot_be_read_is_exit_code_3_after_its_secret_was_printed() {
    let daemon = saves(Some("made-by-the-daemon"), Some("no route to host"));
    insta::assert_snapshot!(daemon.call(&ADD).whole());
    let patient = [&ADD[..], &["--no-wait"]].concat();
    let daemon = saves(None, Some("no route to host"));
    assert_eq!(daemon.call(&patient).code, Some(0));
    assert_eq!(asked(&daemon), ["POST /repos"]);
}

#[test]
fn a_branch_that_the_remote_does_not_have_is_exit_code_3_with_how_to_follow_another() {
    let daemon = Daemon::new(|_, what, _| match what {
        "POST /repos" => {
            let saved = json!({"repo": repo(None), "webhook_url": "http://127.0.0.1:8080/hooks/github/model"});
            (200, saved.to_string())
        }
        "POST /repos/model/sync" => {
            let mut synced = repo(None);
            synced["branch_missing"] = true.into();
            let problem = "the remote has no branch `mian`; did you mean `main`?";
            synced["last_error"] = problem.into();
            (200, synced.to_string())
        }
        other => panic!("{other}"),
    });
    let answer = daemon.call(&[&ADD[..], &["--branch", "mian"]].concat());
    assert_eq!(answer.code, Some(3), "{answer:?}");
    insta::assert_snapshot!(answer.stderr);
}

#[test]
fn only_what_is_given_is_changed() {
    let daemon = saves(None, None);
    let set = [
        "repo",
        "set",
        "model",
        "https://example.org/moved.git",
        "--default-branch",
    ];
    insta::assert_snapshot!(daemon.call(&set).whole());
    insta::assert_json_snapshot!(sent(&daemon));
    assert_eq!(
        asked(&daemon),
        ["PATCH /repos/model", "POST /repos/model/sync"]
    );
}

#[test]
fn a_token_is_replaced_by_one_from_standard_input_and_a_webhook_secret_by_a_new_one() {
    let daemon = saves(Some("made-by-the-daemon"), None);
    let set = [
        "repo",
        "set",
        "model",
        "--password-stdin",
        "--webhook-secret",
        "generate",
    ];
    let answer = daemon.call_with("hunter2\n", &set);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stdout.contains("made-by-the-daemon"), "{answer:?}");
    insta::assert_json_snapshot!(sent(&daemon));
}

#[test]
fn removing_says_what_goes_and_wants_yes_in_a_script() {
    for (what, path) in [
        (["repo", "remove", "model"], "repos/model"),
        (["dag", "remove", "model/train"], "dags/model/train"),
    ] {
        let daemon = removes();
        let refused = daemon.call(&what);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let history = "2 DAGs, 14 runs, logs (3.1 MiB), 1 artifact (1.2 GiB), 3 secrets";
        assert!(refused.stderr.contains(history), "{refused:?}");
        assert!(refused.stderr.contains("--yes"), "{refused:?}");
        assert_eq!(asked(&daemon).last(), Some(&format!("GET /{path}/history")));

        let daemon = removes();
        let removed = daemon.call(&[&what[..], &["--yes"]].concat());
        assert_eq!(removed.code, Some(0), "{removed:?}");
        assert!(removed.stdout.contains(history), "{removed:?}");
        let removal = format!("DELETE /{path}");
        assert_eq!(asked(&daemon).last(), Some(&removal));
    }
}

#[test]
fn a_dag_on_the_followed_branch_is_not_removed_with_yes_or_without() {
    for yes in [&["--yes"][..], &[]] {
        let dag = crate::listings::dag_detail(Some("0123"));
        let daemon = Daemon::new(move |_, _, _| (200, dag.to_string()));
        let refused = daemon.call(&[&["dag", "remove", "train"], yes].concat());
        assert_eq!(refused.code, Some(3), "{refused:?}");
        assert_eq!(
            refused.stderr,
            "error: model/train is on the followed branch of its repo\n\
             help: delete dags/train.yaml there first, or pause it with `trainyard dag pause model/train`\n"
        );
        assert_eq!(asked(&daemon), ["GET /dags/-/train"]);
    }
}

#[test]
fn runs_that_have_not_ended_are_named_before_a_repo_is_removed() {
    let history = r#"{"dags": 1, "runs": 1, "unfinished_runs": 1, "artifacts": 0, "artifact_bytes": 0,
        "log_bytes": 0, "secrets": 0}"#;
    let daemon = Daemon::new(move |_, _, _| (200, history.to_owned()));
    insta::assert_snapshot!(daemon.call(&["repo", "remove", "model"]).whole());
    assert_eq!(asked(&daemon), ["GET /repos/model/history"]);
}

#[test]
fn deliveries_are_listed_with_what_came_of_them() {
    let push = json!({
        "id": "72d3162e", "provider": "github", "event": "push", "branch": "main",
        "commit": "0123456789abcdef", "actor": "ada", "received_at": "2026-11-23T15:00:00Z",
        "processed_at": "2026-11-23T15:00:01Z", "result": "started runs 12, 13",
    });
    let ping = json!({
        "id": "72d3162d", "provider": "github", "event": "ping", "branch": null, "commit": null, "actor": null,
        "received_at": "2026-11-23T14:00:00Z", "processed_at": null, "result": null,
    });
    let listing = json!({"items": [push, ping], "more": false}).to_string();
    let daemon = Daemon::with("GET /repos/model/deliveries", listing);
    insta::assert_snapshot!(daemon.call(&["repo", "deliveries", "model"]).stdout);
}

#[test]
fn dags_of_a_repo_that_fails_to_sync_are_listed_with_a_note() {
    let dag = json!({
        "dag": "model/churn", "repo": "model", "name": "churn", "path": "dags/churn.yaml", "paused": false,
        "commit": "0123456789abcdef", "has_faults": false, "sync_failing_since": "2026-11-23T15:00:01Z",
        "next_tick": null, "last_run": null, "active_runs": 0,
    });
    let listing = json!({"items": [dag], "more": false}).to_string();
    let listed = Daemon::with("GET /dags", listing).call(&["dag", "list"]);
    assert!(
        listed
            .stdout
            .contains("sync failing since 2026-11-23 15:00:01"),
        "{listed:?}"
    );
    let shown = Daemon::with("GET /repos/model", {
        let mut repo = repo(Some("no route to host"));
        repo["webhook_url"] = "http://x".into();
        for list in ["branches", "dag_list", "fault_list"] {
            repo[list] = json!([]);
        }
        repo.to_string()
    })
    .call(&["repo", "show", "model"]);
    for part in ["since 2026-11-23 15:00:01 +00:00", "no route to host"] {
        assert!(shown.stdout.contains(part), "{part}: {shown:?}");
    }
}

#[test]
fn a_poll_interval_that_a_daemon_would_not_keep_to_is_refused() {
    let place = Place::new();
    for (interval, answer) in [
        ("1ms", "expected whole seconds, at least 5"),
        ("4", "expected whole seconds, at least 5"),
        ("soon", "expected a duration such as `30s`"),
    ] {
        let refused = place.call(&["repo", "set", "lab", "--poll-every", interval]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(refused.stderr.contains(answer), "{refused:?}");
    }
}
