//! Faults are in the daemon's log, with the ids to search by.

use trainyard_tests::daemon::Daemon;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;

/// The last stage of a chain is lost, once.
const CHAIN: &str = r#"stages:
  first: {image: x, checkout: false, run: "fake"}
  second: {needs: [first], image: x, checkout: false, run: "fake"}
  third: {needs: [second], image: x, checkout: false, retry: {lost: 0}, run: "fake\nlost"}
"#;

#[test]
fn a_lost_attempt_is_logged_with_its_own_ids_only() {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    remote.push("main", &[("dags/chain.yaml", CHAIN)]);
    let daemon = Daemon::dev(&place, &["--executor", "fake"]);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon.cli(&["dag", "trigger", "chain"]).good();
    let run = daemon.runs(1, BOUND)[0];
    let ended = daemon.finished_run(run, BOUND);
    assert_eq!(ended["state"], "lost", "{ended}");
    let log = daemon.output();
    let reported: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("an attempt ended, but its program did not end it"))
        .collect();
    let [line] = reported.as_slice() else {
        panic!("logged {} times: {log}", reported.len());
    };
    for wanted in [
        &format!("run.id={run}"),
        "stage=third",
        "attempt.id=",
        "lost",
    ] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    // A stage of a chain is claimed at the end of the one before, and is none of it.
    assert_eq!(line.matches("attempt{").count(), 1, "{line}");
}
