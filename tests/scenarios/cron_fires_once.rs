//! A schedule ticks once a tick, by itself.

use std::collections::BTreeSet;

use trainyard_tests::daemon::items;
use trainyard_tests::scene::Scene;

#[test]
fn a_tick_starts_one_run_also_when_the_daemon_restarts_at_it() {
    let mut scene = Scene::of("every_minute");
    let next = scene.daemon.json(&["dag", "next", "dag", "--count", "2"]);
    assert_eq!(items(&next).len(), 2, "{next}");

    // A tick comes within a minute.
    let first = scene.first_run();
    scene.restart();
    let _ = scene.daemon.cli(&["dag", "pause", "dag"]).good();
    let run = scene.finished(first);
    assert_eq!(run["cause"]["kind"], "schedule", "{run}");

    let listing = scene.daemon.json(&["run", "list"]);
    let runs = items(&listing);
    let ticks: BTreeSet<&str> = runs
        .iter()
        .map(|run| run["logical_time"].as_str().unwrap())
        .collect();
    assert_eq!(ticks.len(), runs.len(), "a tick has one run: {listing}");
    assert!(ticks.iter().all(|tick| tick.ends_with(":00Z")), "{ticks:?}");
}
