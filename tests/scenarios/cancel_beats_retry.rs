//! A cancelled run tries nothing again, and stops what runs.

use std::time::Duration;

use trainyard_tests::daemon::{Daemon, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::wait::{until, until_true};
use trainyard_tests::witness::Witness;

const BOUND: Duration = Duration::from_secs(600);

fn triggered(place: &Place, text: &str) -> (Daemon, i64) {
    let remote = Remote::new(place, "model");
    remote.push("main", &[("dags/try.yaml", text)]);
    let daemon = Daemon::dev(place, &[]);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let _ = daemon.cli(&["dag", "trigger", "try"]).good();
    let run = daemon.runs(1, BOUND)[0];
    (daemon, run)
}

#[test]
fn a_stage_that_waits_for_its_next_attempt_gets_none() {
    let place = Place::new();
    let text = format!(
        "stages: {{fail: {{image: \"{IMAGE}\", run: exit 3, retry: {{attempts: 5, backoff: 1h, max: 1h, on: [failed]}}}}}}\n"
    );
    let (daemon, id) = triggered(&place, &text);
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
    let run = daemon.finished_run(id, BOUND);
    assert_eq!(run["state"], "cancelled", "{run}");
    assert_eq!(
        stage(&run, "fail")["attempts"].as_array().unwrap().len(),
        1,
        "{run}"
    );
}

#[test]
fn a_repo_whose_runs_have_not_ended_says_how_to_cancel_them_and_goes_then() {
    let place = Place::new();
    let text = format!(
        "concurrency: {{limit: 1}}\nstages: {{work: {{image: \"{IMAGE}\", run: exec sleep 3600}}}}\n"
    );
    let (daemon, first) = triggered(&place, &text);
    for _ in 0..4 {
        let _ = daemon.cli(&["dag", "trigger", "try"]).good();
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
        let run = daemon.finished_run(run, BOUND);
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
    let (place, witness) = (Place::new(), Witness::new());
    let text = format!(
        r#"env: {{WITNESS: "{}"}}
stages:
  work:
    image: "{IMAGE}"
    run: wget -q -O- "$WITNESS/started"; exec sleep 3600
    retry: {{attempts: 5, backoff: 1s, on: [failed, errored]}}
  next: {{needs: [work], image: "{IMAGE}", run: wget -q -O- "$WITNESS/next"}}
  cleanup: {{needs: [work], run_on: [always], image: "{IMAGE}", run: wget -q -O- "$WITNESS/cleanup"}}
"#,
        witness.address()
    );
    let (daemon, id) = triggered(&place, &text);
    until_true("the start of the stage", BOUND, || {
        witness.count("started") == 1
    });
    let _ = daemon.cli(&["run", "cancel", &id.to_string()]).good();
    let run = daemon.finished_run(id, BOUND);
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
