//! A cancelled run tries nothing again, and stops what runs.

use trainyard_tests::daemon::stage;
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::{until, until_true};

#[test]
fn a_stage_that_waits_for_its_next_attempt_gets_none() {
    let scene = Scene::of("backing_off");
    let (daemon, id) = (&scene.daemon, scene.trigger("dag", &[]));
    until("the wait before the next attempt", BOUND, || {
        let run = daemon.json(&["run", "show", &id.to_string()]);
        if stage(&run, "fail")["state"] == "backing_off" {
            Ok(())
        } else {
            Err(run.to_string())
        }
    });
    let why = daemon.cli(&["run", "why", &id.to_string()]).good().stdout;
    assert!(why.contains("exit code 3"), "{why}");
    let _ = daemon.cli(&["run", "cancel", &id.to_string()]).good();
    let run = scene.finished(id);
    assert_eq!(run["state"], "cancelled", "{run}");
    assert_eq!(
        stage(&run, "fail")["attempts"].as_array().unwrap().len(),
        1,
        "{run}"
    );
}

#[test]
fn a_repo_whose_runs_have_not_ended_says_how_to_cancel_them_and_goes_then() {
    let scene = Scene::with_dag(
        "concurrency: {limit: 1}\nstages: {work: {image: alpine:3, run: exec sleep 3600}}\n",
    );
    let (daemon, first) = (&scene.daemon, scene.trigger("dag", &[]));
    for _ in 0..4 {
        let _ = scene.trigger("dag", &[]);
    }
    let refused = daemon.cli(&["repo", "remove", "model", "--yes"]);
    assert_eq!(refused.code, Some(3), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("5 runs of this repo have not ended")
            && refused
                .stderr
                .contains("`trainyard run cancel --repo model`"),
        "{refused:?}"
    );
    let cancelled = daemon.cli(&["run", "cancel", "--repo", "model"]).good();
    assert_eq!(cancelled.stdout, "cancelled 5 runs of model\n");
    for run in daemon.runs(5, BOUND) {
        let run = scene.finished(run);
        assert_eq!(run["state"], "cancelled", "{run}");
        // None that waited was started since the first made room.
        assert_eq!(run["started_at"].is_null(), run["id"] != first, "{run}");
    }
    let again = daemon.cli(&["run", "cancel", "--repo", "model"]).good();
    assert_eq!(again.stdout, "all runs of model have ended\n");
    let _ = daemon.cli(&["repo", "remove", "model", "--yes"]).good();
}

#[test]
fn a_running_stage_is_stopped_and_clean_up_still_runs() {
    let scene = Scene::of("clean_up");
    let (daemon, witness) = (&scene.daemon, scene.witness());
    let id = scene.trigger("dag", &[]);
    until_true("the start of the stage", BOUND, || {
        witness.count("started") == 1
    });
    let _ = daemon.cli(&["run", "cancel", &id.to_string()]).good();
    let run = scene.finished(id);
    assert_eq!(run["state"], "cancelled", "{run}");
    assert_eq!(stage(&run, "work")["state"], "cancelled", "{run}");
    assert_eq!(
        (
            witness.count("next"),
            witness.count("cleanup"),
            witness.count("started")
        ),
        (0, 1, 1)
    );
}
