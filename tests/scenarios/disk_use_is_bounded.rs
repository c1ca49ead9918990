//! The disk space of a repo is bounded: its source trees, the writes of its stages, and their outputs and logs.

use std::path::Path;

use trainyard_tests::daemon::{Daemon, items, stage};
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::remote::Remote;
use trainyard_tests::scene::BOUND;
use trainyard_tests::wait::{until, until_true};
use trainyard_tests::witness::Witness;

/// A daemon that follows a repo with this file.
fn follow(place: &Place, dag: &str, more: &[&str]) -> (Daemon, Remote) {
    let remote = Remote::new(place, "model");
    remote.push("main", &[("dags/dag.yaml", dag)]);
    let daemon = Daemon::dev(place, more);
    let _ = daemon.cli(&["repo", "add", "model", &remote.url()]).good();
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    (daemon, remote)
}

fn trigger(daemon: &Daemon) -> i64 {
    let run = daemon.json(&["dag", "trigger", "dag"]);
    run["id"].as_i64().unwrap()
}

fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .collect()
}

#[test]
fn class_12_a_source_tree_of_zeros_is_kept_once_and_small_and_only_while_a_stage_needs_it() {
    let (place, witness) = (Place::new(), Witness::new());
    let dag = format!(
        "env: {{WITNESS: \"{}\"}}\nstages:\n  s: {{image: \"{IMAGE}\", run: 'test $(wc -c < zeros) = 67108864; \
         wget -q -O- \"$WITNESS/start\"; wget -q -O- \"$WITNESS/gate/go\"'}}\n",
        witness.address()
    );
    let (daemon, remote) = follow(&place, &dag, &[]);
    remote.push("main", &[("zeros", &"\0".repeat(64 << 20))]);
    let _ = daemon.cli(&["repo", "sync", "model"]).good();
    let mut runs = vec![trigger(&daemon)];
    for _ in 0..2 {
        // Of the same tree.
        remote.push("main", &[]);
        let _ = daemon.cli(&["repo", "sync", "model"]).good();
        runs.push(trigger(&daemon));
    }
    until_true("the start of all", BOUND, || witness.count("start") == 3);
    let sources = daemon.data().join("sources");
    let kept = sizes(&sources);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0] < 1 << 20, "{kept:?}");
    witness.open("go");
    for run in runs {
        assert_eq!(daemon.finished_run(run, BOUND)["state"], "succeeded");
    }
    until("an empty folder of sources", BOUND, || {
        let kept = sizes(&sources);
        if kept.is_empty() {
            Ok(())
        } else {
            Err(format!("{kept:?}"))
        }
    });
}

#[test]
fn class_12_a_stage_that_fills_the_disk_is_stopped_and_says_why() {
    let place = Place::new();
    let dag = format!(
        "stages:\n  s: {{image: \"{IMAGE}\", checkout: false, run: 'trap \"\" TERM; \
         dd if=/dev/zero of=/fill bs=1M count=60; while :; do sleep 1; done'}}\n"
    );
    let (daemon, _remote) = follow(
        &place,
        &dag,
        &["--limits-layer", "20MiB", "--stage-grace", "1s"],
    );
    let ended = daemon.finished_run(trigger(&daemon), BOUND);
    assert_eq!(ended["state"], "failed", "{ended}");
    let reported = stage(&ended, "s").to_string();
    assert!(reported.contains("limits.layer"), "{reported}");
}

#[test]
fn class_12_outputs_that_are_too_large_together_are_kept_as_far_as_they_fit() {
    let place = Place::new();
    let dag = format!(
        "stages:\n  s: {{image: \"{IMAGE}\", checkout: false, outputs: {{a: a, b: b, c: c}}, \
         run: 'for o in a b c; do truncate -s 700K \"$OUTPUTS/$o\"; echo $o >> \"$OUTPUTS/$o\"; done'}}\n"
    );
    let (daemon, _remote) = follow(&place, &dag, &["--limits-artifacts-of-a-run", "1MiB"]);
    let ended = daemon.finished_run(trigger(&daemon), BOUND);
    assert_eq!(ended["state"], "failed", "{ended}");
    let stage = stage(&ended, "s");
    let reported = stage.to_string();
    assert!(reported.contains("limits.artifacts_of_a_run"), "{reported}");
    let listed = items(&stage["artifacts"]);
    let kept: Vec<_> = listed.iter().map(|one| one["output"].as_str()).collect();
    assert_eq!(kept, [Some("a")], "{reported}");
    let artifacts = daemon.data().join("artifacts");
    let folders: Vec<_> = std::fs::read_dir(&artifacts)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != "incoming")
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
}
