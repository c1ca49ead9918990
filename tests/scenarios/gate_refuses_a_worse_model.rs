//! Metrics go into history, and a gate that does not hold keeps downstream stages from running.

use trainyard_tests::daemon::{items, stage};
use trainyard_tests::scene::Scene;

#[test]
fn the_refusal_names_the_number_and_the_bound() {
    let scene = Scene::of("release");
    let good = scene.run("dag", &[]);
    assert_eq!(good["state"], "succeeded", "{good}");
    assert_eq!(stage(&good, "evaluate")["metrics"]["auc"], 0.9, "{good}");

    let worse = scene.run("dag", &["-p", "auc=0.71"]);
    assert_eq!(worse["state"], "failed", "{worse}");
    let evaluate = stage(&worse, "evaluate");
    assert_eq!(evaluate["reason"]["code"], "gate_refused", "{worse}");
    assert_eq!(
        evaluate["reason"]["message"],
        "gate refused: auc = 0.71 is below the minimum 0.85"
    );
    assert_eq!(stage(&worse, "release")["state"], "skipped", "{worse}");

    let metrics = scene.daemon.json(&["metric", "list", "--dag", "dag"]);
    assert_eq!(items(&metrics).len(), 2, "both are in history: {metrics}");
}

#[test]
fn a_metrics_file_that_is_no_object_of_numbers_fails_its_stage() {
    let scene = Scene::of("metric_in_words");
    let run = scene.run("dag", &[]);
    let reason = &stage(&run, "evaluate")["reason"];
    assert_eq!(reason["code"], "invalid_metrics", "{run}");
    assert!(
        reason["message"].as_str().unwrap().contains("`auc`"),
        "{run}"
    );
}
