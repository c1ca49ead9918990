//! A DAG file with faults is recorded and shown against its commit; the other files work on.

use trainyard_tests::scene::Scene;

#[test]
fn one_wrong_file_does_not_stop_the_others() {
    let good = "triggers: {push: {}}\nstages: {say: {image: alpine:3, run: echo hi}}\n";
    let scene = Scene::with(&[("dags/good.yaml", good)]);
    let wrong = "stages:\n  train:\n    image: x\n    depends_on: [extract]\n";
    let commit = scene.update(&[("dags/wrong.yaml", wrong)]);
    assert_eq!(scene.finished(scene.first_run())["state"], "succeeded");

    let shown = scene.daemon.cli(&["repo", "show", "model"]).good().stdout;
    assert!(shown.contains("dags/wrong.yaml:4:5"), "{shown}");
    assert!(
        shown.contains("needs"),
        "with the nearest right key: {shown}"
    );
    assert!(shown.contains(&commit[..7]), "{shown}");
}
