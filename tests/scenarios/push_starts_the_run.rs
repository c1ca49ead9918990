//! A push starts the runs whose triggers match, at the pushed commit, told by webhook or found by
//! polling.

use std::time::Duration;

use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::webhook::Delivery;

const BOUND: Duration = Duration::from_secs(600);
const SECRET: &str = "a-webhook-secret-of-32-characters";

fn dag(triggers: &str, text: &str) -> String {
    format!("triggers: {{{triggers}}}\nstages: {{say: {{image: \"{IMAGE}\", run: echo {text}}}}}\n")
}

/// A daemon that follows a remote with one commit, and knows that commit.
fn following(place: &Place, more: &[&str], files: &[(&str, &str)]) -> (Daemon, Remote, String) {
    let remote = Remote::new(place, "model");
    let first = remote.push("main", files);
    let daemon = Daemon::dev(place, more);
    let added = [
        "repo",
        "add",
        "model",
        &remote.url(),
        "--webhook-secret",
        "-",
    ];
    let _ = daemon.cli_with_input(&added, SECRET).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    (daemon, remote, first)
}

#[test]
fn a_signed_webhook_starts_the_run_at_the_pushed_commit() {
    let place = Place::new();
    let file = "dags/say.yaml";
    let old = dag("push: {branches: [main]}", "old");
    let (daemon, remote, before) = following(&place, &["--poll-every", "1h"], &[(file, &old)]);
    assert_eq!(
        daemon.run_ids(),
        [0; 0],
        "taking stock of a repo starts nothing"
    );

    let after = remote.push("main", &[(file, &dag("push: {branches: [main]}", "new"))]);
    let delivery = Delivery::of_push(SECRET, "d-1", "main", &before, &after);
    assert_eq!(delivery.send(daemon.url(), "model") / 100, 2);

    let id = daemon.runs(1, BOUND)[0];
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["commit"], after.as_str());
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good();
    assert!(
        log.stdout.contains("new"),
        "the file is read at the pushed commit: {log:#?}"
    );
}

#[test]
fn a_push_without_a_webhook_is_found_by_polling() {
    let place = Place::new();
    let text = dag("push: {}", "hi");
    let (daemon, remote, _) =
        following(&place, &["--poll-every", "1s"], &[("dags/say.yaml", &text)]);
    let after = remote.push("main", &[("README.md", "more")]);
    let id = daemon.runs(1, BOUND)[0];
    assert_eq!(daemon.finished_run(id, BOUND)["commit"], after.as_str());
}

#[test]
fn branch_and_path_filters_decide_what_runs() {
    let place = Place::new();
    let files = [
        (
            "dags/source.yaml",
            dag("push: {branches: [main], paths: [\"src/**\"]}", "source"),
        ),
        (
            "dags/release.yaml",
            dag("push: {branches: [\"release/*\"]}", "release"),
        ),
    ];
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let (daemon, remote, _) = following(&place, &["--poll-every", "1h"], &files);

    remote.push("main", &[("README.md", "no source")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    remote.push("main", &[("src/train.py", "pass")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    remote.push("release/1", &[("src/train.py", "pass # 1")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();

    let ids = daemon.runs(2, BOUND);
    let dags: Vec<String> = ids
        .iter()
        .map(|id| {
            daemon.finished_run(*id, BOUND)["dag"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(dags, ["model/source", "model/release"]);
}

#[test]
fn the_source_tree_of_the_commit_is_the_working_directory() {
    let place = Place::new();
    let text = format!(
        "triggers: {{push: {{}}}}\nstages:\n  look:\n    image: \"{IMAGE}\"\n    run: |\n      cat data.txt\n      pwd\n      echo changed > data.txt\n"
    );
    let (daemon, remote, _) = following(&place, &[], &[("dags/look.yaml", &text)]);
    remote.push("main", &[("data.txt", "from the commit\n")]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let id = daemon.runs(1, BOUND)[0];
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(stage(&run, "look")["state"], "succeeded", "{run}");
    let log = daemon.cli(&["run", "logs", &id.to_string()]).good().stdout;
    assert!(
        log.contains("from the commit") && log.contains("/workspace"),
        "{log}"
    );
}
