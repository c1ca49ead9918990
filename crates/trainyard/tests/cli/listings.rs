//! Tables for people and JSON for programs, made from the daemon's answers.

use serde_json::{Value, json};

use crate::binary::Answer;
use crate::daemon::Daemon;

const T: [&str; 4] = [
    "2026-11-23T15:00:00Z",
    "2026-11-23T15:00:02.400Z",
    "2026-11-23T15:01:14Z",
    "2026-11-23T18:00:00Z",
];

pub(crate) fn run(id: i64, state: &str) -> Value {
    json!({
        "id": id, "dag": "model/churn", "state": state, "reason": null, "cancelling": false,
        "cause": {"kind": "push", "summary": "push to main by ada", "actor": "ada"},
        "branch": "main", "commit": "0123456789abcdef0123456789abcdef01234567",
        "commit_summary": "Train faster", "logical_time": T[0], "created_at": T[0],
        "started_at": T[0], "finished_at": T[2],
        "stages_total": 3, "stages_finished": 3, "stages_failed": 1,
    })
}

fn attempt(number: u32, state: &str, reason: Value) -> Value {
    json!({
        "number": number, "id": "0", "state": state, "reason": reason, "queued_at": T[0],
        "started_at": T[0], "finished_at": T[1], "executor": "docker", "host": "here",
        "container": "c", "log_bytes": 12, "log_dropped_bytes": 0, "log_dropped_lines": 0,
    })
}

fn stage(name: &str, needs: &[&str], state: &str, more: Value) -> Value {
    let mut stage = json!({
        "name": name, "needs": needs, "state": state, "reason": null, "why": "", "started_at": T[0],
        "finished_at": T[1], "duration_seconds": 2.4, "image": "alpine@sha256:1",
        "reused_from": null, "metrics": {}, "attempts": [attempt(1, state, Value::Null)],
        "artifacts": [],
    });
    let fields = more.as_object().unwrap().clone();
    stage.as_object_mut().unwrap().extend(fields);
    stage
}

fn run_detail() -> Value {
    let mut run = run(42, "failed");
    let exit = json!({"code": "exit_code", "message": "exit code 3"});
    let mut second = attempt(2, "succeeded", Value::Null);
    second["log_dropped_bytes"] = json!(3 << 20);
    second["log_dropped_lines"] = json!(800);
    second["notes"] =
        json!(["rows.bin is a pointer of Git LFS: its content is not in the source tree"]);
    let gate = json!({
        "code": "gate_refused",
        "message": "gate refused: auc = 0.71 is below the minimum 0.85",
    });
    run["reason"] = json!({"code": "gate_refused", "message": "evaluate: gate refused"});
    run["params"] = json!({"epochs": 10, "note": "two words", "full": true});
    run["stages"] = json!([
        stage(
            "extract",
            &[],
            "succeeded",
            json!({
                "reused_from": 41, "attempts": [], "started_at": null,
                "why": "succeeded: reused from run 41",
            })
        ),
        stage(
            "train",
            &["extract"],
            "succeeded",
            json!({
                "why": "succeeded at 15:00:02 UTC (2 attempts)",
                "attempts": [attempt(1, "failed", exit), second],
                "artifacts": [{
                    "run": 42, "stage": "train", "output": "model", "kind": "file", "sha256": "ab",
                    "size_bytes": 848_486, "created_at": T[2],
                }],
            })
        ),
        stage(
            "evaluate",
            &["extract", "train"],
            "failed",
            json!({
                "reason": gate, "why": "failed: gate refused: auc = 0.71 is below the minimum 0.85",
                "metrics": {"auc": 0.71, "accuracy": 0.625_730_994_1},
            })
        ),
        stage(
            "release",
            &["evaluate"],
            "skipped",
            json!({
                "started_at": null, "attempts": [], "why": "skipped: the gate of evaluate refused",
                "reason": {"code": "upstream", "message": "the gate of evaluate refused"},
            })
        ),
    ]);
    run
}

fn dag() -> Value {
    json!({
        "dag": "model/churn", "repo": "model", "name": "churn", "path": "dags/churn.yaml",
        "paused": false, "commit": "0123456789abcdef", "has_faults": false, "next_tick": T[3],
        "last_run": {"id": 42, "state": "failed", "created_at": T[0], "finished_at": T[2]},
        "active_runs": 1,
    })
}

