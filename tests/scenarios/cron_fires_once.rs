//! A schedule ticks once a tick, by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use trainyard_tests::daemon::{Daemon, items};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;

/// A tick comes within a minute; the run takes a little longer.
const BOUND: Duration = Duration::from_secs(600);

#[test]
fn a_tick_starts_one_run_also_when_the_daemon_restarts_at_it() {
    let place = Place::new();
    let remote = Remote::new(&place, "model");
    let text = format!(
        "triggers: {{schedule: [{{cron: \"* * * * *\", timezone: Europe/Berlin}}]}}\nstages: {{say: {{image: \"{IMAGE}\", run: echo \"$TRAINYARD_LOGICAL_TIME\"}}}}\n"
    );
    remote.push("main", &[("dags/tick.yaml", &text)]);
    let daemon = Daemon::dev(&place, &[]);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let next = daemon.json(&["dag", "next", "tick", "--count", "2"]);
    assert_eq!(items(&next).len(), 2, "{next}");

    let first = daemon.runs(1, BOUND)[0];
    daemon.kill();
    let daemon = Daemon::dev(&place, &[]);
    let _ = daemon.cli(&["dag", "pause", "tick"]).good();
    let run = daemon.finished_run(first, BOUND);
    assert_eq!(run["cause"]["kind"], "schedule", "{run}");

    let listing = daemon.json(&["run", "list"]);
    let runs = items(&listing);
    let ticks: BTreeSet<&str> = runs
        .iter()
        .map(|run| run["logical_time"].as_str().unwrap())
        .collect();
    assert_eq!(ticks.len(), runs.len(), "a tick has one run: {listing}");
    assert!(ticks.iter().all(|tick| tick.ends_with(":00Z")), "{ticks:?}");
}
