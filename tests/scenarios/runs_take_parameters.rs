//! Parameters are typed, bounded, and reach stages; `--ref` chooses the commit.

use trainyard_tests::scene::Scene;

#[test]
fn given_values_replace_defaults_and_never_reach_a_shell_as_code() {
    let scene = Scene::of("params");
    let run = scene.run(
        "dag",
        &[
            "-p",
            "epochs=3",
            "-p",
            "note=$(touch /tmp/x) `id` ; ${{ 1 }}",
        ],
    );
    let log = scene.log(&run);
    assert!(
        log.contains("epochs=3 note=$(touch /tmp/x) `id` ; ${{ 1 }}"),
        "{log}"
    );
}

#[test]
fn a_value_out_of_bounds_starts_nothing_and_says_why() {
    let scene = Scene::of("params");
    let refused = scene
        .daemon
        .cli(&["dag", "trigger", "dag", "-p", "epochs=0", "-p", "epoch=1"]);
    assert_ne!(refused.code, Some(0));
    assert!(
        refused.stderr.contains("must be at least 1"),
        "{refused:#?}"
    );
    assert!(
        refused.stderr.contains("`epoch`"),
        "all faults at once: {refused:#?}"
    );
    assert_eq!(scene.daemon.run_ids(), [0; 0]);
}

#[test]
fn a_reference_chooses_the_commit() {
    let scene = Scene::of("params");
    let old = scene.remote.head();
    let text = "stages: {show: {image: alpine:3, run: echo on a branch}}\n";
    scene.push("topic", &[("dags/dag.yaml", text)]);
    scene.sync();
    let run = scene.run("dag", &["--ref", "topic"]);
    assert!(scene.log(&run).contains("on a branch"));
    let run = scene.run("dag", &["--ref", &old[..10]]);
    assert_eq!(run["commit"], old.as_str());
    let unknown = scene
        .daemon
        .cli(&["dag", "trigger", "dag", "--ref", "nowhere"]);
    assert_eq!(unknown.code, Some(4), "{unknown:#?}");
    assert!(unknown.stderr.contains("nowhere"), "{unknown:#?}");
}
