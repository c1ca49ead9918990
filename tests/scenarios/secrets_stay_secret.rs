//! Secrets reach the stages that name them, on branches that they belong to, and nothing else: not logs at any level,
//! not the API, not the database.

use trainyard_tests::cluster::Cluster;
use trainyard_tests::daemon::Daemon;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;

const SECRET: &str = "canary-4f9a-do-not-show";

const HOOK: &str = "canary-hook-51c7-do-not-show";

#[test]
fn class_23_a_secret_is_used_masked_and_never_stored_in_the_clear() {
    let place = Place::new();
    let cluster = Cluster::start(&place);
    let remote = Remote::new(&place, "model");
    let text = format!(
        r#"stages:
  use:
    image: "{IMAGE}"
    secrets: [DSN]
    run: |
      test ${{#DSN}} -eq {}
      echo "it is $DSN"
      printf %s "${{DSN%????????}}"; sleep 0.3; printf '%s\n' "${{DSN#???????????????}}"
      printf %s "$DSN" | base64
  other: {{image: "{IMAGE}", run: 'test -z "${{DSN-}}"'}}
"#,
        SECRET.len()
    );
    remote.push("main", &[("dags/dag.yaml", &text)]);
    let configuration = format!(
        "database_url = {:?}\nallow_file_urls = true\n[log]\nlevel = \"trace,bollard=trace\"\n",
        cluster.url("trainyard")
    );
    let daemon = Daemon::production(&place, &configuration);
    let add = [
        "repo",
        "add",
        "model",
        &remote.url(),
        "--webhook-secret",
        "-",
    ];
    let _ = daemon.cli_with_input(&add, HOOK).good();
    let token = daemon.cli(&["token", "create", "ci"]).good().stdout;
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon
        .cli_with_input(&["secret", "set", "DSN", "--repo", "model"], SECRET)
        .good();
    let id = daemon.json(&["dag", "trigger", "dag"])["id"]
        .as_i64()
        .unwrap();
    let run = daemon.finished_run(id, BOUND);
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    assert_eq!(run["state"], "succeeded", "{run}\n{log}");
    assert!(log.contains("it is ***"), "{log}");
    let names = daemon
        .cli(&["secret", "list", "--output", "json"])
        .good()
        .stdout;
    assert!(names.contains("DSN"), "{names}");

    let events = daemon
        .cli(&["run", "show", &id.to_string(), "--output", "json"])
        .good()
        .stdout;
    let dump = cluster.dump("trainyard");
    for (what, text) in [
        ("the log", &log),
        ("the list of secrets", &names),
        ("the run", &events),
        ("the daemon's own output", &daemon.output()),
        ("a dump of the database", &dump),
    ] {
        assert!(!text.contains(SECRET), "{what} shows the secret");
        assert!(
            !text.contains("Y2FuYXJ5LTRmOWEtZG8tbm90LXNob3c"),
            "{what} shows it in base64"
        );
        for other in [HOOK, token.trim(), daemon.token()] {
            assert!(!text.contains(other), "{what} shows {other}");
        }
    }
}

#[test]
fn class_09_a_branch_that_anybody_may_push_gets_no_secret() {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    let stage = |on: &str| {
        format!(
            "triggers: {{push: {{branches: [{on:?}]}}}}\nstages:\n  use:\n    image: \"{IMAGE}\"\n    secrets: [DSN]\n    retry:              {{attempts: 2}}\n    run: echo \"${{#DSN}} bytes\"\n"
        )
    };
    remote.push("main", &[("dags/good.yaml", &stage("main"))]);
    let daemon = Daemon::dev(&place, &[]);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let set = ["secret", "set", "DSN", "--repo", "model"];
    let _ = daemon.cli_with_input(&set, SECRET).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    remote.push("intern/feature", &[("dags/evil.yaml", &stage("intern/**"))]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();

    let evil = daemon.runs(1, BOUND).into_iter().max().unwrap();
    let run = daemon.finished_run(evil, BOUND);
    assert_eq!(run["branch"], "intern/feature", "{run}");
    assert_eq!(run["state"], "errored", "{run}");
    let reported = run.to_string();
    assert!(
        reported.contains("secret DSN is not available on branch intern/feature (allowed: main)"),
        "{reported}"
    );
    let log = daemon
        .cli(&["run", "logs", &evil.to_string()])
        .good()
        .stdout;
    assert!(!log.contains("bytes"), "{log}");

    // Nor by hand: the branch decides, not who asks.
    let good = daemon.json(&["dag", "trigger", "good"])["id"]
        .as_i64()
        .unwrap();
    assert_eq!(daemon.finished_run(good, BOUND)["state"], "succeeded");
    let by_hand = daemon.json(&["dag", "trigger", "good", "--ref", "intern/feature"])["id"]
        .as_i64()
        .unwrap();
    assert_eq!(daemon.finished_run(by_hand, BOUND)["state"], "errored");

    // With a pattern it gets it; a retry of the run, too.
    let more = [&set[..], &["--branch", "main", "--branch", "intern/*"]].concat();
    let _ = daemon.cli_with_input(&more, SECRET).good();
    let again = daemon.json(&["run", "retry", &evil.to_string()])["id"]
        .as_i64()
        .unwrap();
    assert_eq!(daemon.finished_run(again, BOUND)["state"], "succeeded");
}
