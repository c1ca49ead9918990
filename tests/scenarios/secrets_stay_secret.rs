//! Secrets reach the stages that name them, on branches that they belong to, and nothing else: not logs at any level,
//! not the API, not the database.

use trainyard_tests::scene::{BOUND, Scene, WEBHOOK_SECRET, dag_file};

const SECRET: &str = "canary-4f9a-do-not-show";

#[test]
fn class_23_a_secret_is_used_masked_and_never_stored_in_the_clear() {
    let scene = Scene::plan()
        .configuration("[log]\nlevel = \"trace,bollard=trace\"\n")
        .webhooks()
        .dag("secret")
        .begin();
    let daemon = &scene.daemon;
    let token = daemon.cli(&["token", "create", "ci"]).good().stdout;
    let _ = daemon
        .cli_with_input(&["secret", "set", "DSN", "--repo", "model"], SECRET)
        .good();
    let run = scene.run("dag", &[]);
    let log = scene.log(&run);
    assert_eq!(run["state"], "succeeded", "{run}\n{log}");
    assert!(log.contains("it is ***"), "{log}");
    let names = daemon
        .cli(&["secret", "list", "--output", "json"])
        .good()
        .stdout;
    assert!(names.contains("DSN"), "{names}");

    let events = daemon
        .cli(&["run", "show", &run["id"].to_string(), "--output", "json"])
        .good()
        .stdout;
    let dump = scene.database.dump();
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
        for other in [WEBHOOK_SECRET, token.trim(), daemon.token()] {
            assert!(!text.contains(other), "{what} shows {other}");
        }
    }
}

#[test]
fn class_09_a_branch_that_anybody_may_push_gets_no_secret() {
    let on_main = dag_file("secret_on_main");
    let scene = Scene::with(&[("dags/good.yaml", &on_main)]);
    let daemon = &scene.daemon;
    let set = ["secret", "set", "DSN", "--repo", "model"];
    let _ = daemon.cli_with_input(&set, SECRET).good();
    let on_theirs = on_main.replace("\"main\"", "\"intern/**\"");
    scene.push("intern/feature", &[("dags/evil.yaml", &on_theirs)]);
    scene.sync();

    let evil = daemon.runs(1, BOUND).into_iter().max().unwrap();
    let run = scene.finished(evil);
    assert_eq!(run["branch"], "intern/feature", "{run}");
    assert_eq!(run["state"], "errored", "{run}");
    let reported = run.to_string();
    assert!(
        reported.contains("secret DSN is not available on branch intern/feature (allowed: main)"),
        "{reported}"
    );
    let log = scene.log(&run);
    assert!(!log.contains("bytes"), "{log}");

    // Nor by hand: the branch decides, not who asks.
    assert_eq!(scene.run("good", &[])["state"], "succeeded");
    let by_hand = scene.run("good", &["--ref", "intern/feature"]);
    assert_eq!(by_hand["state"], "errored");

    // With a pattern it gets it; a retry of the run, too.
    let more = [&set[..], &["--branch", "main", "--branch", "intern/*"]].concat();
    let _ = daemon.cli_with_input(&more, SECRET).good();
    assert_eq!(scene.finished(scene.retry(evil, &[]))["state"], "succeeded");
}
