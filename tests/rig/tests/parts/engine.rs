//! The private Docker engine: it can be broken in every way, and other tests are not affected.

use std::time::Duration;

use trainyard_rig::engine::{EngineOptions, Killed, PrivateEngine, surroundings};
use trainyard_rig::witness::Witness;
use trainyard_tests::engine::IMAGE;
use trainyard_tests::place::Place;
use trainyard_tests::wait::until_true;

const BOUND: Duration = Duration::from_secs(300);

fn state(engine: &PrivateEngine, container: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.State.Status}}", container])
}

/// A container that runs for longer than the test.
fn running(engine: &PrivateEngine) -> String {
    engine.docker(&["run", "-d", "--init", IMAGE, "sleep", "600"])
}

#[test]
fn the_machine_s_own_engine_and_network_are_as_they_were() {
    let before = surroundings();
    let mut engine = PrivateEngine::start(EngineOptions::default());
    running(&engine);
    assert_eq!(surroundings(), before, "while it runs");
    engine.kill(Killed::Everything);
    engine.up();
    engine.stop();
    drop(engine);
    assert_eq!(surroundings(), before, "after it");
}

#[test]
fn containers_reach_the_witness() {
    let engine = PrivateEngine::start(EngineOptions::default());
    let place = Place::new();
    let witness = Witness::new(&place, engine.gateway());
    let script = witness.script("true");
    let variables = [
        "TRAINYARD_RUN_ID=1",
        "TRAINYARD_STAGE=s",
        "TRAINYARD_ATTEMPT=1",
    ];
    let mut arguments = vec!["run", "--rm"];
    for variable in &variables {
        arguments.extend(["-e", variable]);
    }
    arguments.extend([IMAGE, "sh", "-eu", "-c", &script]);
    engine.docker(&arguments);
    witness.assert_each_ran_once(["1.s.1"]);
    assert_eq!(witness.missing(["1.s.2"]), ["1.s.2"]);
    engine.docker(&arguments);
    assert_eq!(witness.duplicates(), ["1.s.1"]);
}

#[test]
fn containers_outlive_a_killed_engine_only_with_live_restore() {
    for live_restore in [false, true] {
        let mut engine = PrivateEngine::start(EngineOptions {
            live_restore,
            ..EngineOptions::default()
        });
        let container = running(&engine);
        engine.kill(Killed::Dockerd);
        assert!(!engine.is_up());
        engine.up();
        let expected = if live_restore { "running" } else { "exited" };
        assert_eq!(
            state(&engine, &container),
            expected,
            "live-restore {live_restore}"
        );
    }
}

#[test]
fn a_power_cut_takes_containers_along() {
    let mut engine = PrivateEngine::start(EngineOptions {
        live_restore: true,
        ..EngineOptions::default()
    });
    let container = running(&engine);
    engine.kill(Killed::Everything);
    engine.up();
    until_true("the end of the container", BOUND, || {
        state(&engine, &container) == "exited"
    });
}

#[test]
fn a_frozen_engine_answers_once_it_goes_on() {
    let engine = PrivateEngine::start(EngineOptions::default());
    engine.freeze();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| engine.docker(&["version"]));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!asking.is_finished());
        engine.thaw();
        asking.join().unwrap();
    });
}

#[test]
fn a_disk_of_its_own_can_be_filled() {
    let engine = PrivateEngine::start(EngineOptions {
        disk: Some(256 << 20),
        ..EngineOptions::default()
    });
    let filling = engine.disk().unwrap().fill();
    let write = [
        "run",
        "--rm",
        IMAGE,
        "dd",
        "if=/dev/zero",
        "of=/x",
        "bs=1M",
        "count=8",
    ];
    let full = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.docker(&write)));
    assert!(full.is_err());
    std::fs::remove_file(filling).unwrap();
    engine.docker(&write);
}
