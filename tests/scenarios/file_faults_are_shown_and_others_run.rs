//! A DAG file with faults is recorded and shown against its commit; the other files work on.

use trainyard_tests::engine::IMAGE;
use trainyard_tests::scene::{BOUND, Scene};

#[test]
fn one_wrong_file_does_not_stop_the_others() {
    let good = format!(
        "triggers: {{push: {{}}}}\nstages: {{say: {{image: \"{IMAGE}\", run: echo hi}}}}\n"
    );
    let scene = Scene::with(&[("dags/good.yaml", &good)]);
    let wrong = "stages:\n  train:\n    image: x\n    depends_on: [extract]\n";
    let commit = scene.remote.push("main", &[("dags/wrong.yaml", wrong)]);
    let _ = scene.daemon.cli(&["repo", "sync", "model"]).good();
    let id = scene.daemon.runs(1, BOUND)[0];
    assert_eq!(scene.daemon.finished_run(id, BOUND)["state"], "succeeded");

    let shown = scene.daemon.cli(&["repo", "show", "model"]).good().stdout;
    assert!(shown.contains("dags/wrong.yaml:4:5"), "{shown}");
    assert!(
        shown.contains("needs"),
        "with the nearest right key: {shown}"
    );
    assert!(shown.contains(&commit[..7]), "{shown}");
}
