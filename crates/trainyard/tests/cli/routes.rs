//! Every command sends the request of the table of routes, and prints the daemon's error.

use crate::daemon::Daemon;

const CALLS: [(&[&str], &str); 45] = [
    (&["repo", "add", "m", "https://x"], "POST /repos"),
    (&["repo", "list"], "GET /repos"),
    (&["repo", "show", "m"], "GET /repos/m"),
    (&["repo", "sync", "m"], "POST /repos/m/sync"),
    (&["repo", "set", "m", "--branch", "b"], "PATCH /repos/m"),
    (&["repo", "deliveries", "m"], "GET /repos/m/deliveries"),
    (&["repo", "remove", "m", "--yes"], "GET /repos/m/history"),
    (&["dag", "list", "--repo", "m"], "GET /dags"),
    (&["dag", "show", "d"], "GET /dags/-/d"),
    (&["dag", "trigger", "m/d"], "POST /dags/m/d/runs"),
    (&["dag", "pause", "m/d"], "PUT /dags/m/d/paused"),
    (&["dag", "unpause", "d"], "PUT /dags/-/d/paused"),
    (&["dag", "next", "d", "--count", "3"], "GET /dags/-/d/ticks"),
    (&["dag", "remove", "m/d", "-y"], "GET /dags/m/d"),
    (&["run", "list"], "GET /runs"),
    (&["run", "show", "7"], "GET /runs/7"),
    (&["run", "show", "latest"], "GET /runs"),
    (&["run", "logs", "churn"], "GET /runs"),
    (&["run", "retry", "m/churn"], "GET /runs"),
    (&["run", "events", "7", "-f"], "GET /runs/7/events"),
    (&["artifact", "list", "churn"], "GET /runs"),
    (&["run", "logs", "7"], "GET /runs/7"),
    (&["run", "logs", "7", "-f"], "GET /runs/7/events"),
    (&["run", "watch", "7"], "GET /runs/7/events"),
    (&["run", "cancel", "#7"], "POST /runs/7/cancel"),
    (&["run", "cancel", "--repo", "m"], "POST /repos/m/cancel"),
    (&["run", "abandon", "7"], "POST /runs/7/abandon"),
    (&["run", "retry", "7", "--from", "a"], "POST /runs/7/retry"),
    (&["run", "why", "7"], "GET /runs/7"),
    (&["run", "events", "7"], "GET /runs/7/events"),
    (&["artifact", "list", "7"], "GET /runs/7/artifacts"),
    (&["artifact", "get", "7", "a.b"], "GET /runs/7/artifacts"),
    (&["metric", "list", "d", "--name", "auc"], "GET /metrics"),
    (&["secret", "list"], "GET /repos"),
    (
        &["secret", "set", "S", "--repo", "m"],
        "PUT /repos/m/secrets/S",
    ),
    (
        &["secret", "remove", "S", "--repo", "m"],
        "DELETE /repos/m/secrets/S",
    ),
    (&["daemon", "list"], "GET /daemons"),
    (&["doctor", "--check"], "GET /violations"),
    (&["token", "create", "ci"], "POST /tokens"),
    (&["token", "list"], "GET /tokens"),
    (&["token", "revoke", "ci"], "DELETE /tokens/ci"),
    (&["audit", "list"], "GET /audit"),
    (&["quarantine", "list"], "GET /quarantine"),
    (&["quarantine", "release", "3"], "DELETE /quarantine/3"),
    (&["gc", "--dry-run"], "POST /gc"),
];