/// A DAG as the followed branch has it at a commit, or does not.
pub(crate) fn dag_detail(commit: Option<&str>) -> Value {
    json!({
        "dag": "model/train", "repo": "model", "name": "train", "path": "dags/train.yaml",
        "paused": false, "commit": commit, "has_faults": false, "next_tick": null, "last_run": null,
        "active_runs": 0, "description": null, "stages": [], "params": [], "schedules": [],
        "starts_on_push": false, "faults": [], "source": null,
    })
}

fn repo() -> Value {
    json!({
        "name": "model", "url": "https://example.org/model.git", "branch": "main",
        "poll_every_seconds": 60, "takes_webhooks": true, "has_credentials": false,
        "created_at": T[0], "last_sync_at": T[2], "last_error": null, "dags": 1, "faults": 1,
    })
}

fn fault() -> Value {
    json!({
        "repo": "model", "branch": "main", "commit": "0123456789abcdef", "path": "dags/wrong.yaml",
        "diagnostics": [{
            "file": "dags/wrong.yaml", "severity": "error", "code": "unknown_key",
            "message": "stage `train` has no key `depends_on`", "help": "did you mean `needs`?",
            "line": 4, "column": 5, "end_line": 4, "end_column": 15,
        }],
    })
}

fn items(items: &[Value]) -> String {
    json!({"items": items, "more": false}).to_string()
}

/// The table, checked to have no colours and no blanks at the ends of lines.
#[track_caller]
fn table(what: &'static str, answer: String, arguments: &[&str]) -> String {
    let answer: Answer = Daemon::with(what, answer).call(arguments);
    assert_eq!(
        (answer.code, answer.stderr.as_str()),
        (Some(0), ""),
        "{answer:?}"
    );
    assert!(!answer.stdout.contains('\x1b'), "{answer:?}");
    assert!(
        answer.stdout.lines().all(|line| line == line.trim_end()),
        "{answer:?}"
    );
    answer.stdout
}

#[test]
fn runs_are_listed_with_states_times_and_causes() {
    let runs = items(&[run(42, "failed"), run(7, "succeeded")]);
    insta::assert_snapshot!(table("GET /runs", runs, &["run", "list"]));
}

#[test]
fn a_run_is_shown_with_every_stage_and_why_it_is_so() {
    let text = run_detail().to_string();
    insta::assert_snapshot!(table("GET /runs/42", text, &["run", "show", "#42"]));
}

#[test]
fn why_is_a_line_for_each_stage() {
    let text = run_detail().to_string();
    insta::assert_snapshot!(table("GET /runs/42", text, &["run", "why", "42"]));
}

#[test]
fn dags_are_listed_with_their_problems() {
    let mut paused = dag();
    paused["name"] = "old".into();
    paused["dag"] = "model/old".into();
    paused["paused"] = true.into();
    paused["has_faults"] = true.into();
    paused["commit"] = Value::Null;
    paused["last_run"] = Value::Null;
    paused["next_tick"] = Value::Null;
    let dags = items(&[dag(), paused]);
    insta::assert_snapshot!(table("GET /dags", dags, &["dag", "list"]));
}

#[test]
fn a_dag_is_shown_with_its_picture() {
    let mut detail = dag();
    let more = json!({
        "description": "Monthly churn model",
        "stages": [
            {"name": "extract", "needs": [], "image": "python:3.12"},
            {"name": "train", "needs": ["extract"], "image": "built from .", "if": "params.full"},
            {"name": "evaluate", "needs": ["train"], "image": "python:3.12",
                "gate": [{"metric": "auc", "min": 0.85}, {"metric": "loss", "min": 0.1, "max": 2.5}]},
        ],
        "params": [
            {"name": "epochs", "type": "integer", "default": 10, "minimum": 1, "maximum": 500,
                "description": "How long"},
            {"name": "kind", "type": "string", "default": "gbm", "choices": ["gbm", "linear"],
                "description": null},
            {"name": "note", "type": "string", "default": null, "description": null},
        ],
        "schedules": [{
            "cron": "0 3 1 * *", "timezone": "Europe/Berlin", "missed": "last", "next_tick": T[3],
        }],
        "starts_on_push": true, "push": {"branches": ["main", "release/*"], "paths": ["src/**"]},
        "concurrency": {"limit": 1, "overlap": "queue", "group": "branch"},
        "timeout_seconds": 21_600.0, "faults": [fault()],
        "source": "stages: {train: {image: python:3.12, run: a | tee log}}",
    });
    let fields = more.as_object().unwrap().clone();
    detail.as_object_mut().unwrap().extend(fields);
    let text = detail.to_string();
    insta::assert_snapshot!(table("GET /dags/-/churn", text, &["dag", "show", "churn"]));
}

