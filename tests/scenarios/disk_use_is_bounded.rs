//! The disk space of a repo is bounded: its source trees, the writes of its stages, and their outputs and logs.

use std::path::Path;

use trainyard_tests::daemon::{items, stage};
use trainyard_tests::scene::{BOUND, Scene};
use trainyard_tests::wait::{until, until_true};

fn sizes(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .collect()
}

#[test]
fn class_12_a_source_tree_of_zeros_is_kept_once_and_small_and_only_while_a_stage_needs_it() {
    let scene = Scene::of("zeros");
    scene.update(&[("zeros", &"\0".repeat(64 << 20))]);
    let mut runs = vec![scene.trigger("dag", &[])];
    for _ in 0..2 {
        // Of the same tree.
        scene.update(&[]);
        runs.push(scene.trigger("dag", &[]));
    }
    let witness = scene.witness();
    until_true("the start of all", BOUND, || witness.count("start") == 3);
    let sources = scene.daemon.data().join("sources");
    let kept = sizes(&sources);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0] < 1 << 20, "{kept:?}");
    witness.open("go");
    for run in runs {
        assert_eq!(scene.finished(run)["state"], "succeeded");
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
    let scene = Scene::plan()
        .options(&["--limits-layer", "20MiB", "--stage-grace", "1s"])
        .dag("fills_the_disk")
        .begin();
    let ended = scene.run("dag", &[]);
    assert_eq!(ended["state"], "failed", "{ended}");
    let reported = stage(&ended, "s").to_string();
    assert!(reported.contains("limits.layer"), "{reported}");
}

#[test]
fn class_12_outputs_that_are_too_large_together_are_kept_as_far_as_they_fit() {
    let scene = Scene::plan()
        .options(&["--limits-artifacts-of-a-run", "1MiB"])
        .dag("three_large_outputs")
        .begin();
    let ended = scene.run("dag", &[]);
    assert_eq!(ended["state"], "failed", "{ended}");
    let stage = stage(&ended, "s");
    let reported = stage.to_string();
    assert!(reported.contains("limits.artifacts_of_a_run"), "{reported}");
    let listed = items(&stage["artifacts"]);
    let kept: Vec<_> = listed.iter().map(|one| one["output"].as_str()).collect();
    assert_eq!(kept, [Some("a")], "{reported}");
    let artifacts = scene.daemon.data().join("artifacts");
    let folders: Vec<_> = std::fs::read_dir(&artifacts)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != "incoming")
        .collect();
    assert_eq!(folders.len(), 1, "{folders:?}");
}
