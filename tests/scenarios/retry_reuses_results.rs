//! Stages are retried by their rule; a run that is retried from its failure reuses the results before it.

use trainyard_tests::daemon::stage;
use trainyard_tests::scene::{Scene, dag_file};

#[test]
fn a_stage_that_fails_at_first_succeeds_by_its_retry_rule() {
    let scene = Scene::of("flaky");
    let run = scene.run("dag", &[]);
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(
        stage(&run, "flaky")["attempts"].as_array().unwrap().len(),
        3,
        "{run}"
    );
}

#[test]
fn retrying_from_the_failed_stage_reuses_the_stages_that_succeeded() {
    let scene = Scene::of("retried");
    let witness = scene.witness();
    let first = scene.run("dag", &[]);
    assert_eq!(first["state"], "failed", "{first}");
    let id = first["id"].as_i64().unwrap();
    let second = scene.finished(scene.retry(id, &["--from-failed"]));
    assert_eq!(
        second["state"],
        "succeeded",
        "{second}\n{}",
        scene.log(&second)
    );
    assert_eq!(
        stage(&second, "make")["reused_from"],
        first["id"],
        "{second}"
    );
    assert_eq!((witness.count("make"), witness.count("check")), (1, 2));

    let _ = scene.finished(scene.retry(id, &["--from", "make"]));
    assert_eq!(witness.count("make"), 2);
}

#[test]
fn a_run_is_resumed_with_the_fixed_code_and_names_the_reused_stages() {
    let scene = Scene::of("broken");
    let witness = scene.witness();
    let first = scene.run("dag", &[]);
    assert_eq!(first["state"], "failed", "{first}");
    let id = first["id"].to_string();

    let text =
        dag_file("broken").replace("grep lost $INPUTS/x", "grep kept $INPUTS/x; test -e fixed");
    let head = scene.update(&[("dags/dag.yaml", &text), ("fixed", "")]);
    let old = scene.daemon.json(&["run", "retry", &id, "--from-failed"]);
    let notes = old["notes"].to_string();
    assert!(
        notes.contains(&format!("branch main is at {} now", &head[..10]))
            && notes.contains(&format!("`trainyard run retry {id} --latest`")),
        "{old}"
    );

    let resumed = scene.daemon.json(&["run", "retry", &id, "--latest"]);
    let notes = resumed["notes"].to_string();
    let reused = format!("reused from run {id}: make; to run again: check");
    assert!(notes.contains(&reused), "{resumed}");
    let not_counted = "the changed files dags/dag.yaml, fixed do not count for them";
    assert!(notes.contains(not_counted), "{resumed}");
    let run = resumed["id"].as_i64().unwrap();
    let run = scene.finished(run);
    assert_eq!(run["state"], "succeeded", "{run}\n{}", scene.log(&run));
    assert_eq!(run["commit"].as_str(), Some(head.as_str()));
    assert_eq!(stage(&run, "make")["reused_from"], first["id"], "{run}");
    assert_eq!(witness.count("make"), 1);
    let cause = run["cause"]["summary"].as_str().unwrap();
    assert!(
        cause.starts_with(&format!("run {id} resumed at main")),
        "{cause}"
    );
}