fn ticks() -> String {
    let tick = |at: &str, local: &str, note: Value| {
        json!({"at": at, "local": local, "cron": "0 3 * * *", "timezone": "Europe/Berlin",
            "note": note})
    };
    items(&[
        tick("2027-03-27T02:00:00Z", "2027-03-27 03:00 CET", Value::Null),
        tick(
            "2027-03-28T01:00:00Z",
            "2027-03-28 03:00 CEST",
            "the clock went forward by 60 min since the day before".into(),
        ),
    ])
}

/// The ticks of a DAG, paused or not.
fn next(paused: bool) -> Answer {
    let mut detail = dag();
    detail["paused"] = paused.into();
    let more = json!({"description": null, "stages": [], "params": [], "schedules": [],
        "starts_on_push": false, "faults": [], "source": null});
    let fields = more.as_object().unwrap().clone();
    detail.as_object_mut().unwrap().extend(fields);
    let daemon = Daemon::new(move |_, what, _| match what {
        "GET /dags/model/churn/ticks" => (200, ticks()),
        _ => (200, detail.to_string()),
    });
    daemon.call(&["dag", "next", "model/churn", "--count", "2"])
}

#[test]
fn ticks_are_shown_by_both_clocks() {
    let answer = next(false);
    assert_eq!(answer.stderr, "");
    insta::assert_snapshot!(answer.stdout);
}

#[test]
fn ticks_of_a_paused_dag_are_said_to_start_nothing() {
    assert_eq!(
        next(true).stderr,
        "model/churn is paused: its schedules start nothing until `trainyard dag unpause model/churn`\n"
    );
}

#[test]
fn times_are_shown_by_the_clock_of_this_machine_or_in_utc() {
    let daemon = Daemon::with("GET /runs", items(&[run(42, "failed")]));
    let (url, zone) = (daemon.url(), "CET-1CEST,M3.5.0,M10.5.0/3");
    let variables = [
        ("TRAINYARD_URL", url.as_str()),
        ("TRAINYARD_TOKEN", "x"),
        ("TZ", zone),
    ];
    let list = |more: &[&str]| {
        let arguments = [&["run", "list"], more].concat();
        daemon.place().call_with("", &variables, &arguments).stdout
    };
    let local = list(&[]);
    assert!(
        local.contains(" MADE  ") && local.contains("2026-11-23 16:00:00"),
        "{local}"
    );
    let utc = list(&["--utc"]);
    assert!(
        utc.contains("MADE (UTC)") && utc.contains("2026-11-23 15:00:00"),
        "{utc}"
    );
    let json = list(&["--output", "json"]);
    assert!(json.contains("2026-11-23T15:00:00Z"), "{json}");
}

#[test]
fn repos_are_listed_with_their_errors() {
    let mut failing = repo();
    failing["name"] = "other".into();
    failing["branch"] = Value::Null;
    failing["last_error"] = "the remote does not answer".into();
    failing["faults"] = 0.into();
    let repos = items(&[repo(), failing]);
    insta::assert_snapshot!(table("GET /repos", repos, &["repo", "list"]));
}

#[test]
fn a_repo_is_shown_with_the_faults_of_its_files() {
    let mut detail = repo();
    let more = json!({
        "webhook_url": "http://127.0.0.1:8080/hooks/github/model",
        "branches": [{"name": "main", "commit": "0123456789abcdef", "moved_at": T[0]}],
        "dag_list": [dag()], "fault_list": [fault()],
    });
    let fields = more.as_object().unwrap().clone();
    detail.as_object_mut().unwrap().extend(fields);
    let text = detail.to_string();
    insta::assert_snapshot!(table("GET /repos/model", text, &["repo", "show", "model"]));
}

