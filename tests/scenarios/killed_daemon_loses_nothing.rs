//! A daemon that is killed while stages run loses nothing: containers go on, the next daemon adopts them,
//! nothing runs twice, and no line of log is missing.

use chrono::{DateTime, Utc};
use serde_json::Value;
use trainyard_tests::daemon::stage;
use trainyard_tests::engine::docker;
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::until_true;
use trainyard_tests::witness::Witness;

/// A run of three stages that have started.
fn start() -> (Scene, i64) {
    let scene = Scene::plan().alone().dag("count").begin();
    let run = scene.trigger("dag", &[]);
    until_true("the start of three stages", BOUND, || {
        ["a", "b", "c"]
            .iter()
            .all(|name| scene.witness().count(&format!("start-{name}-1")) == 1)
    });
    (scene, run)
}

fn check(scene: &Scene, run: i64) {
    let (daemon, witness) = (&scene.daemon, scene.witness());
    let ended = scene.finished(run);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    for name in ["a", "b", "c", "after"] {
        assert_eq!(
            witness.count(&format!("start-{name}-1")),
            1,
            "{name} ran once"
        );
        assert_eq!(
            stage(&ended, name)["attempts"].as_array().unwrap().len(),
            1,
            "{ended}"
        );
    }
    for name in ["a", "b", "c"] {
        let reported = format!("lines-{name}-");
        let all = witness.all();
        let (reported, _) = all
            .iter()
            .find(|(saying, _)| saying.starts_with(&reported))
            .unwrap();
        let count: usize = reported.rsplit('-').next().unwrap().parse().unwrap();
        let log = daemon
            .cli(&["run", "logs", &run.to_string(), name])
            .good()
            .stdout;
        let kept: Vec<&str> = log
            .lines()
            .filter_map(|line| line.find("line ").map(|at| &line[at..]))
            .collect();
        let wanted: Vec<String> = (1..=count).map(|n| format!("line {n} of {name}")).collect();
        assert_eq!(kept, wanted, "every line once and in order");
    }
}

#[test]
fn stages_are_adopted_after_sigkill() {
    let (mut scene, run) = start();
    scene.restart();
    scene.witness().open("go");
    check(&scene, run);
}

#[test]
fn stages_that_end_while_no_daemon_runs_are_collected() {
    let (mut scene, run) = start();
    let (_, info) = scene
        .daemon
        .get("/api/v1/daemon", Some(scene.daemon.token()));
    let info: Value = serde_json::from_str(&info).unwrap();
    let instance = info["instance"].as_str().unwrap();
    scene.restart_after(|scene| {
        scene.witness().open("go");
        until_true("the end of three stages", BOUND, || {
            has_ended(scene.witness())
        });
        let running = format!("label=io.trainyard.instance={instance}");
        until_true("the end of three containers", BOUND, || {
            docker(&["ps", "-q", "--filter", &running]).is_empty()
        });
    });
    check(&scene, run);
    let daemons = scene.daemon.json(&["daemon", "list"]);
    let next = daemons["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["started_at"].as_str()?.parse::<DateTime<Utc>>().ok())
        .max()
        .unwrap();
    let ended = scene.finished(run);
    for name in ["a", "b", "c"] {
        let at = stage(&ended, name)["finished_at"].as_str().unwrap();
        let at: DateTime<Utc> = at.parse().unwrap();
        assert!(
            at < next,
            "{name} ended at {at}, before the next daemon's start at {next}"
        );
    }
}

/// Whether each of the three stages reported how many lines it printed.
fn has_ended(witness: &Witness) -> bool {
    let all = witness.all();
    ["a", "b", "c"].iter().all(|name| {
        all.keys()
            .any(|saying| saying.starts_with(&format!("lines-{name}-")))
    })
}

#[test]
fn stopping_the_daemon_leaves_stages_running_for_the_next_one() {
    let (mut scene, run) = start();
    assert_eq!(scene.restart_in_order(), Some(0));
    scene.witness().open("go");
    check(&scene, run);
}

#[test]
fn a_running_stage_needs_neither_its_remote_nor_its_inputs() {
    const SECRET: &str = "correct-horse-battery";
    let mut scene = Scene::plan().alone().dag("needs_it_all").begin();
    let set = ["secret", "set", "KEY", "--repo", "model"];
    let _ = scene.daemon.cli_with_input(&set, SECRET).good();
    let run = scene.trigger("dag", &[]);
    until_true("the start of what needs it all", BOUND, || {
        scene.witness().count("start-1") == 1
    });
    let remove = ["secret", "remove", "KEY", "--repo", "model"];
    let _ = scene.daemon.cli(&remove).good();
    // As for a daemon on another machine that adopts it, while the remote is out of reach.
    scene.restart_after(|scene| {
        for gone in ["mirrors", "sources", "artifacts"] {
            std::fs::remove_dir_all(scene.daemon.data().join(gone)).unwrap();
        }
        std::fs::remove_dir_all(scene.place.join("model.git")).unwrap();
    });
    until_true("the stage in the next daemon's hands", BOUND, || {
        scene.daemon.figure("trainyard_attempts_adopted_total") == 1.0
    });
    scene.witness().open("go");
    let ended = scene.finished(run);
    assert_eq!(ended["state"], "succeeded", "{ended}");
    let attempts = &stage(&ended, "train")["attempts"];
    assert_eq!(attempts.as_array().unwrap().len(), 1, "{ended}");
    let log = scene.log(&ended);
    assert!(log.contains("***") && !log.contains(SECRET), "{log}");
}
