//! Stages are retried by their rule; a run retried from where it failed takes over what stands.

use trainyard_tests::daemon::stage;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::witness::Witness;

#[test]
fn a_stage_that_fails_at_first_succeeds_by_its_retry_rule() {
    let scene = Scene::with_dag(&format!(
        "stages: {{flaky: {{image: \"{IMAGE}\", run: 'test \"$TRAINYARD_ATTEMPT\" -eq 3', retry: {{attempts: 3, backoff: 10ms}}}}}}\n"
    ));
    let run = scene.run("dag", &[]);
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(
        stage(&run, "flaky")["attempts"].as_array().unwrap().len(),
        3,
        "{run}"
    );
}

#[test]
fn retrying_from_the_failed_stage_does_not_run_what_succeeded_again() {
    let witness = Witness::new();
    let scene = Scene::with_dag(&format!(
        r#"env: {{WITNESS: "{}"}}
stages:
  make:
    image: "{IMAGE}"
    run: |
      wget -q -O- "$WITNESS/make"
      echo kept > "$OUTPUTS/x"
    outputs: {{x: x}}
  check:
    needs: [make]
    image: "{IMAGE}"
    inputs: {{x: make.x}}
    run: |
      grep kept "$INPUTS/x"
      wget -q -O- "$WITNESS/check"
      test "$TRAINYARD_CAUSE" = retry
"#,
        witness.address()
    ));
    let first = scene.run("dag", &[]);
    assert_eq!(first["state"], "failed", "{first}");
    let id = first["id"].to_string();
    let again = scene.daemon.json(&["run", "retry", &id, "--from-failed"]);
    let second = scene
        .daemon
        .finished_run(again["id"].as_i64().unwrap(), BOUND);
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

    let third = scene.daemon.json(&["run", "retry", &id, "--from", "make"]);
    let _ = scene
        .daemon
        .finished_run(third["id"].as_i64().unwrap(), BOUND);
    assert_eq!(witness.count("make"), 2);
}