#[test]
fn the_parameters_of_a_schedule_are_shown_with_it() {
    let mut detail = dag();
    let more = json!({"description": null, "stages": [], "params": [], "schedules": [
            {"cron": "0 3 * * *", "timezone": "UTC", "missed": "last", "next_tick": T[3]},
            {"cron": "0 4 * * 0", "timezone": "UTC", "missed": "last", "next_tick": T[3],
                "params": {"full": true, "target": "all"}},
        ], "starts_on_push": false, "faults": [], "source": null});
    let fields = more.as_object().unwrap().clone();
    detail.as_object_mut().unwrap().extend(fields);
    let show = ["dag", "show", "model/churn"];
    let text = table("GET /dags/model/churn", detail.to_string(), &show);
    assert!(text.contains("NEXT TICK"), "{text}");
    assert!(text.contains("full=true  target=all\n"), "{text}");
}

#[test]
fn a_fault_that_several_branches_have_is_shown_once_with_all_of_them() {
    let mut detail = repo();
    let mut here = fault();
    here["branches"] = json!(["main", "dev"]);
    let mut there = fault();
    there["branch"] = "fix".into();
    there["commit"] = "fedcba9876543210".into();
    let more = json!({
        "webhook_url": "http://127.0.0.1:8080/hooks/github/model", "branches": [], "dag_list": [],
        "fault_list": [here, there],
    });
    let fields = more.as_object().unwrap().clone();
    detail.as_object_mut().unwrap().extend(fields);
    let text = table(
        "GET /repos/model",
        detail.to_string(),
        &["repo", "show", "model"],
    );
    let place =
        "dags/wrong.yaml on main at 0123456789; also on dev at 0123456789, fix at fedcba9876\n";
    assert!(text.contains(place), "{text}");
    assert_eq!(text.matches("did you mean `needs`?").count(), 1, "{text}");
}

