//! Faults are in the daemon's log, with the ids to search by.

use trainyard_tests::scene::Scene;

#[test]
fn a_lost_attempt_is_logged_with_its_own_ids_only() {
    let scene = Scene::plan()
        .options(&["--executor", "fake"])
        .dag("lost_at_last")
        .begin();
    let ended = scene.run("dag", &[]);
    assert_eq!(ended["state"], "lost", "{ended}");
    let log = scene.daemon.output();
    let reported: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("an attempt ended, but its program did not end it"))
        .collect();
    let [line] = reported.as_slice() else {
        panic!("logged {} times: {log}", reported.len());
    };
    for wanted in [
        &format!("run.id={}", ended["id"]),
        "stage=third",
        "attempt.id=",
        "lost",
    ] {
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    // A stage of a chain is claimed at the end of the one before, and is none of it.
    assert_eq!(line.matches("attempt{").count(), 1, "{line}");
}