#[test]
fn every_verb_asks_one_thing_and_what_is_not_there_is_exit_code_4() {
    let daemon = Daemon::new(|_, what, _| {
        (
            404,
            format!(r#"{{"code":"not_found","message":"there is no {what}"}}"#),
        )
    });
    for (place, (arguments, what)) in CALLS.into_iter().enumerate() {
        let answer = daemon.call_with("a value", arguments);
        let error = format!("error: there is no {what}\n");
        assert_eq!(
            (answer.code, answer.stdout.as_str(), answer.stderr.as_str()),
            (Some(4), "", error.as_str()),
            "{arguments:?}"
        );
        assert_eq!(daemon.asked().len(), place + 1, "{arguments:?} asked once");
    }
}

#[test]
fn the_newest_run_stands_for_latest_and_for_its_dag() {
    let daemon = Daemon::new(|_, what, query| match (what, query) {
        ("GET /runs", "limit=1" | "dag=m%2Fchurn&limit=1") => {
            let newest = crate::listings::run(8, "failed");
            (200, serde_json::json!({"items": [newest]}).to_string())
        }
        ("GET /runs", _) => (200, r#"{"items":[]}"#.to_owned()),
        _ => (
            404,
            format!(r#"{{"code":"not_found","message":"there is no {what}"}}"#),
        ),
    });
    for name in ["latest", "m/churn"] {
        let answer = daemon.call(&["run", "why", name]);
        assert!(answer.stderr.contains("GET /runs/8"), "{answer:?}");
    }
    insta::assert_snapshot!(daemon.call(&["run", "logs", "m/other"]).whole(), @"
    exit code 4
    --- stdout
    --- stderr
    error: DAG `m/other` has no runs
    help: `trainyard dag trigger m/other` starts one
    ");
}

#[test]
fn runs_are_listed_by_all_that_is_given() {
    let asked = |arguments: &[&str]| {
        let queries = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let kept = std::sync::Arc::clone(&queries);
        let daemon = Daemon::new(move |_, _, query| {
            *kept.lock().unwrap() = query.to_owned();
            (200, r#"{"items":[]}"#.to_owned())
        });
        let answer = daemon.call(arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        queries.lock().unwrap().clone()
    };
    let arguments = [
        "run",
        "list",
        "--repo",
        "m",
        "--dag",
        "d",
        "--branch",
        "topic",
        "--commit",
        "0123",
        "--state",
        "failed,lost",
        "--state",
        "errored",
        "--since",
        "2026-11-23T15:00",
    ];
    assert_eq!(
        asked(&arguments),
        "dag=d&repo=m&branch=topic&commit=0123&state=failed%2Clost%2Cerrored\
         &since=2026-11-23T15%3A00%3A00%2B00%3A00&limit=50"
    );
    assert_eq!(asked(&["run", "list"]), "limit=50");
}

#[test]
fn of_several_runs_each_is_cancelled_whatever_another_says() {
    let daemon = Daemon::new(|_, what, _| match what {
        "POST /runs/7/cancel" => (
            409,
            r#"{"code":"conflict","message":"run 7 has ended already: failed"}"#.to_owned(),
        ),
        _ => (200, crate::listings::run(8, "cancelled").to_string()),
    });
    let answer = daemon.call(&["run", "cancel", "7", "8"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(
        answer.stdout.starts_with("run 8 of model/churn: cancelled"),
        "{answer:?}"
    );
    assert_eq!(
        answer.stderr,
        "run 7 has ended already: failed\nerror: 1 of 2 runs could not be cancelled\n"
    );
}

#[test]
fn a_run_that_is_named_twice_is_asked_to_stop_once() {
    let daemon = Daemon::new(|_, _, _| (200, crate::listings::run(8, "running").to_string()));
    for arguments in [
        &["run", "cancel", "8", "8"][..],
        &["run", "cancel", "8", "9", "8"],
    ] {
        let before = daemon.asked().len();
        let answer = daemon.call(arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let asked = &daemon.asked()[before..];
        let of_8 = asked
            .iter()
            .filter(|asked| asked.what == "POST /runs/8/cancel");
        assert_eq!(of_8.count(), 1, "{arguments:?}");
    }
}

#[test]
fn an_unknown_run_is_exit_code_4_also_among_others() {
    let daemon = Daemon::new(|_, what, _| match what {
        "POST /runs/999/cancel" => (
            404,
            r#"{"code":"not_found","message":"there is no run 999"}"#.to_owned(),
        ),
        _ => (200, crate::listings::run(8, "cancelled").to_string()),
    });
    for arguments in [
        &["run", "cancel", "999"][..],
        &["run", "cancel", "8", "999"],
    ] {
        let answer = daemon.call(arguments);
        assert_eq!(answer.code, Some(4), "{answer:?}");
    }
}

#[test]
fn a_parameter_that_is_given_twice_is_refused_before_anything_is_asked() {
    let daemon = Daemon::new(|_, what, _| panic!("{what}"));
    let answer = daemon.call(&["dag", "trigger", "d", "-p", "i=5", "-p", "i=6"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert_eq!(
        answer.stderr,
        "error: parameter `i` is given more than once\n"
    );
}

#[test]
fn the_help_for_a_wrong_token_names_the_ways_of_the_command_line() {
    let daemon = Daemon::new(|_, _, _| {
        let body = r#"{"code":"unauthorized","message":"the token is not valid","help":"send `Authorization: Bearer TOKEN`"}"#;
        (401, body.to_owned())
    });
    let answer = daemon.call(&["run", "list"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    assert!(answer.stderr.contains("TRAINYARD_TOKEN"), "{answer:?}");
    assert!(!answer.stderr.contains("Bearer"), "{answer:?}");
}

#[test]
fn the_runs_of_a_repo_are_cancelled_page_by_page_and_counted() {
    let daemon = Daemon::new(|place, _, _| {
        let page = [
            r#"{"runs":[9,8],"more":true}"#,
            r#"{"runs":[3],"more":false}"#,
        ];
        (200, page[place].to_owned())
    });
    let answer = daemon.call(&["run", "cancel", "--repo", "m", "--dag", "d"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(answer.stdout, "cancelled 3 runs of m/d\n");
    let bodies: Vec<String> = daemon.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies, [r#"{"dag":"d"}"#, r#"{"dag":"d","before":8}"#]);
    let wrong = daemon.call(&["run", "cancel"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    let wrong = daemon.call(&["run", "cancel", "7", "--repo", "m"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
}

#[test]
fn what_a_request_says_is_what_was_given() {
    let body = |arguments: &[&str]| -> serde_json::Value {
        let daemon = Daemon::new(|_, _, _| (200, r#"{"id":8,"existed":true}"#.to_owned()));
        let answer = daemon.call(arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(
            answer.stdout,
            "run 8 was started by the same request before\n"
        );
        serde_json::from_str(&daemon.asked()[0].body).unwrap()
    };
    let trigger = body(&[
        "dag",
        "trigger",
        "d",
        "-p",
        "epochs=3",
        "--param",
        "note=a=b",
        "--ref",
        "topic",
        "--request",
        "key",
    ]);
    insta::assert_json_snapshot!(trigger, @r#"
    {
      "params": {
        "epochs": "3",
        "note": "a=b"
      },
      "reference": "topic",
      "request": "key"
    }
    "#);
    insta::assert_json_snapshot!(body(&["run", "retry", "7", "--from-failed"]), @r#"
    {
      "from_failed": true
    }
    "#);
    insta::assert_json_snapshot!(body(&["run", "retry", "7", "--from", "train"]), @r#"
    {
      "from": "train",
      "from_failed": false
    }
    "#);
    insta::assert_json_snapshot!(body(&["run", "retry", "7", "--ref", "fix"]), @r#"
    {
      "from_failed": false,
      "reference": "fix"
    }
    "#);
    insta::assert_json_snapshot!(body(&["run", "retry", "7", "--latest"]), @r#"
    {
      "from_failed": false,
      "latest": true
    }
    "#);
}

#[test]
fn a_run_that_waits_or_was_skipped_is_not_said_to_have_started() {
    let line = |answer: &'static str| {
        let daemon = Daemon::new(move |_, _, _| (201, answer.to_owned()));
        daemon.call(&["dag", "trigger", "d"]).stdout
    };
    assert_eq!(
        line(r#"{"id":8,"existed":false,"state":"queued","why":"run 7 has to end first"}"#),
        "run 8 is queued: run 7 has to end first\n"
    );
    assert_eq!(
        line(r#"{"id":8,"existed":false,"state":"skipped","why":"run 7 was in its way"}"#),
        "run 8 was skipped: run 7 was in its way\n"
    );
    let running = line(r#"{"id":8,"existed":false,"state":"running"}"#);
    assert_eq!(running, "run 8 started\n");
}