#[test]
fn artifacts_metrics_secrets_tokens_and_gc_have_their_tables() {
    let artifact = json!({
        "run": 42, "stage": "train", "output": "model", "kind": "folder",
        "sha256": "0441209648f7ef550441209648f7ef55", "size_bytes": 848_486, "created_at": T[2],
    });
    let metric = |name: &str, value: f64| {
        json!({"run": 42, "dag": "model/churn", "stage": "evaluate", "name": name, "value": value,
            "commit": "0123456789abcdef", "at": T[0]})
    };
    let metrics = items(&[metric("accuracy", 0.625_730_99), metric("rows", 569.0)]);
    let secret = json!({
        "repo": "model", "name": "DSN", "updated_at": T[0], "branches": ["main", "release/*"],
    });
    let token = json!({"id": "01a2", "name": "ci", "created_at": T[0], "last_used_at": null,
        "revoked_at": T[1]});
    let daemon = |host: &str, state: &str, leads: Value| {
        json!({"id": "01a2", "host": host, "pid": 42, "version": "0.1.0", "state": state,
            "started_at": T[0], "lease_until": T[1], "stopped_at": null, "attempts": 3, "leads": leads,
            "troubles": []})
    };
    let leads = json!([{"role": "scheduler", "term": 2}, {"role": "watcher", "term": 1}]);
    let daemons = items(&[
        daemon("a:/var/lib/trainyard", "alive", leads),
        daemon("b:/var/lib/trainyard", "silent", json!([])),
        daemon("b:/var/lib/trainyard", "replaced", json!([])),
        json!({"id": "01a3", "host": "c:/var/lib/trainyard", "pid": 42, "version": "0.1.0",
            "state": "alive", "started_at": T[0], "lease_until": T[1], "stopped_at": null,
            "attempts": 14, "leads": [],
            "holds": [
                {"run": 42, "stage": "train", "attempt": 2, "state": "running", "since": T[0]},
                {"run": 43, "stage": "extract", "attempt": 1, "state": "starting", "since": T[0]},
            ],
            "troubles": ["Docker does not answer since 2026-11-23 12:00:03 UTC"]}),
    ]);
    let held = json!({"id": 3, "kind": "dag", "name": "model/churn", "place": "scheduling",
        "reason": "schedule #0 of DAG churn cannot be read from the database: `Atlantis` is not a time zone",
        "failures": 1, "held_at": T[0]});
    let change = |kind: &str, name: &str, action: &str, subject: &str, detail: Value| {
        json!({"id": 7, "at": T[0], "by": {"kind": kind, "id": "1", "name": name}, "peer": "192.0.2.7",
            "action": action, "subject": subject, "repo": "model", "detail": detail})
    };
    let mut alone = change("token", "ci", "gc", "", json!({}));
    for field in ["peer", "subject", "repo"] {
        alone[field] = Value::Null;
    }
    let audit = items(&[
        change(
            "token",
            "laptop",
            "secret.set",
            "DSN",
            json!({"branches": ["main", "release/*"]}),
        ),
        change(
            "user",
            "ada",
            "repo.add",
            "model",
            json!({"url": "/src/model", "branch": null}),
        ),
        change(
            "token",
            "ci",
            "run.cancel",
            "42",
            json!({"dag": "model/churn", "quarantined": true}),
        ),
        alone,
    ]);
    let gc = json!({"dry_run": true, "runs": 3, "logs": 2, "deliveries": 1, "dag_versions": 0,
        "artifact_files": 2, "artifact_bytes": 5_000});
    let secrets = ["secret", "list", "--repo", "model"];
    let all = [
        table(
            "GET /runs/42/artifacts",
            items(&[artifact]),
            &["artifact", "list", "42"],
        ),
        table("GET /metrics", metrics, &["metric", "list", "42"]),
        table("GET /repos/model/secrets", items(&[secret]), &secrets),
        table("GET /tokens", items(&[token]), &["token", "list"]),
        table("GET /daemons", daemons, &["daemon", "list"]),
        table("GET /quarantine", items(&[held]), &["quarantine", "list"]),
        table("GET /audit", audit, &["audit", "list"]),
        table("POST /gc", gc.to_string(), &["gc", "--dry-run"]),
    ];
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn an_empty_listing_says_what_would_be_there() {
    let calls: [(&str, &[&str]); 6] = [
        ("GET /audit", &["audit", "list"]),
        ("GET /runs", &["run", "list"]),
        ("GET /repos", &["repo", "list"]),
        ("GET /dags", &["dag", "list"]),
        ("GET /tokens", &["token", "list"]),
        ("GET /metrics", &["metric", "list"]),
    ];
    let texts = calls.map(|(what, arguments)| table(what, items(&[]), arguments));
    insta::assert_snapshot!(texts.concat(), @"
    no changes
    no runs
    no repos; `trainyard repo add NAME URL` adds one
    no DAGs; they are files `dags/*.yaml` on the followed branch of a repo
    no tokens
    no metrics; a stage reports them with `metrics: metrics.json`
    ");
}

#[test]
fn json_is_what_the_daemon_said() {
    let calls: [(&'static str, Value, &[&str]); 3] = [
        ("GET /runs/42", run_detail(), &["run", "show", "42"]),
        (
            "GET /repos",
            json!({"items": [repo()], "more": false}),
            &["repo", "list"],
        ),
        (
            "POST /dags/-/churn/runs",
            json!({"id": 43, "existed": false}),
            &["dag", "trigger", "churn"],
        ),
    ];
    for (what, value, arguments) in calls {
        let daemon = Daemon::with(what, value.to_string());
        let mut arguments = arguments.to_vec();
        arguments.extend(["--output", "json"]);
        let answer = daemon.call(&arguments);
        let printed: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(printed, value);
    }
}

#[test]
fn colours_are_for_terminals_or_where_they_are_asked_for() {
    let daemon = Daemon::with("GET /runs", items(&[run(1, "failed")]));
    let (url, place) = (daemon.url(), daemon.place());
    let coloured = |name: &str, value: &str| {
        let variables = [("TRAINYARD_URL", url.as_str()), (name, value)];
        place
            .call_with("", &variables, &["run", "list"])
            .stdout
            .contains('\x1b')
    };
    assert!(
        !coloured("TERM", "xterm-256color"),
        "this is not a terminal"
    );
    assert!(coloured("CLICOLOR_FORCE", "1"));
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let mut evil = run(1, "failed");
    evil["cause"]["summary"] = "push by \u{1b}]52;c;x\u{7}\nroot".into();
    let text = table("GET /runs", items(&[evil]), &["run", "list"]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains('\u{7}'), "{text}");
}
